package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	runs "aifbench/pkg/services/run"
)

// desk is where a user types: a home of its own, no sign of Slurm in its
// environment. What is started at it is stopped when the test ends.
type desk struct {
	t    *testing.T
	dir  string
	home string
	env  []string
}

// said is what one command answered.
type said struct {
	args     []string
	out, err string
	code     int
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	dir := t.TempDir()
	d := &desk{t: t, dir: dir, home: filepath.Join(dir, "home")}
	d.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + t.TempDir(), "AIFBENCH_HOME=" + d.home, "AIFBENCH_SITE=local", "LC_ALL=C.UTF-8"}
	t.Cleanup(func() {
		if s := d.run("stop", "all", "--timeout", "30s"); s.code != 0 {
			t.Errorf("stop all at the end: exit %d\n%s%s", s.code, s.out, s.err)
		}
	})
	return d
}

// set replaces a variable of the desk's environment.
func (d *desk) set(name, value string) {
	d.env = slices.DeleteFunc(d.env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	d.env = append(d.env, name+"="+value)
}

func (d *desk) command(args ...string) *exec.Cmd {
	cmd := exec.Command("aifbench", args...)
	cmd.Dir, cmd.Env = d.dir, slices.Clone(d.env)
	return cmd
}

func (d *desk) run(args ...string) said {
	d.t.Helper()
	cmd := d.command(args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if ee := (*exec.ExitError)(nil); err != nil && !errors.As(err, &ee) {
		d.t.Fatalf("aifbench %s: %v", strings.Join(args, " "), err)
	}
	return said{args, out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func (d *desk) must(code int, args ...string) said {
	d.t.Helper()
	s := d.run(args...)
	if s.code != code {
		d.t.Fatalf("aifbench %s: exit %d, want %d\nstdout: %s\nstderr: %s", strings.Join(args, " "), s.code, code, s.out, s.err)
	}
	return s
}

// wrong is the document of a command that failed.
type wrong struct {
	SchemaVersion int `json:"schema_version"`
	Error         struct {
		Code      int    `json:"code"`
		Name      string `json:"name"`
		Cause     string `json:"cause"`
		Layer     string `json:"layer"`
		Retryable bool   `json:"retryable"`
		Message   string `json:"message"`
		Evidence  string `json:"evidence"`
		Advice    string `json:"advice"`
	} `json:"error"`
}

// only decodes the one document of stdout; anything after it is an error.
func only[T any](t *testing.T, s said) T {
	t.Helper()
	var v T
	dec := json.NewDecoder(strings.NewReader(s.out))
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("aifbench %s: stdout is no JSON document: %v\n%s\nstderr: %s", strings.Join(s.args, " "), err, s.out, s.err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		t.Fatalf("aifbench %s: more than one document on stdout:\n%s", strings.Join(s.args, " "), s.out)
	}
	return v
}

// asks runs with -o json and decodes the one document.
func asks[T any](d *desk, code int, args ...string) T {
	d.t.Helper()
	return only[T](d.t, d.must(code, append(args, "-o", "json")...))
}

// fails runs with -o json and demands the error document of that code.
func (d *desk) fails(code int, args ...string) wrong {
	d.t.Helper()
	w := asks[wrong](d, code, args...)
	if w.SchemaVersion != 1 || w.Error.Code != code || w.Error.Name == "" || w.Error.Message == "" || w.Error.Layer == "" {
		d.t.Errorf("aifbench %s: %+v", strings.Join(args, " "), w)
	}
	return w
}

// sim starts a service by its built-in engine and waits until it is ready.
func (d *desk) sim(service string, more ...string) runs.Dir {
	d.t.Helper()
	s := asks[labStart](d, 0, append([]string{"start", service, "--engine", "sim", "--wait", "--timeout", "2m"}, more...)...)
	return d.opened(s.Run)
}

// fast is a vLLM that answers at once.
func (d *desk) fast(more ...string) runs.Dir {
	d.t.Helper()
	return d.sim("vllm", append([]string{"--sim-ttft", "2ms", "--sim-itl", "1ms"}, more...)...)
}

func (d *desk) opened(id string) runs.Dir {
	d.t.Helper()
	dir, err := runs.Open(filepath.Join(d.home, "runs", id))
	if err != nil {
		d.t.Fatal(err)
	}
	return dir
}

// made lists the run directories there are, of one word before the stamp.
func (d *desk) made(word string) []string {
	d.t.Helper()
	entries, err := os.ReadDir(filepath.Join(d.home, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), word+"-2"); ok && rest != "" {
			out = append(out, e.Name())
		}
	}
	return out
}

func (d *desk) write(name, text string, mode os.FileMode) string {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		d.t.Fatal(err)
	}
	return path
}

// until polls for a fact.
func (d *desk) until(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s: not within a minute", what)
		}
	}
}
