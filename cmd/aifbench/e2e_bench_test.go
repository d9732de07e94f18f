package main_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"aifbench/pkg/metrics/result"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/slurm/proc"
)

// shell is a line of the program that a test may kill.
type shell struct {
	l        *lab
	p        *proc.Process
	out, err string
}

// spawn types a line and does not wait for it.
func (l *lab) spawn(args ...string) *shell {
	l.t.Helper()
	dir := l.t.TempDir()
	s := &shell{l: l, out: filepath.Join(dir, "out"), err: filepath.Join(dir, "err")}
	out, err1 := os.Create(s.out)
	errs, err2 := os.Create(s.err)
	if err1 != nil || err2 != nil {
		l.t.Fatal(err1, err2)
	}
	defer out.Close()
	defer errs.Close()
	c := l.command(l.words(args)...)
	c.Deadline = 0
	p, err := proc.Start(proc.StartSpec{Cmd: c, Stdout: out, Stderr: errs})
	if err != nil {
		l.t.Fatal(err)
	}
	s.p = p
	return s
}

// wait gives what the shell left.
func (s *shell) wait() answer {
	s.l.t.Helper()
	select {
	case <-s.p.Done():
	case <-time.After(3 * time.Minute):
		_ = s.p.Signal(syscall.SIGKILL)
		s.l.t.Errorf("the shell did not end by itself")
	}
	code, err := s.p.Wait()
	if err != nil {
		s.l.t.Error(err)
	}
	return answer{read(s.out), read(s.err), code}
}

func read(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	raw, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// newBench spawns a bench and waits until it measures.
func (l *lab) newBench(args ...string) (*shell, runs.Dir) {
	l.t.Helper()
	had := l.dirs()
	s := l.spawn(append([]string{"bench"}, args...)...)
	var dir runs.Dir
	l.until(time.Minute, "a bench that measures: "+strings.Join(args, " "), func() bool {
		for _, d := range l.dirs() {
			known := slices.ContainsFunc(had, func(h runs.Dir) bool { return h.ID() == d.ID() })
			if raw, err := os.ReadFile(d.File(runs.ProgressFile)); !known && err == nil && strings.Contains(string(raw), "window") {
				dir = d
				return true
			}
		}
		return false
	})
	time.Sleep(time.Second) // some of it, so that a part is more than nothing
	return s, dir
}

// loadVLLM is a bench that takes some seconds.
var loadVLLM = []string{"vllm", "--concurrency", "4", "--duration", "5s", "--input-len", "32", "--output-len", "16", "-o", "json"}

func (l *lab) killedShell() {
	t := l.t
	t.Helper()
	s, dir := l.newBench(loadVLLM...)
	if err := s.p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if a := s.wait(); a.code != 137 || a.out != "" {
		t.Fatalf("the shell was not killed: %+v", a)
	}
	if _, err := os.Stat(dir.File(runs.ResultFile)); err == nil {
		t.Fatal("the bench was over before its shell was killed")
	}
	r := doc[result.Result](l, 0, "wait", dir.ID())
	valid(t, r, 1, "output_tokens_per_s", "ttft_p50_ms")
	if r.Run != dir.ID() || r.Window.DurationS < 4.9 {
		t.Errorf("wait %s: run %s, window of %.1f s", dir.ID(), r.Run, r.Window.DurationS)
	}
}

func (l *lab) interruptedBench() {
	t := l.t
	t.Helper()
	s, dir := l.newBench("vllm", "--concurrency", "4", "--duration", "60s", "--input-len", "32", "--output-len", "16", "-o", "json")
	if err := s.p.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	a := s.wait()
	if a.code != 130 {
		t.Fatalf("exit %d, want 130\n%s%s", a.code, a.out, a.err)
	}
	r := decode[result.Result](l, a.out)
	if r.Run != dir.ID() || r.Verdict.Status != result.Interrupted || value(t, r.Figures, "operations_ok_count") < 1 {
		t.Errorf("partial result: %s %+v", r.Run, r.Verdict)
	}
	if r.Window.DurationS > 30 {
		t.Errorf("window of %.1f s: the bench was not interrupted", r.Window.DurationS)
	}
	doc[result.Result](l, 130, "wait", dir.ID())
}

// cancelledBench ends the service's job from outside while it is loaded.
func (l *lab) cancelledBench(service labStart) {
	t := l.t
	t.Helper()
	s, dir := l.newBench("vllm", "--concurrency", "4", "--duration", "60s", "--input-len", "32", "--output-len", "16", "-o", "json")
	l.note()
	if a := l.as(l.user, "login1", "scancel", service.JobID); a.code != 0 {
		t.Fatal(a.err)
	}
	a := s.wait()
	// The generator was told by TERM and saved its part, or it was killed first.
	r, err := result.Read(dir.File(runs.ResultFile))
	if want := map[bool]int{true: 143, false: 9}[err == nil]; a.code != want {
		t.Errorf("bench: exit %d, want %d\n%s%s", a.code, want, tail(a.out), a.err)
	}
	if err == nil {
		if r.Verdict.Status == result.Valid || r.Verdict.Status == result.ClientLimited {
			t.Errorf("a bench whose service was taken away: %+v", r.Verdict)
		}
	} else if e := decode[labError](l, a.out); e.Error.Code != 9 || !strings.Contains(e.Error.Message, "cancel") {
		t.Errorf("neither a partial result nor the reason: %+v", e)
	}
	l.until(time.Minute, "check vllm names the cancellation", func() bool {
		c := l.ab("check", "vllm", "-o", "json")
		return c.code == 9 && strings.Contains(c.out, "cancelled")
	})
	rows := doc[labRows](l, 9, "check", "vllm").Runs
	if len(rows) != 1 || rows[0].Run != service.Run || rows[0].Code != 9 || !strings.Contains(rows[0].Why, "cancelled") {
		t.Errorf("check: %+v", rows)
	}
	doc[result.Result](l, 0, "bench", "chroma", "--vectors", "500", "--dimension", "16", "--queries", "50", "--duration", "1s") // the others live on
}
