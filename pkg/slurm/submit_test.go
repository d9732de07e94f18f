package slurm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

// outcome names what a submission's error means.
func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, slurm.ErrDoubtful):
		return "doubtful"
	case errors.Is(err, slurm.ErrMissing):
		return "missing"
	}
	if _, ok := errors.AsType[*slurm.Refused](err); ok {
		return "refused"
	}
	return "other"
}

// TestSubmitOutcome: every way sbatch was seen to fail.
func TestSubmitOutcome(t *testing.T) {
	t.Parallel()
	batch := "sbatch: error: Batch job submission failed: "
	tests := []struct {
		name string
		a    answer
		want string
	}{
		{"accepted", answer{out: "7\n"}, "ok"},
		{"hung controller", answer{code: 1, err: batch + "Socket timed out on send/recv operation"}, "doubtful"},
		{"stopped controller", answer{code: 1, err: batch + "Unable to contact slurm controller (connect failure)"}, "doubtful"},
		{"cut answer", answer{code: 1, err: batch + "Zero Bytes were transmitted or received"}, "doubtful"},
		{"send failure", answer{code: 1, err: batch + "Unable to contact slurm controller (send failure)"}, "doubtful"},
		{"our deadline", answer{code: 143, fail: fmt.Errorf("run sbatch: %w", context.DeadlineExceeded)}, "doubtful"},
		{"killed by somebody", answer{code: 137}, "doubtful"},
		{"success without an id", answer{out: "Submitted\n"}, "doubtful"},
		{"too much output", answer{code: 143, fail: &proc.OverflowError{}}, "doubtful"},
		{"rate limit", answer{code: 1, err: batch + "Rate limit exceeded, please retry momentarily"}, "doubtful"},
		{"no sbatch", answer{code: -1, fail: fmt.Errorf("find sbatch: %w", proc.ErrNotFound)}, "missing"},
		{"wrapper finds no sbatch", answer{code: 127, err: "sbatch: command not found"}, "missing"},
		{"cannot fork", answer{code: -1, fail: errors.New("fork: resource temporarily unavailable")}, "other"},
		{"unknown option", answer{code: 255, err: "sbatch: unrecognized option '--x'"}, "refused"},
		{"dependency", answer{code: 1, err: batch + "Job dependency problem"}, "refused"},
	}
	for _, v := range versions {
		for _, name := range []string{"sb_badacct", "sb_badpart", "sb_badqos", "sb_badtime", "sb_bigmem"} {
			tests = append(tests, struct {
				name string
				a    answer
				want string
			}{v + " " + name, answer{code: 1, err: string(read(t, v, name+".err"))}, "refused"})
		}
	}
	for _, tt := range tests {
		client := slurm.New(slurm.Config{Runner: &script{reply: func(string, proc.Cmd) answer { return tt.a }}})
		r, err := client.Submit(t.Context(), slurm.Submission{ScriptPath: "/tmp/x", JobName: "a"})
		if got := outcome(err); got != tt.want {
			t.Errorf("%s: %s (%v), want %s", tt.name, got, err, tt.want)
		}
		if err == nil && (r.JobID != "7" || r.Submitted.IsZero()) {
			t.Errorf("%s: %+v", tt.name, r)
		}
		if refused, ok := errors.AsType[*slurm.Refused](err); ok && strings.Contains(tt.name, "sb_") && refused.Advice == "" {
			t.Errorf("%s: no advice for %q", tt.name, refused.Reason)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	client := slurm.New(slurm.Config{Runner: &script{reply: func(string, proc.Cmd) answer {
		cancel()
		return answer{code: 143, fail: context.Canceled}
	}}})
	if _, err := client.Submit(ctx, slurm.Submission{ScriptPath: "/tmp/x", JobName: "a"}); outcome(err) != "doubtful" {
		t.Errorf("interrupted: %v", err)
	}
	for _, s := range []slurm.Submission{
		{ScriptPath: "x", JobName: "a"},
		{ScriptPath: "/x"},
		{ScriptPath: "/x", JobName: "a,b"},
		{ScriptPath: "/x", JobName: "a", Options: []string{"--wrap=rm"}},
		{ScriptPath: "/x", JobName: "a", Options: []string{"-J b"}},
	} {
		if _, err := client.Submit(t.Context(), s); err == nil {
			t.Errorf("%+v accepted", s)
		}
	}
}

// TestRefusedTextIsSafe: Slurm's words reach a terminal.
func TestRefusedTextIsSafe(t *testing.T) {
	t.Parallel()
	client := slurm.New(slurm.Config{Runner: &script{reply: func(string, proc.Cmd) answer {
		return answer{code: 1, err: "sbatch: error: bad \x1b]0;owned\x07 name\n" + strings.Repeat("x", 10_000)}
	}}})
	_, err := client.Submit(t.Context(), slurm.Submission{ScriptPath: "/tmp/x", JobName: "a"})
	if text := err.Error(); strings.ContainsAny(text, "\x1b\x07\n") || len(text) > 1000 {
		t.Errorf("%d bytes: %.100q", len(text), text)
	}
}

func TestLookUp(t *testing.T) {
	t.Parallel()
	queue, acct := answer{}, answer{}
	run := &script{reply: func(tool string, c proc.Cmd) answer {
		switch {
		case tool == "squeue":
			return queue
		case slices.Contains(c.Args, "--helpformat"):
			return answer{out: string(read(t, "22.05", "sacct_help.out"))}
		}
		return acct
	}}
	client := slurm.New(slurm.Config{Runner: run})
	look := func() (string, error) {
		found, err := client.LookUp(t.Context(), []string{"job-a", "job-b"})
		var out []string
		for _, n := range []string{"job-a", "job-b"} {
			for _, j := range found[n] {
				out = append(out, fmt.Sprintf("%s=%s:%s:%s", n, j.JobID, j.State, j.Source))
			}
		}
		return strings.Join(out, " "), err
	}
	acctRow := func(id, state, submit, name string) string {
		return id + "|" + id + "|" + state + "|0:0|" + submit + "|Unknown|Unknown|0:0||None|" + name + "\n"
	}
	for _, tt := range []struct {
		name        string
		queue, acct answer
		want        string
		ok          bool
	}{
		{"nowhere", answer{}, answer{}, "", true},
		{"queue only", answer{out: "7|7|PENDING|None|100|N/A|N/A||job-a\n8|8|PENDING|None|100|N/A|N/A||job-abc\n"}, answer{}, "job-a=7:PENDING:squeue", true},
		{"accounting only", answer{}, answer{out: acctRow("7", "COMPLETED", "100", "job-a")}, "job-a=7:COMPLETED:sacct", true},
		{"both, one job", answer{out: "7|7|RUNNING|None|100|N/A|N/A||job-a\n"}, answer{out: acctRow("7", "PENDING", "100", "job-a")}, "job-a=7:RUNNING:squeue", true},
		{"twins, oldest first", answer{out: "9|9|RUNNING|None|200|N/A|N/A||job-a\n"}, answer{out: acctRow("10", "PENDING", "200", "job-a") + acctRow("7", "COMPLETED", "100", "job-a")}, "job-a=7:COMPLETED:sacct job-a=9:RUNNING:squeue job-a=10:PENDING:sacct", true},
		{"incarnations of one job", answer{}, answer{out: acctRow("7", "PREEMPTED", "100", "job-a") + acctRow("7", "COMPLETED", "150", "job-a")}, "job-a=7:COMPLETED:sacct", true},
		{"accounting off", answer{out: "7|7|RUNNING|None|100|N/A|N/A||job-a\n"}, answer{code: 1, err: disabledText}, "job-a=7:RUNNING:squeue", true},
		{"database away", answer{out: "7|7|RUNNING|None|100|N/A|N/A||job-a\n"}, answer{code: 1, err: refusedText}, "job-a=7:RUNNING:squeue", false},
		{"controller away", answer{code: 1, err: awayText}, answer{out: acctRow("7", "PENDING", "100", "job-b")}, "job-b=7:PENDING:sacct", false},
	} {
		queue, acct = tt.queue, tt.acct
		got, err := look()
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%s: %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	if _, err := client.LookUp(t.Context(), []string{"a,b"}); err == nil {
		t.Error("a list passed for a name")
	}
}

// TestRealProcesses runs the client against shell scripts that misbehave the
// way Slurm's tools do, through the real runner.
func TestRealProcesses(t *testing.T) {
	t.Parallel()
	tool := func(t *testing.T, name, body string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+body), 0o755); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	submit := func(t *testing.T, dir string, ctx context.Context) (slurm.Receipt, error) {
		client := slurm.New(slurm.Config{Runner: proc.Exec{Grace: 100 * time.Millisecond}, Bin: dir, Env: []string{"PATH=/usr/bin:/bin"}})
		return client.Submit(ctx, slurm.Submission{ScriptPath: filepath.Join(dir, "job"), JobName: "a"})
	}
	t.Run("accepted", func(t *testing.T) {
		t.Parallel()
		dir := tool(t, "sbatch", `echo "$@" >&2; [ "$2" = --job-name=a ] && echo "12;lab"`)
		r, err := submit(t, dir, t.Context())
		if err != nil || r.JobID != "12" || r.Cluster != "lab" {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("hangs and ignores TERM", func(t *testing.T) {
		t.Parallel()
		dir := tool(t, "sbatch", "trap '' TERM\nwhile :; do sleep 1; done\n")
		ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer stop()
		if _, err := submit(t, dir, ctx); outcome(err) != "doubtful" {
			t.Errorf("%v", err)
		}
	})
	t.Run("is missing", func(t *testing.T) {
		t.Parallel()
		if _, err := submit(t, t.TempDir(), t.Context()); outcome(err) != "missing" {
			t.Errorf("%v", err)
		}
	})
	t.Run("stdin is not read", func(t *testing.T) {
		t.Parallel()
		dir := tool(t, "sbatch", "cat >/dev/null; echo 5\n")
		if r, err := submit(t, dir, t.Context()); err != nil || r.JobID != "5" {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("squeue floods", func(t *testing.T) {
		t.Parallel()
		dir := tool(t, "squeue", "yes\n")
		client := slurm.New(slurm.Config{Runner: proc.Exec{Limit: 1 << 16}, Bin: dir})
		got, warns, err := client.Observe(t.Context(), []slurm.Ref{{Name: "a", JobID: "1"}})
		if err != nil || got["a"].Presence != slurm.Unknown || len(warns) != 1 {
			t.Errorf("%+v, %v, %v", got, warns, err)
		}
	})
}
