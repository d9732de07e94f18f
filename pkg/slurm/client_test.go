package slurm_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/proc"
)

// answer is what a scripted tool does.
type answer struct {
	out, err string
	code     int
	fail     error // the runner's own error
}

// script is a runner that answers by tool and keeps the commands it was given.
type script struct {
	mu    sync.Mutex
	calls []proc.Cmd
	reply func(tool string, c proc.Cmd) answer
}

func (s *script) Run(ctx context.Context, c proc.Cmd) (proc.Output, error) {
	s.mu.Lock()
	s.calls = append(s.calls, c)
	s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return proc.Output{Code: -1}, err
	}
	a := s.reply(filepath.Base(c.Name), c)
	return proc.Output{Stdout: []byte(a.out), Stderr: []byte(a.err), Code: a.code}, a.fail
}

// count counts the calls of a tool, --helpformat aside.
func (s *script) count(tool string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if filepath.Base(c.Name) == tool && !slices.Contains(c.Args, "--helpformat") {
			n++
		}
	}
	return n
}

func at(t time.Time) string { return fmt.Sprint(t.Unix()) }

const (
	awayText     = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"
	disabledText = "Slurm accounting storage is disabled\n"
	refusedText  = "sacct: error: Problem talking to the database: Connection refused\n"
)

// TestObserveManyInOneCall: however many jobs, one squeue and one sacct.
func TestObserveManyInOneCall(t *testing.T) {
	t.Parallel()
	var queue, acct strings.Builder
	var refs []slurm.Ref
	for i := 1; i <= 300; i++ {
		refs = append(refs, slurm.Ref{Name: fmt.Sprintf("job-%d", i), JobID: itoa(i)})
		if i%2 == 0 {
			fmt.Fprintf(&queue, "%d|%d|RUNNING|None|1000|1001|N/A|mel1|job-%d\n", i, i, i)
		} else {
			fmt.Fprintf(&acct, "%d|%d|COMPLETED|0:0|1000|1001|1002|0:0|mel1|None|job-%d\n", i, i, i)
		}
	}
	run := &script{reply: func(tool string, c proc.Cmd) answer {
		switch {
		case tool == "squeue":
			return answer{out: queue.String()}
		case slices.Contains(c.Args, "--helpformat"):
			return answer{out: string(read(t, "25.11", "sacct_help.out"))}
		}
		return answer{out: acct.String()}
	}}
	client := slurm.New(slurm.Config{Runner: run})
	got, warns, err := client.Observe(t.Context(), refs)
	if err != nil || len(warns) > 0 || len(got) != 300 {
		t.Fatalf("%d observations, %v, %v", len(got), warns, err)
	}
	for i := 1; i <= 300; i++ {
		if o := got[fmt.Sprintf("job-%d", i)]; o.Ended != (i%2 == 1) || o.Ended && !o.Succeeded() {
			t.Errorf("job %d: %+v", i, o)
		}
	}
	if run.count("squeue") != 1 || run.count("sacct") != 1 {
		t.Errorf("%d squeue, %d sacct", run.count("squeue"), run.count("sacct"))
	}
}

// TestObserveFromTheJournal: a one-shot command has no memory but its journal.
func TestObserveFromTheJournal(t *testing.T) {
	t.Parallel()
	now := time.Unix(100_000, 0)
	queue := ""
	run := &script{reply: func(tool string, c proc.Cmd) answer {
		switch tool {
		case "squeue":
			return answer{out: queue}
		case "sacct":
			if slices.Contains(c.Args, "--helpformat") {
				return answer{out: string(read(t, "22.05", "sacct_help.out"))}
			}
			return answer{out: "7|7|RUNNING|0:0|99000|99001|Unknown|0:0|mel1|None|job-a\n"}
		}
		return answer{code: 1}
	}}
	fresh := func(ref slurm.Ref) string {
		client := slurm.New(slurm.Config{Runner: run, Now: func() time.Time { return now }})
		got, _, err := client.Observe(t.Context(), []slurm.Ref{ref})
		if err != nil {
			t.Fatal(err)
		}
		return describe(got["job-a"])
	}
	ref := slurm.Ref{Name: "job-a", JobID: "7", SubmittedAfter: time.Unix(99_000, 0)}
	if got := fresh(ref); got != "absent RUNNING" {
		t.Errorf("first sight: %q", got)
	}
	ref.AbsentSince = now.Add(-2 * time.Minute)
	if got := fresh(ref); got != "absent RUNNING lost ended" {
		t.Errorf("absent for two minutes by the journal: %q", got)
	}
	queue = "7|7|PENDING|PartitionConfig|99000|N/A|N/A||job-a\n"
	ref = slurm.Ref{Name: "job-a", JobID: "7", BlockedSince: now.Add(-time.Minute)}
	if got := fresh(ref); got != "present PENDING blocked fatal" {
		t.Errorf("blocked by the journal: %q", got)
	}
	// Without an id the job can be seen, and never be declared gone.
	ref = slurm.Ref{Name: "job-a", AbsentSince: now.Add(-time.Hour)}
	if got := fresh(ref); got != "present PENDING fatal" {
		t.Errorf("without an id: %q", got)
	}
	queue = ""
	if got := fresh(ref); got != "absent" {
		t.Errorf("without an id, absent: %q", got)
	}
}

func TestObserveErrors(t *testing.T) {
	t.Parallel()
	run := &script{reply: func(string, proc.Cmd) answer {
		return answer{code: -1, fail: fmt.Errorf("find squeue: %w", proc.ErrNotFound)}
	}}
	client := slurm.New(slurm.Config{Runner: run})
	if _, _, err := client.Observe(t.Context(), []slurm.Ref{{Name: "a", JobID: "1"}}); !errors.Is(err, slurm.ErrMissing) {
		t.Errorf("no squeue: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := client.Observe(ctx, []slurm.Ref{{Name: "a", JobID: "1"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("context ended: %v", err)
	}
	n := len(run.calls)
	for _, ref := range []slurm.Ref{{Name: "a b", JobID: "1"}, {Name: "a", JobID: "1;rm"}, {Name: "", JobID: "1"}} {
		if _, _, err := client.Observe(t.Context(), []slurm.Ref{ref}); err == nil {
			t.Errorf("%+v accepted", ref)
		}
	}
	if _, _, err := client.Observe(t.Context(), nil); err != nil || len(run.calls) != n {
		t.Errorf("nothing to observe asked Slurm: %v", err)
	}
}

// TestEnvironment: what users export must not bend the commands, and what the
// client needs must not leak into the job.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	run := &script{reply: func(string, proc.Cmd) answer { return answer{out: "7\n"} }}
	client := slurm.New(slurm.Config{Runner: run, Bin: "/opt/x", Env: []string{
		"HOME=/home/a", "PATH=/usr/bin:/site", "SLURM_CONF=/etc/s.conf", "SBATCH_HOLD=1", "SQUEUE_STATES=PENDING", "SACCT_FORMAT=x",
		"SCANCEL_STATE=x", "SINFO_FORMAT=x", "SLURM_CLUSTERS=x", "SLURM_TIME_FORMAT=relative", "SLURM_JOB_ID=3", "SLURMD_NODENAME=n",
		"TZ=Asia/Tokyo", "LC_ALL=de_DE", "LANGUAGE=de", "HF_TOKEN=canary", "OPENAI_API_KEY=canary", "DB_PASSWORD=canary", "MONKEY=1", "broken",
	}})
	if _, _, err := client.Observe(t.Context(), []slurm.Ref{{Name: "a", JobID: "7"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Submit(t.Context(), slurm.Submission{ScriptPath: "/tmp/x", JobName: "a"}); err != nil {
		t.Fatal(err)
	}
	path := "PATH=/usr/bin:/site:/usr/local/bin:/bin:/opt/slurm/bin:/usr/local/slurm/bin:/opt/slurm/current/bin"
	wantRead := []string{
		"HOME=/home/a", "SLURM_CONF=/etc/s.conf", "HF_TOKEN=canary", "OPENAI_API_KEY=canary", "DB_PASSWORD=canary", "MONKEY=1", path,
		"SLURM_TIME_FORMAT=%s", "SLURM_BITSTR_LEN=0", "TZ=UTC", "LC_ALL=C",
	}
	wantSubmit := []string{"HOME=/home/a", "SLURM_CONF=/etc/s.conf", "TZ=Asia/Tokyo", "LC_ALL=de_DE", "LANGUAGE=de", "MONKEY=1", path}
	for _, c := range run.calls {
		want := wantRead
		if c.Name == "/opt/x/sbatch" {
			want = wantSubmit
		}
		if diff := cmp.Diff(want, c.Env); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.Name, diff)
		}
	}
	wantDeadline := map[string]time.Duration{"squeue": 30 * time.Second, "sacct": 60 * time.Second, "sbatch": 150 * time.Second}
	for _, c := range run.calls {
		if tool := filepath.Base(c.Name); c.Deadline != wantDeadline[tool] {
			t.Errorf("%s: deadline %s", tool, c.Deadline)
		}
	}
	last := run.calls[len(run.calls)-1]
	if diff := cmp.Diff([]string{"--parsable", "--job-name=a", "/tmp/x"}, last.Args); diff != "" || last.Dir != "/tmp" {
		t.Error(diff, last.Dir)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		answers []answer
		tries   int
		check   func(error) bool
	}{
		"accepted":        {[]answer{{}}, 1, func(err error) bool { return err == nil }},
		"controller away": {[]answer{{code: 8, err: awayText}, {code: 8, err: awayText}, {}}, 3, func(err error) bool { return err == nil }},
		"hung once":       {[]answer{{code: 143, fail: context.DeadlineExceeded}, {}}, 2, func(err error) bool { return err == nil }},
		"not ours": {[]answer{{code: 210, err: "scancel: error: Kill job error on job id 7: Access/permission denied"}}, 1, func(err error) bool {
			r, ok := errors.AsType[*slurm.Refused](err)
			return ok && r.Code == 210
		}},
		"missing": {[]answer{{code: -1, fail: proc.ErrNotFound}}, 1, func(err error) bool { return errors.Is(err, slurm.ErrMissing) }},
		"away for ever": {[]answer{{code: 8, err: awayText}}, 5, func(err error) bool {
			return errors.Is(err, slurm.ErrAway) && errors.Is(err, context.DeadlineExceeded)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n := 0
				run := &script{reply: func(string, proc.Cmd) answer {
					a := tt.answers[min(n, len(tt.answers)-1)]
					n++
					return a
				}}
				client := slurm.New(slurm.Config{Runner: run})
				ctx, stop := context.WithTimeout(t.Context(), 45*time.Second) // 0, 2, 6, 14, 30 s
				defer stop()
				if err := client.Cancel(ctx, []string{"7", "8_1"}); !tt.check(err) || n != tt.tries {
					t.Errorf("%d tries, %v", n, err)
				}
			})
		})
	}
	client := slurm.New(slurm.Config{Runner: &script{}})
	if err := client.Cancel(t.Context(), []string{"7", "-u"}); err == nil {
		t.Error("an option passed for a job id")
	}
	if err := client.Cancel(t.Context(), nil); err != nil {
		t.Errorf("nothing to cancel: %v", err)
	}
}
