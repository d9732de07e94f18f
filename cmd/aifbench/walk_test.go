package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"aifbench/pkg/metrics/result"
	runs "aifbench/pkg/services/run"
)

// TestEveryVerbIsOneDocument: with -o json every verb leaves exactly one
// document on stdout, when it works and when it does not.
func TestEveryVerbIsOneDocument(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	// Nothing there yet.
	for _, v := range []struct {
		code int
		args string
	}{
		{3, "check all"},
		{3, "check vllm"},
		{3, "bench vllm"},
		{3, "bench chroma"},
		{3, "bench lustre"},
		{3, "logs vllm"},
		{3, "save vllm"},
		{3, "save all"},
		{3, "metrics vllm"},
		{3, "metrics monitors"},
		{3, "wait vllm"},
		{3, "show vllm"},
		{3, "report vllm-bench"},
		{3, "stop vllm --run nothing"},
		{2, "start vllm"},
		{2, "start vllm --engine sim --timeout 0s"},
		{2, "clean"},
		{2, "config show --site nowhere"},
		{2, "bench vllm --gate x"},
		{2, "bench vllm --endpoint nonsense"},
		{2, "bench vllm --max-error-ratio 7"},
		{2, "bench chroma --dimension 0"},
		{2, "bench lustre --phase-time 40h"},
		{2, "save vllm no-extension"},
		{2, "metrics vllm --prometheus-url ftp://x"},
		{2, "bench vllm --endpoint http://127.0.0.1:1 --detach"},
		{2, "metrics vllm --last never"},
		{2, "logs vllm --lines 0"},
		{2, "stop all --timeout 0s"},
	} {
		d.fails(v.code, strings.Fields(v.args)...)
	}
	vllm := d.fast()
	benched := asks[result.Result](d, 0, "bench", "vllm", "--requests", "30", "--output-len", "2", "--concurrency", "2")
	kinds := map[string]string{
		"start vllm --engine sim --sim-ttft 2ms --sim-itl 1ms": "start",
		"start chroma --engine sim --dry-run":                  "plan",
		"check all":                                            "check",
		"check vllm --watch --until ready":                     "check",
		"check all --ended":                                    "check",
		"list":                                                 "list",
		"list --ended":                                         "list",
		"wait vllm":                                            "wait",
		"wait vllm --for ready":                                "wait",
		"show vllm":                                            "show",
		"show " + benched.Run:                                  "show",
		"logs vllm":                                            "logs",
		"logs vllm --source engine":                            "logs",
		"metrics vllm --last 5m":                               "telemetry",
		"config show":                                          "config",
		"config keys":                                          "config_keys",
		"version":                                              "version",
		"save vllm a.zip":                                      "save",
		"save all":                                             "save",
		"report vllm-bench a.html":                             "report",
		"clean --older-than 30d":                               "clean",
		"clean --older-than 30d --dry-run":                     "clean",
		"bench vllm --requests 30 --output-len 2 --detach":        "bench_detached",
		"wait vllm-bench --timeout 1m":                            "",
		"wait " + benched.Run:                                     "",
		"stop chroma":                                             "stop",
		"stop vllm --run " + vllm.ID() + " --no-wait --keep-data": "stop",
		"stop all":                              "stop",
		"stop vllm":                             "stop",
		"check vllm --ended --run " + vllm.ID(): "check",
		"logs vllm --lines 3 --source slurm --run " + vllm.ID():          "logs",
		"save vllm --no-benches b.tar.zst --run " + vllm.ID() + " -q -v": "save",
	}
	order := []string{"bench vllm --r", "wait vllm-b", "stop vllm --run", "stop all", "stop vllm", "check vllm --ended", "logs vllm --lines 3", "save vllm --no"}
	rank := func(s string) int {
		for i, o := range order {
			if strings.HasPrefix(s, o) {
				return i + 1
			}
		}
		return 0
	}
	lines := make([]string, 0, len(kinds))
	for l := range kinds {
		lines = append(lines, l)
	}
	slices.Sort(lines)
	slices.SortStableFunc(lines, func(a, b string) int { return rank(a) - rank(b) })
	for _, l := range lines {
		head := asks[map[string]any](d, 0, strings.Fields(l)...)
		if v, ok := head["schema_version"].(float64); !ok || v < 1 {
			t.Errorf("%s: schema_version %v", l, head["schema_version"])
		}
		if want := kinds[l]; want != "" && want != "show" && head["kind"] != want {
			t.Errorf("%s: kind %v, want %s", l, head["kind"], want)
		}
	}
	// What exists already, and what has no result.
	d.fails(10, "save", "vllm", "a.zip")
	d.fails(10, "report", "vllm-bench", "a.html")
	d.fails(5, "report", "vllm")
	d.fails(2, "save", "vllm", "no-extension")
	d.fails(3, "check", "vllm")
	d.fails(2, "metrics", "chroma", "--run", vllm.ID())
	d.fails(2, "stop", "chroma", "--run", vllm.ID())
}

// TestTwentyShellsOneRun: twenty processes ask for the same at the same time.
func TestTwentyShellsOneRun(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	answers := make([]said, 20)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			cmd := d.command("start", "vllm", "--engine", "sim", "-o", "json")
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run() // judged by its exit code below
			answers[i] = said{cmd.Args, out.String(), errs.String(), cmd.ProcessState.ExitCode()}
		})
	}
	wg.Wait()
	fresh := 0
	ids := map[string]bool{}
	jobs := map[string]bool{}
	for _, s := range answers {
		if s.code != 0 {
			t.Fatalf("a shell ended with %d: %s%s", s.code, s.out, s.err)
		}
		a := only[labStart](t, s)
		ids[a.Run], jobs[a.JobID] = true, true
		if !a.Existing {
			fresh++
		}
	}
	if fresh != 1 || len(ids) != 1 || len(jobs) != 1 {
		t.Errorf("%d shells made a run; runs %v, jobs %v", fresh, ids, jobs)
	}
	if made := d.made("vllm"); len(made) != 1 {
		t.Errorf("run directories: %v", made)
	}
	if entries, err := os.ReadDir(filepath.Join(d.home, "local")); err != nil || len(jobsOf(entries)) != 1 {
		t.Errorf("jobs of the local scheduler: %v %v", entries, err)
	}
	// --new forces one more, other parameters make another too.
	more := asks[labStart](d, 0, "start", "vllm", "--engine", "sim", "--new")
	other := asks[labStart](d, 0, "start", "vllm", "--engine", "sim", "--sim-slots", "7")
	if more.Existing || other.Existing || ids[more.Run] || ids[other.Run] || more.Run == other.Run {
		t.Errorf("--new %+v, other parameters %+v", more, other)
	}
	d.must(0, "wait", more.Run)
	d.must(0, "wait", other.Run)
	d.must(0, "wait", answers0(ids))
	two := d.fails(2, "bench", "vllm")
	for id := range ids {
		if !strings.Contains(two.Error.Advice, id) || !strings.Contains(two.Error.Advice, "--run") {
			t.Errorf("three live runs: %+v", two)
		}
	}
}

func answers0(ids map[string]bool) string {
	for id := range ids {
		return id
	}
	return ""
}

func jobsOf(entries []os.DirEntry) []string {
	var out []string
	for _, e := range entries {
		if e.IsDir() && strings.Trim(e.Name(), "0123456789") == "" {
			out = append(out, e.Name())
		}
	}
	return out
}

// TestKilledShellLosesNothing: SIGKILL of the shell that watches a bench, and
// of the one that started the service, lose neither.
func TestKilledShellLosesNothing(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fast()
	watch := d.command("bench", "vllm", "--duration", "4s", "--output-len", "4", "--gate", "requests_per_s>=1")
	if err := watch.Start(); err != nil {
		t.Fatal(err)
	}
	d.until("the generator begins", func() bool { return d.measuring() })
	if err := watch.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = watch.Wait() // killed
	s := d.run("wait", "vllm-bench", "--timeout", "2m", "-o", "json")
	if s.code != 0 && s.code != 7 {
		t.Fatalf("wait: exit %d\n%s%s", s.code, s.out, s.err)
	}
	r := only[result.Result](t, s)
	if r.Verdict.Status != result.Valid && r.Verdict.Status != result.ClientLimited {
		t.Errorf("verdict %+v", r.Verdict)
	}
	if len(r.Gates) != 1 || !r.Gates[0].Passed {
		t.Errorf("the stored gate was not judged: %+v", r.Gates)
	}
	if r.Window.DurationS < 3.5 {
		t.Errorf("window of %v s, asked for 4", r.Window.DurationS)
	}
	d.must(0, "check", "vllm")
}

// measuring tells that the newest bench has its generator at work.
func (d *desk) measuring() bool {
	for _, id := range d.made("vllm-bench") {
		if _, err := os.Stat(filepath.Join(d.home, "runs", id, runs.ProgressFile)); err == nil {
			return true
		}
	}
	return false
}

// TestInterruptedBenchKeepsItsPart: the first SIGINT drains and saves a partial
// result that says so, exit 130; SIGTERM likewise, 143.
func TestInterruptedBenchKeepsItsPart(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		sig   syscall.Signal
		code  int
		where string
	}{{syscall.SIGINT, 130, "beside"}, {syscall.SIGTERM, 143, "beside"}, {syscall.SIGINT, 130, "here"}, {syscall.SIGTERM, 143, "here"}} {
		t.Run(tt.where+" "+tt.sig.String(), func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			d.fast()
			cmd := d.command("bench", "vllm", "--duration", "2m", "--output-len", "4", "--where", tt.where, "-o", "json")
			var out, errs strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			d.until("the generator begins", func() bool { return d.measuring() })
			if err := cmd.Process.Signal(tt.sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // judged by its code
			s := said{cmd.Args, out.String(), errs.String(), cmd.ProcessState.ExitCode()}
			if s.code != tt.code {
				t.Fatalf("exit %d, want %d\n%s%s", s.code, tt.code, s.out, s.err)
			}
			r := only[result.Result](t, s)
			if r.Verdict.Status != result.Interrupted || len(r.Verdict.Reasons) == 0 {
				t.Errorf("verdict %+v", r.Verdict)
			}
			if v := value(t, r.Figures, "operations_ok_count"); v <= 0 {
				t.Errorf("the part that was measured is lost: %v", v)
			}
			stored, err := result.Read(d.opened(r.Run).File(runs.ResultFile))
			if err != nil || stored.Verdict.Status != result.Interrupted {
				t.Errorf("stored: %v", err)
			}
			if again := d.run("wait", r.Run, "-o", "json"); again.code != tt.code {
				t.Errorf("wait: exit %d, want %d", again.code, tt.code)
			}
		})
	}
}

// TestGatesOfADetachedBench: wait judges what bench was given, one code each.
func TestGatesOfADetachedBench(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fast()
	for _, tt := range []struct {
		name  string
		code  int
		gates []string
		says  []string
	}{
		{"passes", 0, []string{"e2e_p50_ms<=60000", "operations_ok_count>=30"}, nil},
		{"is missed", 6, []string{"e2e_p50_ms<=60000", "e2e_p50_ms<=0.001"}, []string{"e2e_p50_ms", "0.001"}},
		{"is null", 7, []string{"ttft_p99_ms<=60000"}, []string{"ttft_p99_ms"}},
		{"null outweighs missed", 7, []string{"ttft_p99_ms<=60000", "e2e_p50_ms<=0.001"}, []string{"ttft_p99_ms", "e2e_p50_ms"}},
	} {
		args := []string{"bench", "vllm", "--requests", "30", "--output-len", "2", "--concurrency", "2", "--detach"}
		for _, g := range tt.gates {
			args = append(args, "--gate", g)
		}
		detached := asks[struct {
			Run string `json:"run"`
		}](d, 0, args...)
		s := d.must(tt.code, "wait", detached.Run, "-o", "json")
		r := only[result.Result](t, s)
		if len(r.Gates) != len(tt.gates) {
			t.Errorf("%s: %d gates of %d", tt.name, len(r.Gates), len(tt.gates))
		}
		for _, w := range tt.says {
			if !strings.Contains(s.err, w) {
				t.Errorf("%s: stderr lacks %q: %s", tt.name, w, s.err)
			}
		}
		if tt.code == 6 {
			v := r.Figures["e2e_p50_ms"].Value
			if v == nil || r.Gates[1].Value == nil || *r.Gates[1].Value != *v {
				t.Errorf("%s: the gate does not name the value: %+v", tt.name, r.Gates)
			}
		}
	}
	// Unknown: before anything is made.
	before := len(d.made("vllm-bench"))
	d.fails(2, "bench", "vllm", "--gate", "ttft_p98_ms<=5", "--detach")
	if after := len(d.made("vllm-bench")); after != before {
		t.Errorf("%d benches were made for an unknown gate", after-before)
	}
}

// TestStopRemovesOnlyItsOwn: data goes, logs, samples and results stay; twice
// is success; --keep-data keeps, and a later stop removes.
func TestStopRemovesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	target := d.write("data/precious", "mine", 0o600)
	started := asks[labStart](d, 0, "start", "lustre", "--path", filepath.Dir(target), "--wait")
	run := d.opened(started.Run)
	if len(run.Intent.OwnedPaths) != 1 || filepath.Dir(run.Intent.OwnedPaths[0]) != filepath.Dir(target) {
		t.Fatalf("owned paths %v", run.Intent.OwnedPaths)
	}
	owned := run.Intent.OwnedPaths[0]
	asks[result.Result](d, 0, "bench", "lustre", "--phase-time", "50ms", "--max-bytes", "16777216", "--max-files", "200", "--keep-data")
	// Links planted by somebody else lead out of the directory.
	outside := d.write("outside/file", "keep", 0o600)
	for name, to := range map[string]string{"link-to-file": outside, "link-to-dir": filepath.Dir(outside), "link-to-root": "/"} {
		if err := os.Symlink(to, filepath.Join(owned, name)); err != nil {
			t.Fatal(err)
		}
	}
	kept := asks[stopped](d, 0, "stop", "lustre", "--keep-data")
	if !slices.ContainsFunc(kept.Runs, func(r stoppedRun) bool { return slices.Contains(r.Kept, owned) }) {
		t.Errorf("kept: %+v", kept)
	}
	if _, err := os.Stat(owned); err != nil {
		t.Errorf("--keep-data: %v", err)
	}
	gone := asks[stopped](d, 0, "stop", "lustre", "--run", started.Run)
	if len(gone.Runs) != 1 || !slices.Contains(gone.Runs[0].Removed, owned) {
		t.Errorf("removed: %+v", gone)
	}
	if _, err := os.Lstat(owned); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", owned, err)
	}
	for _, p := range []string{target, outside} {
		if raw, err := os.ReadFile(p); err != nil || len(raw) != 4 {
			t.Errorf("%s: %v", p, err)
		}
	}
	for _, f := range []string{runs.IntentFile, runs.LogsDir, runs.ScriptFile} {
		if _, err := os.Stat(run.File(f)); err != nil {
			t.Errorf("stop took %s: %v", f, err)
		}
	}
	for _, id := range d.made("lustre-bench") {
		if _, err := result.Read(filepath.Join(d.home, "runs", id, runs.ResultFile)); err != nil {
			t.Error(err)
		}
	}
	again := asks[stopped](d, 0, "stop", "all")
	for _, r := range again.Runs {
		if len(r.Removed) > 0 {
			t.Errorf("the second stop removed %v", r.Removed)
		}
	}
}

type stopped struct {
	Runs []stoppedRun `json:"runs"`
}

type stoppedRun struct {
	Run     string   `json:"run"`
	Ended   bool     `json:"ended"`
	Removed []string `json:"removed"`
	Kept    []string `json:"kept"`
	Problem string   `json:"problem"`
}

// TestNotReadyIsFive: a run whose engine has not answered yet.
func TestNotReadyIsFive(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	slow := d.write("slow", "#!/bin/sh\nexec sleep 600\n", 0o700)
	started := asks[labStart](d, 0, "start", "vllm", "--model", "m", "--vllm-command", slow)
	if started.Ready {
		t.Errorf("%+v", started)
	}
	rows := asks[labRows](d, 5, "check", "vllm")
	if len(rows.Runs) != 1 || rows.Runs[0].Ready || rows.Runs[0].Why == "" {
		t.Errorf("%+v", rows)
	}
	if w := d.fails(5, "bench", "vllm"); !w.Error.Retryable || !strings.Contains(w.Error.Advice, "aifbench wait") {
		t.Errorf("%+v", w)
	}
	d.fails(124, "wait", "vllm", "--timeout", "1s")
	d.fails(124, "start", "vllm", "--model", "m", "--vllm-command", slow, "--wait", "--timeout", "1s")
	if made := d.made("vllm"); len(made) != 1 {
		t.Errorf("a wait that timed out made another run: %v", made)
	}
	if raw, err := json.Marshal(asks[labRows](d, 5, "check", "all")); err != nil || !strings.Contains(string(raw), started.Run) {
		t.Errorf("the run did not go on: %s %v", raw, err)
	}
}
