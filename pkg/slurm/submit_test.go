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
	"testing/synctest"
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
		{ScriptPath: "x", JobName: "a"}, {ScriptPath: "/x"}, {ScriptPath: "/x", JobName: "a,b"},
		{ScriptPath: "/x", JobName: "a", Options: []string{"--wrap=rm"}}, {ScriptPath: "/x", JobName: "a", Options: []string{"-J b"}},
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

// cluster is a scheduler with faults, under a fake clock.
type cluster struct {
	submit func(try int) (slurm.Receipt, error)
	jobs   []slurm.Job
	appear time.Duration // when the doubtful job becomes visible
	away   func(since time.Duration) bool
	start  time.Time
	tries  int
	looks  int
	gone   []string
}

func (c *cluster) Submit(context.Context, slurm.Submission) (slurm.Receipt, error) {
	c.tries++
	return c.submit(c.tries)
}

func (c *cluster) LookUp(context.Context, []string) (map[string][]slurm.Job, error) {
	c.looks++
	since := time.Since(c.start)
	if c.away != nil && c.away(since) {
		return nil, slurm.ErrAway
	}
	found := map[string][]slurm.Job{}
	for _, j := range c.jobs {
		if since >= c.appear {
			found[j.Name] = append(found[j.Name], j)
		}
	}
	return found, nil
}

func (c *cluster) Cancel(_ context.Context, ids []string) error {
	c.gone = append(c.gone, ids...)
	return nil
}

func (c *cluster) Ping(context.Context) error {
	if c.away != nil && c.away(time.Since(c.start)) {
		return slurm.ErrAway
	}
	return nil
}

func TestSubmitOnce(t *testing.T) {
	t.Parallel()
	doubt := fmt.Errorf("sbatch: %w: Socket timed out", slurm.ErrDoubtful)
	job := func(id string, state slurm.State, sec int64) slurm.Job {
		return slurm.Job{Name: "a", JobID: id, State: state, Submit: time.Unix(sec, 0)}
	}
	fails := func(n int) func(int) (slurm.Receipt, error) {
		return func(try int) (slurm.Receipt, error) {
			if try <= n {
				return slurm.Receipt{}, doubt
			}
			return slurm.Receipt{JobID: "50"}, nil
		}
	}
	for name, tt := range map[string]struct {
		c      *cluster
		resume bool
		id     string
		tries  int
		gone   []string
		events string
		want   string
		took   time.Duration
	}{
		"accepted":               {c: &cluster{submit: fails(0)}, id: "50", tries: 1, events: "intent submitted", want: "ok"},
		"doubtful, job was made": {c: &cluster{submit: fails(1), jobs: []slurm.Job{job("7", slurm.Pending, 5)}, appear: 14 * time.Second}, id: "7", tries: 1, events: "intent doubtful submitted", want: "ok", took: 15 * time.Second},
		"doubtful, no job":       {c: &cluster{submit: fails(1)}, id: "50", tries: 2, events: "intent doubtful submitted", want: "ok", took: time.Minute},
		"controller away, health starts late": {
			c:  &cluster{submit: fails(1), away: func(d time.Duration) bool { return d < 30*time.Second }},
			id: "50", tries: 2, events: "intent doubtful submitted", want: "ok", took: 90 * time.Second,
		},
		"healthy time must be in a row": {
			c:  &cluster{submit: fails(1), away: func(d time.Duration) bool { return d >= 40*time.Second && d < 45*time.Second }},
			id: "50", tries: 2, events: "intent doubtful submitted", want: "ok", took: 105 * time.Second,
		},
		"twins: the younger goes": {
			c:  &cluster{submit: fails(1), jobs: []slurm.Job{job("7", slurm.Running, 5), job("9", slurm.Pending, 6)}},
			id: "7", tries: 1, gone: []string{"9"}, events: "intent doubtful twin submitted", want: "ok",
		},
		"a live job is kept before a failed record": {
			c:  &cluster{submit: fails(1), jobs: []slurm.Job{job("7", slurm.Failed, 5), job("9", slurm.Pending, 6)}},
			id: "9", tries: 1, events: "intent doubtful submitted", want: "ok",
		},
		"refused": {c: &cluster{submit: func(int) (slurm.Receipt, error) {
			return slurm.Receipt{}, &slurm.Refused{Reason: "no"}
		}}, tries: 1, events: "intent", want: "refused"},
		"resume finds the job":   {c: &cluster{submit: fails(0), jobs: []slurm.Job{job("7", slurm.Completed, 5)}}, resume: true, id: "7", events: "doubtful submitted", want: "ok"},
		"resume finds no job":    {c: &cluster{submit: fails(0)}, resume: true, id: "50", tries: 1, events: "doubtful submitted", want: "ok", took: time.Minute},
		"away until the context": {c: &cluster{submit: fails(9), away: func(time.Duration) bool { return true }}, tries: 1, events: "intent doubtful", want: "doubtful", took: 10 * time.Minute},
		"never twice more":       {c: &cluster{submit: fails(9)}, tries: 2, events: "intent doubtful doubtful", want: "doubtful", took: 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tt.c.start = time.Now()
				var events []string
				note := func(e string) { events = append(events, e) }
				ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
				defer stop()
				got, err := slurm.SubmitOnce(ctx, tt.c, slurm.Submission{ScriptPath: "/x", JobName: "a"}, slurm.Journal{
					Intent:    func(context.Context) error { note("intent"); return nil },
					Submitted: func(context.Context, slurm.Receipt) error { note("submitted"); return nil },
					Doubtful:  func(context.Context, error) error { note("doubtful"); return nil },
					Twin:      func(context.Context, slurm.Job) error { note("twin"); return nil },
				}, slurm.OnceOptions{Resume: tt.resume})
				if outcome(err) != tt.want || got.JobID != tt.id {
					t.Errorf("job %q, %s (%v); want %q, %s", got.JobID, outcome(err), err, tt.id, tt.want)
				}
				if tt.c.tries != tt.tries || !slices.Equal(tt.c.gone, tt.gone) {
					t.Errorf("%d submissions, cancelled %q; want %d, %q", tt.c.tries, tt.c.gone, tt.tries, tt.gone)
				}
				if s := strings.Join(events, " "); s != tt.events {
					t.Errorf("journal %q, want %q", s, tt.events)
				}
				if took := time.Since(tt.c.start); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
			})
		})
	}
}

// TestLateTwin: the job of the doubtful attempt shows up only after the second
// attempt was accepted as job 50.
func TestLateTwin(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		other      string
		when       int64
		keep, gone string
		notes      int
	}{
		{"51", 101, "50", "51", 1},
		{"49", 99, "49", "50", 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := &cluster{start: time.Now()}
			c.submit = func(try int) (slurm.Receipt, error) {
				if try == 1 {
					return slurm.Receipt{}, slurm.ErrDoubtful
				}
				c.jobs = []slurm.Job{
					{Name: "a", JobID: "50", State: slurm.Pending, Submit: time.Unix(100, 0)},
					{Name: "a", JobID: tt.other, State: slurm.Pending, Submit: time.Unix(tt.when, 0)},
				}
				slices.SortFunc(c.jobs, func(a, b slurm.Job) int { return a.Submit.Compare(b.Submit) })
				return slurm.Receipt{JobID: "50"}, nil
			}
			twins, notes := 0, 0
			got, err := slurm.SubmitOnce(t.Context(), c, slurm.Submission{ScriptPath: "/x", JobName: "a"}, slurm.Journal{
				Twin:      func(context.Context, slurm.Job) error { twins++; return nil },
				Submitted: func(context.Context, slurm.Receipt) error { notes++; return nil },
			}, slurm.OnceOptions{})
			if err != nil || got.JobID != tt.keep || twins != 1 || notes != tt.notes || !slices.Equal(c.gone, []string{tt.gone}) {
				t.Errorf("job %q, %d twins, %d notes, cancelled %q, %v", got.JobID, twins, notes, c.gone, err)
			}
		})
	}
}

func TestSubmitOnceJournalFails(t *testing.T) {
	t.Parallel()
	full := errors.New("disk full")
	c := &cluster{submit: func(int) (slurm.Receipt, error) { return slurm.Receipt{JobID: "50"}, nil }}
	_, err := slurm.SubmitOnce(t.Context(), c, slurm.Submission{ScriptPath: "/x", JobName: "a"},
		slurm.Journal{Intent: func(context.Context) error { return full }}, slurm.OnceOptions{})
	if !errors.Is(err, full) || c.tries != 0 {
		t.Errorf("submitted %d times without an intent on disk: %v", c.tries, err)
	}
	got, err := slurm.SubmitOnce(t.Context(), c, slurm.Submission{ScriptPath: "/x", JobName: "a"},
		slurm.Journal{Submitted: func(context.Context, slurm.Receipt) error { return full }}, slurm.OnceOptions{})
	if !errors.Is(err, full) || got.JobID != "50" {
		t.Errorf("a made job was not reported: %q, %v", got.JobID, err)
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

func TestPreflight(t *testing.T) {
	t.Parallel()
	test := answer{err: string(read(t, "25.11", "sb_test.err"))}
	run := &script{reply: func(tool string, c proc.Cmd) answer {
		if tool == "scontrol" {
			return answer{out: string(read(t, "22.05", "part.out"))}
		}
		return test
	}}
	client := slurm.New(slurm.Config{Runner: run})
	for name, tt := range map[string]struct {
		h    slurm.Header
		want string
	}{
		"fine":                {slurm.Header{Partition: "gpu", GPUs: 4, Nodes: 4, Time: 48 * time.Hour}, ""},
		"default partition":   {slurm.Header{Nodes: 2}, ""},
		"no such partition":   {slurm.Header{Partition: "nope"}, "partition!"},
		"down":                {slurm.Header{Partition: "down", Time: time.Minute}, "partition"},
		"too long":            {slurm.Header{Partition: "short", Time: 61 * time.Second}, "time!"},
		"just as long":        {slurm.Header{Partition: "short", Time: 60 * time.Second}, ""},
		"too many nodes":      {slurm.Header{Partition: "cpu", Nodes: 5}, "nodes!"},
		"no GPUs there":       {slurm.Header{Partition: "cpu", GPUs: 1}, "gpus"},
		"a list, one serves":  {slurm.Header{Partition: "short,cpu", Time: time.Hour}, "time"},
		"a list, none serves": {slurm.Header{Partition: "short,nope", Time: time.Hour}, "time! partition!"},
		"a header of our own": {slurm.Header{Mem: "lots"}, "header!"},
	} {
		tt.h.Output = "/x"
		got, err := client.Preflight(t.Context(), tt.h)
		var words []string
		for _, p := range got {
			w := p.Field
			if p.Fatal {
				w += "!"
			}
			words = append(words, w)
		}
		if s := strings.Join(words, " "); s != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", name, s, err, tt.want)
		}
	}
	test = answer{code: 1, err: "allocation failure: Requested node configuration is not available"}
	got, err := client.Preflight(t.Context(), slurm.Header{Output: "/x"})
	if err != nil || len(got) != 1 || got[0].Field != "job" || got[0].Message != "Requested node configuration is not available" || got[0].Advice == "" {
		t.Errorf("%+v, %v", got, err)
	}
	test = answer{code: 1, err: awayText}
	if _, err := client.Preflight(t.Context(), slurm.Header{Output: "/x"}); !errors.Is(err, slurm.ErrAway) {
		t.Errorf("away: %v", err)
	}
}

func TestCapabilitiesAndPing(t *testing.T) {
	t.Parallel()
	ping := answer{out: "Slurmctld(primary) at login1 is UP\n"}
	run := &script{reply: func(tool string, c proc.Cmd) answer {
		switch {
		case tool == "sbatch":
			return answer{out: "slurm-wlm 22.05.8\n"}
		case c.Args[0] == "ping":
			return ping
		}
		return answer{out: string(read(t, "22.05", "config.out"))}
	}}
	client := slurm.New(slurm.Config{Runner: run})
	caps, err := client.Capabilities(t.Context())
	if err != nil || caps.Version != "22.05.8" || caps.MaxArraySize != 1001 {
		t.Errorf("%+v, %v", caps, err)
	}
	if err := client.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	ping = answer{out: "Slurmctld(primary) at login1 is DOWN\n", code: 1}
	if err := client.Ping(t.Context()); !errors.Is(err, slurm.ErrAway) {
		t.Errorf("down: %v", err)
	}
	ping = answer{code: -1, fail: proc.ErrNotFound}
	if err := client.Ping(t.Context()); !errors.Is(err, slurm.ErrMissing) {
		t.Errorf("missing: %v", err)
	}
}

func TestInterval(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pace  slurm.Pace
		state slurm.State
		age   time.Duration
		n     int
		want  time.Duration
	}{
		{slurm.Pace{}, slurm.Pending, 0, 0, 5 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, 1, 10 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, 2, 20 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, 3, 30 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, 1000, 30 * time.Second},
		{slurm.Pace{}, slurm.Pending, 0, -1, 5 * time.Second},
		{slurm.Pace{}, slurm.Running, time.Second, 9, 5 * time.Second},
		{slurm.Pace{}, slurm.Running, time.Minute, 9, 30 * time.Second},
		{slurm.Pace{}, slurm.Completing, time.Hour, 9, 5 * time.Second},
		{slurm.Pace{}, "", 0, 0, 5 * time.Second},
		{slurm.Pace{Min: 10 * time.Second}, slurm.Pending, 0, 0, 10 * time.Second},
		{slurm.Pace{Min: 10 * time.Second}, slurm.Pending, 0, 2, 20 * time.Second},
		{slurm.Pace{Min: time.Minute}, slurm.Pending, 0, 3, time.Minute},
		{slurm.Pace{Min: time.Second}, slurm.Pending, 0, 0, time.Second},
		{slurm.Pace{Min: time.Second}, slurm.Pending, 0, 3, 6 * time.Second},
		{slurm.Pace{Min: time.Second, Max: time.Second}, slurm.Pending, 0, 3, time.Second},
	} {
		if got := tt.pace.Interval(tt.state, tt.age, tt.n); got != tt.want {
			t.Errorf("%+v %s %s %d: %s, want %s", tt.pace, tt.state, tt.age, tt.n, got, tt.want)
		}
	}
	if slurm.Interval(slurm.Pending, 0, 1) != 10*time.Second {
		t.Error("the function differs from the zero pace")
	}
	for r, want := range map[float64]time.Duration{0: 10 * time.Second, 0.5: 11 * time.Second, 1: 12 * time.Second, -3: 10 * time.Second, 9: 12 * time.Second} {
		if got := slurm.Jitter(10*time.Second, r); got != want {
			t.Errorf("jitter %g: %s, want %s", r, got, want)
		}
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
