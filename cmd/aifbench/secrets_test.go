package main_test

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	runs "aifbench/pkg/services/run"
)

// standIn is a `vllm` command that serves by the built-in engine, and shows
// outside of every run that it was given its token.
const standIn = `#!/bin/sh
printf '%s' "$HF_TOKEN" > "$(dirname "$0")/arrived"
exec "$AIFBENCH_BIN" node sim vllm --port "$AIFBENCH_PORT" --key-file "$AIFBENCH_KEY_FILE" --model m --ttft 2ms --itl 1ms
`

// TestSecretsStayInTheirFiles: the run's key, the Hugging Face token and the
// user's own secrets are in no other file of any run, no argument of any
// process, no document, no log shown and no archive.
func TestSecretsStayInTheirFiles(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	arrived := filepath.Join(d.dir, "arrived")
	command := d.write("vllm", standIn, 0o700)
	const token = "hf_canaryTokenOfAUser0123456789"
	tokenFile := d.write("token", token+"\n", 0o600)
	d.set("HF_TOKEN", "hf_canaryOfTheEnvironment12345")
	d.set("OPENAI_API_KEY", "sk-canaryOfTheEnvironment12345")
	canaries := map[string]string{"token": token, "HF_TOKEN": "hf_canaryOfTheEnvironment12345", "OPENAI_API_KEY": "sk-canaryOfTheEnvironment12345", "userinfo": "canary-userinfo", "argument": "sk-canary-argument"}
	var talk bytes.Buffer
	keep := func(s said) said {
		talk.WriteString(s.out)
		talk.WriteString(s.err)
		return s
	}
	keep(d.must(2, "start", "vllm", "--model", "m", "--vllm-arg=--api-key=sk-canary-argument"))
	keep(d.must(2, "start", "vllm", "--model", "m", "--vllm-arg=--hf-token=sk-canary-argument", "-o", "json"))
	keep(d.must(2, "start", "vllm", "--model", "m", "--env=HF_TOKEN=sk-canary-argument", "-o", "json"))
	keep(d.must(2, "bench", "vllm", "--endpoint", "http://u:canary-userinfo@127.0.0.1:1"))
	keep(d.must(0, "start", "vllm", "--model", "m", "--vllm-command", command, "--hf-token-file", tokenFile, "--dry-run", "-o", "json"))
	started := only[labStart](t, keep(d.must(0, "start", "vllm", "--model", "m", "--vllm-command", command, "--hf-token-file", tokenFile, "--wait", "-o", "json")))
	run := d.opened(started.Run)
	if raw, err := os.ReadFile(arrived); err != nil || string(raw) != token {
		t.Fatalf("the engine was given the token %q: %v", raw, err)
	}
	bench := d.command("bench", "vllm", "--duration", "3s", "--output-len", "4", "-o", "json")
	var out, errs bytes.Buffer
	bench.Stdout, bench.Stderr = &out, &errs
	if err := bench.Start(); err != nil {
		t.Fatal(err)
	}
	d.until("the generator begins", func() bool { return d.measuring() })
	words := arguments(t)
	if err := bench.Wait(); err != nil && bench.ProcessState.ExitCode() != 7 {
		t.Fatalf("bench: %v\n%s", err, errs.String())
	}
	talk.Write(out.Bytes())
	talk.Write(errs.Bytes())
	benches := d.made("vllm-bench")
	if len(benches) != 1 {
		t.Fatalf("benches %v", benches)
	}
	for _, id := range []string{started.Run, benches[0]} {
		key, err := d.opened(id).Key()
		if err != nil || len(key) < 20 {
			t.Fatalf("key of %s: %v", id, err)
		}
		canaries["key of "+id] = key
	}
	for _, args := range [][]string{{"show", started.Run}, {"show", benches[0]}, {"check", "all"}, {"list"}, {"logs", started.Run, "--lines", "1000"}, {"logs", benches[0]}, {"metrics", "vllm", "--last", "1m"}} {
		keep(d.must(0, args...))
		keep(d.must(0, append(args, "-o", "json")...))
		keep(d.must(0, append(args, "-o", "csv")...))
	}
	keep(d.must(0, "report", benches[0], "page.html"))
	keep(d.must(0, "save", "vllm", "all.zip", "-o", "json"))
	files := map[string][]byte{"what was printed": talk.Bytes(), "arguments of processes": words}
	page, err := os.ReadFile(filepath.Join(d.dir, "page.html"))
	if err != nil {
		t.Fatal(err)
	}
	files["page.html"] = page
	members := unzipped(t, filepath.Join(d.dir, "all.zip"))
	if len(members) < 10 {
		t.Fatalf("%d members", len(members))
	}
	for name, text := range members {
		files["member "+name] = text
		if filepath.Base(name) == runs.KeyFile {
			t.Errorf("a key file is in the archive: %s", name)
		}
	}
	err = filepath.WalkDir(d.home, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || strings.HasPrefix(path, filepath.Join(d.home, "bin")+"/") {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: mode %o", path, info.Mode().Perm())
		}
		if e.Name() == runs.KeyFile {
			return nil
		}
		raw, err := os.ReadFile(path)
		files[path] = raw
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range files {
		for what, canary := range canaries {
			if bytes.Contains(text, []byte(canary)) {
				t.Errorf("%s: the secret %s is in it", where, what)
			}
		}
	}
	// The search finds what is there: the path of the run is in all of these.
	for _, where := range []string{"what was printed", "arguments of processes"} {
		if !bytes.Contains(files[where], []byte(run.ID())) {
			t.Errorf("%s holds nothing of the run: the search is blind", where)
		}
	}
	// A log that holds the key stops the archive: exit 10, and no file.
	if err := os.WriteFile(run.File(runs.LogsDir, "leak.out"), []byte("key is "+canaries["key of "+started.Run]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := d.must(10, "save", "vllm", "leak.zip", "-o", "json")
	if !strings.Contains(s.err, "leak.out") || strings.Contains(s.out+s.err, canaries["key of "+started.Run]) {
		t.Errorf("a leaking archive: %s%s", s.out, s.err)
	}
	if _, err := os.Lstat(filepath.Join(d.dir, "leak.zip")); !os.IsNotExist(err) {
		t.Errorf("the leaking archive was left: %v", err)
	}
}

// arguments are the command lines of all processes.
func arguments(t *testing.T) []byte {
	t.Helper()
	var all bytes.Buffer
	for _, pid := range processesWith(t) {
		if raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); err == nil {
			all.Write(raw)
			all.WriteByte('\n')
		}
	}
	return all.Bytes()
}

func unzipped(t *testing.T, path string) map[string][]byte {
	t.Helper()
	z, err := zip.OpenReader(path)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	out := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(r)
		_ = r.Close()
		if err != nil {
			t.Fatal(err)
		}
		out[f.Name] = raw
	}
	return out
}

// TestForeignTextIsEscaped: a model name with control characters, markup and
// the beginning of a formula goes through every verb and is none of these on a
// terminal, in CSV and in HTML.
func TestForeignTextIsEscaped(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	const name = "=HYPERLINK(1)\x1b[31m</script><img src=x onerror=alert(1)>\x07\"'& größe"
	run := d.fast("--model", name)
	if run.Intent.Params["model"].Value != name {
		t.Errorf("the intent holds %q", run.Intent.Params["model"].Value)
	}
	bench := []string{"bench", "vllm", "--requests", "30", "--output-len", "2"}
	d.must(0, bench...)
	for _, args := range [][]string{{"check", "vllm"}, {"show", "vllm"}, {"show", "vllm-bench"}, {"list"}, {"logs", "vllm", "--lines", "500"}, {"wait", "vllm"}, {"wait", "vllm-bench"}, {"metrics", "vllm", "--last", "1m"}, {"config", "show"}, bench} {
		s := d.must(0, args...)
		if i := strings.IndexAny(s.out+s.err, "\x1b\x07"); i >= 0 {
			t.Errorf("%v: a control character on the terminal: %q", args, (s.out + s.err)[max(0, i-60):i+1])
		}
		s = d.must(0, append(args, "-o", "csv")...)
		cells, err := csv.NewReader(strings.NewReader(s.out)).ReadAll()
		if err != nil || len(cells) == 0 {
			t.Errorf("%v: CSV: %v", args, err)
		}
		for _, line := range cells {
			for _, c := range line {
				if _, err := strconv.ParseFloat(c, 64); err != nil && c != "" && strings.ContainsRune("=+-@\t\r", rune(c[0])) {
					t.Errorf("%v: a cell that a spreadsheet runs: %q", args, c)
				}
			}
		}
	}
	if s := d.must(0, "show", "vllm", "-o", "csv"); !strings.Contains(s.out, "HYPERLINK") {
		t.Errorf("the name is not shown at all: %s", s.out)
	}
	d.must(0, "report", "vllm-bench", "page.html")
	page, err := os.ReadFile(filepath.Join(d.dir, "page.html"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(page, []byte("<img src=x")) || bytes.Contains(page, []byte("[31m</script>")) || bytes.ContainsAny(page, "\x1b\x07") {
		t.Error("markup of a model name is in the page")
	}
	asks[map[string]any](d, 0, "save", "vllm", "a.zip")
}
