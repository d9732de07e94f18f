package slurm_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aifbench/pkg/slurm"
)

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
		wait   time.Duration // the patience
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
		"away until the patience ends": {
			c:     &cluster{submit: fails(9), away: func(d time.Duration) bool { return d != 30*time.Second }},
			tries: 1, events: "intent doubtful", want: "doubtful", took: 150 * time.Second, wait: 2 * time.Minute,
		},
		"never twice more": {c: &cluster{submit: fails(9)}, tries: 2, events: "intent doubtful doubtful", want: "doubtful", took: 2 * time.Minute},
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
				}, slurm.OnceOptions{Resume: tt.resume, Patience: tt.wait})
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
