package main_test

import (
	"bytes"
	"errors"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"aifbench/pkg/metrics/result"
	runs "aifbench/pkg/services/run"
)

// talk is a stream that a test reads while it is written.
type talk struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *talk) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *talk) has(s string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return bytes.Contains(w.b.Bytes(), []byte(s))
}

// TestSecondSignalKillsTheShellOnly: while a drain takes its time the second
// SIGINT ends the shell at once; the generator still saves its part, and wait
// tells the same story later. The generator is stopped in between, so that its
// drain cannot be quicker than the second signal.
func TestSecondSignalKillsTheShellOnly(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.fast()
	cmd := d.command("bench", "vllm", "--duration", "2m", "--output-len", "4")
	said := &talk{}
	cmd.Stderr = said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.until("the generator begins", func() bool { return d.measuring() })
	made := d.made("vllm-bench")
	if len(made) != 1 {
		t.Fatalf("benches: %v", made)
	}
	bench := d.opened(made[0])
	sentinels, bad := bench.Sentinels()
	if len(bad) > 0 || len(sentinels) != 1 || sentinels[0].Phase != runs.SentinelStarted {
		t.Fatalf("sentinels of the generator: %+v, %v", sentinels, bad)
	}
	generator := sentinels[0].PID
	if err := syscall.Kill(generator, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	resume := sync.OnceValue(func() error { return syscall.Kill(generator, syscall.SIGCONT) })
	t.Cleanup(func() { _ = resume() }) // before the desk stops all; it may have ended
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	d.until("the shell tells of the drain", func() bool { return said.has("a second signal kills this shell only") })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	ee := (*exec.ExitError)(nil)
	if err := cmd.Wait(); !errors.As(err, &ee) {
		t.Fatalf("the shell ended with %v", err)
	}
	if ws, ok := ee.Sys().(syscall.WaitStatus); !ok || !ws.Signaled() || ws.Signal() != syscall.SIGINT {
		t.Errorf("the shell ended with %v, want it killed by SIGINT", ee)
	}
	if err := resume(); err != nil {
		t.Fatal(err)
	}
	r := only[result.Result](t, d.must(130, "wait", bench.ID(), "--timeout", "1m", "-o", "json"))
	if r.Verdict.Status != result.Interrupted {
		t.Errorf("verdict %+v", r.Verdict)
	}
	if v := value(t, r.Figures, "operations_ok_count"); v <= 0 {
		t.Errorf("the part that was measured is lost: %v", v)
	}
}
