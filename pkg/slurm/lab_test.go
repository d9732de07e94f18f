package slurm_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

// labRunner runs commands as an ordinary user on the lab's login node.
type labRunner struct{ sh string }

func (l labRunner) Run(ctx context.Context, c proc.Cmd) (proc.Output, error) {
	args := append([]string{l.sh, "as", "alice", "login1", "env"}, c.Env...)
	args = append(append(args, c.Name), c.Args...)
	c.Name, c.Args, c.Env = "bash", args, os.Environ()
	return proc.Exec{}.Run(ctx, c)
}

// lab gives a client of the real Slurm and a folder its users and nodes see.
func lab(t *testing.T) (*slurm.Client, labRunner, string) {
	t.Helper()
	sh := os.Getenv("AIFBENCH_LABSH")
	if sh == "" || os.Getenv("AIFBENCH_LAB") == "" {
		t.Skip("SKIP-LAB: AIFBENCH_LABSH and AIFBENCH_LAB name no Slurm lab; testdata/lab/lab.sh start makes one")
	}
	run := labRunner{sh}
	dir, err := os.MkdirTemp("", "aifb-slurm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	uid, err := run.Run(t.Context(), proc.Cmd{Name: "id", Args: []string{"-u"}, Dir: "/", Deadline: time.Minute})
	if err != nil || uid.Code != 0 {
		t.Fatalf("alice: %d %s %v", uid.Code, uid.Stderr, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(uid.Stdout)))
	if err := errors.Join(err, os.Chown(dir, n, -1)); err != nil {
		t.Fatal(err)
	}
	return slurm.New(slurm.Config{Runner: run, Env: []string{"SQUEUE_STATES=PENDING", "SBATCH_HOLD=1", "PATH=/usr/bin:/bin"}}), run, dir
}

var labJobs struct {
	sync.Mutex
	n int
}

// labJob writes a script and gives its submission. The name is unique.
func labJob(t *testing.T, dir string, h slurm.Header, body string) slurm.Submission {
	t.Helper()
	labJobs.Lock()
	labJobs.n++
	name := fmt.Sprintf("aifb-test-%d-%d-%x", os.Getpid(), labJobs.n, time.Now().UnixNano())
	labJobs.Unlock()
	if h.Output == "" {
		h.Output = dir + "/" + name + ".out"
	}
	h.JobName = name
	lines, err := h.Lines()
	if err != nil {
		t.Fatal(err)
	}
	script := []byte("#!/bin/bash\n" + strings.Join(lines, "\n") + "\n" + body + "\n")
	if err := slurm.Lint(script); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name+".sbatch")
	if err := os.WriteFile(path, script, 0o644); err != nil {
		t.Fatal(err)
	}
	return slurm.Submission{ScriptPath: path, JobName: name, Dir: dir}
}

// labWatch polls each second, which only a lab of one's own bears.
func labWatch(t *testing.T, c *slurm.Client, ref slurm.Ref, what string, ok func(slurm.Observation) bool) slurm.Observation {
	t.Helper()
	var seen []string
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		got, warns, err := c.Observe(t.Context(), []slurm.Ref{ref})
		if err != nil {
			t.Fatal(err)
		}
		o := got[ref.Name]
		if ok(o) {
			return o
		}
		seen = append(seen, fmt.Sprint(describe(o), warns))
	}
	t.Fatalf("%s: not within three minutes: %q", what, seen)
	return slurm.Observation{}
}

func labSubmit(t *testing.T, c *slurm.Client, s slurm.Submission) slurm.Ref {
	t.Helper()
	r, err := slurm.SubmitOnce(t.Context(), c, s, slurm.Journal{}, slurm.OnceOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ref := slurm.Ref{Name: s.JobName, JobID: r.JobID, SubmittedAfter: r.Submitted}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		if err := c.Cancel(ctx, []string{ref.JobID}); err != nil {
			t.Error(err)
		}
	})
	return ref
}

func TestLabEnds(t *testing.T) {
	t.Parallel()
	c, _, dir := lab(t)
	caps, err := c.Capabilities(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(dir, `o'brien "my" runs #1 100% é`)
	if err := os.Mkdir(odd, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(odd, 0o777); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		h    slurm.Header
		body string
		want string
	}{
		"completes": {
			slurm.Header{Output: slurm.EscapePath(odd) + "/%j.out", Comment: `a "b" 'c' \d # $e`, Chdir: odd, Time: 2 * time.Minute, Nodes: 2, Mem: "100M"},
			"printf '%s|' \"$PWD\" \"$SLURM_NNODES\" \"${TZ-unset}\"", "COMPLETED ended",
		},
		"fails":          {slurm.Header{Mem: "100M"}, "exit 7", "FAILED exit_code ended"},
		"bad output":     {slurm.Header{Mem: "100M", Output: "/nonexistent/x"}, "true", "FAILED output_path ended"},
		"a step fails":   {slurm.Header{Mem: "100M"}, "srun false\nexit 0", "COMPLETED step_failed ended"},
		"killed":         {slurm.Header{Mem: "100M"}, "kill -9 $$", "FAILED signal ended"},
		"out of memory":  {slurm.Header{Mem: "50M", Partition: "cpu"}, "x=$(head -c 300000000 /dev/zero | tr '\\0' x)", "OUT_OF_MEMORY out_of_memory ended"},
		"warned in time": {slurm.Header{Mem: "100M", Time: 2 * time.Minute, Signal: "B:TERM@119"}, "trap 'exit 75' TERM\nsleep 200 &\nwait", "FAILED exit_code ended"},
		"time limit":     {slurm.Header{Mem: "100M", Time: time.Minute, Signal: "none"}, "sleep 600 &\nwait", "TIMEOUT time_limit ended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ref := labSubmit(t, c, labJob(t, dir, tt.h, tt.body))
			o := labWatch(t, c, ref, "end", func(o slurm.Observation) bool { return o.Ended })
			got := strings.TrimPrefix(strings.TrimPrefix(describe(o), "absent "), "present ")
			if name == "out of memory" && caps.ProctrackType != "proctrack/cgroup" {
				t.Skip("SKIP-LAB: this lab has no cgroups, so nobody limits memory")
			}
			if got != tt.want {
				t.Errorf("%q, want %q: %+v", got, tt.want, o)
			}
			if name != "completes" {
				return
			}
			hosts, err := slurm.ExpandHosts(o.Nodes)
			if err != nil || len(hosts) != 2 || o.Start.IsZero() || o.End.Before(o.Start) || o.ExitCode == nil || o.DerivedExitCode == nil {
				t.Errorf("%+v, %v", o, err)
			}
			out, err := os.ReadFile(filepath.Join(odd, ref.JobID+".out"))
			if want := odd + "|2|unset|"; err != nil || string(out) != want {
				t.Errorf("output %q, %v; want %q", out, err, want)
			}
		})
	}
}

func TestLabCancel(t *testing.T) {
	t.Parallel()
	c, run, dir := lab(t)
	ref := labSubmit(t, c, labJob(t, dir, slurm.Header{Mem: "100M", Time: 10 * time.Minute, Comment: `a "b" \c`}, "sleep 600 &\nwait"))
	o := labWatch(t, c, ref, "start", func(o slurm.Observation) bool { return o.State == slurm.Running })
	if o.LimitAt.Sub(o.Start) != 10*time.Minute || o.Nodes == "" {
		t.Errorf("running: %+v", o)
	}
	shown, err := run.Run(t.Context(), proc.Cmd{Name: "scontrol", Args: []string{"-o", "show", "job", ref.JobID}, Dir: "/", Deadline: time.Minute})
	if err != nil || !strings.Contains(string(shown.Stdout), `Comment=a "b" \c `) {
		t.Errorf("comment as Slurm read it: %s, %v", shown.Stdout, err)
	}
	found, err := c.LookUp(t.Context(), []string{ref.Name, "aifb-nobody"})
	if err != nil || len(found) != 1 || len(found[ref.Name]) != 1 || found[ref.Name][0].JobID != ref.JobID {
		t.Errorf("look up: %+v, %v", found, err)
	}
	if err := c.Cancel(t.Context(), []string{ref.JobID}); err != nil {
		t.Fatal(err)
	}
	o = labWatch(t, c, ref, "end", func(o slurm.Observation) bool { return o.Ended })
	if o.State != slurm.Cancelled || o.Cause != slurm.CauseCancelled || o.Succeeded() {
		t.Errorf("%+v", o)
	}
	if err := c.Cancel(t.Context(), []string{ref.JobID, "99999999"}); err != nil {
		t.Errorf("cancel of what is over: %v", err)
	}
}

func TestLabBlocked(t *testing.T) {
	t.Parallel()
	c, _, dir := lab(t)
	ref := labSubmit(t, c, labJob(t, dir, slurm.Header{Mem: "100M", Partition: "short", Time: time.Hour}, "true"))
	o := labWatch(t, c, ref, "block", func(o slurm.Observation) bool { return o.Cause == slurm.CauseBlocked })
	if o.State != slurm.Pending || o.Reason != "PartitionTimeLimit" || o.Ended {
		t.Errorf("%+v", o)
	}
	if err := c.Cancel(t.Context(), []string{ref.JobID}); err != nil {
		t.Fatal(err)
	}
	o = labWatch(t, c, ref, "end", func(o slurm.Observation) bool { return o.Ended })
	if o.Cause != slurm.CauseCancelled {
		t.Errorf("%+v", o)
	}
}

// TestLabRequeue: while a job is being requeued the accounting calls it over,
// and it is not.
func TestLabRequeue(t *testing.T) {
	t.Parallel()
	c, run, dir := lab(t)
	ref := labSubmit(t, c, labJob(t, dir, slurm.Header{Mem: "100M", Time: 10 * time.Minute, Requeue: true}, "sleep 600 &\nwait"))
	labWatch(t, c, ref, "start", func(o slurm.Observation) bool { return o.State == slurm.Running })
	out, err := run.Run(t.Context(), proc.Cmd{Name: "scontrol", Args: []string{"requeue", ref.JobID}, Dir: "/", Deadline: time.Minute})
	if err != nil || out.Code != 0 {
		t.Fatalf("requeue: %d %s %v", out.Code, out.Stderr, err)
	}
	pending := false
	for end := time.Now().Add(12 * time.Second); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		got, warns, err := c.Observe(t.Context(), []slurm.Ref{ref})
		if err != nil {
			t.Fatal(err)
		}
		o := got[ref.Name]
		if o.Ended {
			t.Fatalf("called over while it is requeued: %+v, %v", o, warns)
		}
		pending = pending || o.Presence == slurm.Present && o.State == slurm.Pending
	}
	if !pending {
		t.Error("never seen pending again")
	}
	if err := c.Cancel(t.Context(), []string{ref.JobID}); err != nil {
		t.Fatal(err)
	}
	o := labWatch(t, c, ref, "end", func(o slurm.Observation) bool { return o.Ended })
	if o.Cause != slurm.CauseCancelled {
		t.Errorf("%+v", o)
	}
}

func TestLabRefused(t *testing.T) {
	t.Parallel()
	c, _, dir := lab(t)
	for _, h := range []slurm.Header{{Partition: "nope"}, {Account: "nope"}, {QOS: "nope"}, {Mem: "9999G"}} {
		h.Output = "/dev/null"
		_, err := c.Submit(t.Context(), labJob(t, dir, h, "true"))
		refused, ok := errors.AsType[*slurm.Refused](err)
		if !ok || refused.Advice == "" {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// forgetful really submits and then claims to have been killed.
type forgetful struct {
	labRunner
	submitted int
}

func (f *forgetful) Run(ctx context.Context, c proc.Cmd) (proc.Output, error) {
	out, err := f.labRunner.Run(ctx, c)
	if filepath.Base(c.Name) == "sbatch" && err == nil {
		f.submitted++
		return proc.Output{Code: 137}, fmt.Errorf("run sbatch: %w", context.DeadlineExceeded)
	}
	return out, err
}

// TestLabDoubtful: the answer is lost, the job is real, no second one is made.
func TestLabDoubtful(t *testing.T) {
	t.Parallel()
	_, run, dir := lab(t)
	f := &forgetful{labRunner: run}
	c := slurm.New(slurm.Config{Runner: f})
	s := labJob(t, dir, slurm.Header{Mem: "100M", Time: 2 * time.Minute}, "true")
	doubts := 0
	r, err := slurm.SubmitOnce(t.Context(), c, s, slurm.Journal{
		Doubtful: func(context.Context, error) error { doubts++; return nil },
	}, slurm.OnceOptions{Poll: time.Second})
	if err != nil || f.submitted != 1 || doubts != 1 {
		t.Fatalf("%+v after %d submissions and %d doubts: %v", r, f.submitted, doubts, err)
	}
	o := labWatch(t, c, slurm.Ref{Name: s.JobName, JobID: r.JobID, SubmittedAfter: r.Submitted}, "end", func(o slurm.Observation) bool { return o.Ended })
	if !o.Succeeded() {
		t.Errorf("%+v", o)
	}
}

func TestLabSite(t *testing.T) {
	t.Parallel()
	c, run, _ := lab(t)
	if err := c.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	caps, err := c.Capabilities(t.Context())
	if err != nil || caps.Version == "" || caps.MessageTimeout == 0 || caps.MinJobAge == 0 || !caps.Accounting || caps.MaxArraySize == 0 {
		t.Errorf("%+v, %v", caps, err)
	}
	for name, tt := range map[string]struct {
		h    slurm.Header
		want string
	}{
		"fine":      {slurm.Header{Partition: "cpu", Nodes: 1, Mem: "100M"}, ""},
		"partition": {slurm.Header{Partition: "nope"}, "partition job"},
		"time":      {slurm.Header{Partition: "short", Time: time.Hour, Mem: "100M"}, "time"},
		"down":      {slurm.Header{Partition: "down", Time: time.Minute, Mem: "100M"}, "partition"},
		"nodes":     {slurm.Header{Partition: "cpu", Nodes: 99, Mem: "100M"}, "nodes job"},
		"account":   {slurm.Header{Account: "nope", Mem: "100M"}, "job"},
	} {
		tt.h.Output = "/dev/null"
		problems, err := c.Preflight(t.Context(), tt.h)
		var fields []string
		for _, p := range problems {
			fields = append(fields, p.Field)
		}
		if got := strings.Join(fields, " "); got != tt.want || err != nil {
			t.Errorf("%s: %q %+v, %v; want %q", name, got, problems, err, tt.want)
		}
	}
	for list, want := range hostLists {
		out, err := run.Run(t.Context(), proc.Cmd{Name: "scontrol", Args: []string{"show", "hostnames", list}, Dir: "/", Deadline: time.Minute})
		if err != nil || out.Code != 0 {
			t.Fatalf("%s: %d %s %v", list, out.Code, out.Stderr, err)
		}
		if got := strings.Join(strings.Fields(string(out.Stdout)), " "); got != want {
			t.Errorf("Slurm expands %q to %q, we to %q", list, got, want)
		}
	}
}
