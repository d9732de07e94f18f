package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/result"
	"aifbench/pkg/metrics/table"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
)

// States a run can be waited for.
const (
	untilReady = "ready"
	untilEnded = "ended"
)

type waitOptions struct {
	until   string
	timeout time.Duration
	strict  bool
}

func newWaitCmd(a *app) *cobra.Command {
	o := &waitOptions{}
	cmd := &cobra.Command{
		Use:   "wait RUN",
		Short: "Wait until a run is ready or has ended",
		Long: `Waits for a state, politely: the pause between two looks grows while nothing
changes. RUN is an id, a unique prefix, a directory or a service (its latest run).
A bench run is waited for to its end and then judged, gates included.

Exit status: 0 the state is reached (a bench: valid, gates passed); 6, 7, 9 from
the bench's verdict and gates; 9 the job ended before it was ready; 124 timed out.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runWait(cmd.Context(), a, o, args[0]) },
	}
	enumFlag(cmd, &o.until, "for", "", untilReady, "state to wait for; a bench run is always waited for to its end", []string{untilReady, untilEnded})
	cmd.Flags().DurationVar(&o.timeout, "timeout", time.Hour, "give up after this time (exit 124); the run goes on")
	cmd.Flags().BoolVar(&o.strict, "strict", false, "a client-limited result counts as failed")
	return cmd
}

func runWait(ctx context.Context, a *app, o *waitOptions, ref string) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	s, err := a.site(nil)
	if err != nil {
		return err
	}
	dir, err := st.Resolve(ref)
	if err != nil {
		return err
	}
	until := o.until
	if dir.Intent.Verb == "bench" {
		until = untilReady // a bench is ready when its result is there
	}
	r, code, err := a.await(ctx, st, s, dir, until, o.timeout)
	if err != nil {
		return err
	}
	if code == exitTimeout {
		return a.waitFailure(dir, r, code, o.timeout)
	}
	if dir.Intent.Verb == "bench" {
		if res, rerr := result.Read(dir.File(runs.ResultFile)); rerr == nil {
			if err := a.printResult(res); err != nil {
				return err
			}
			a.explain(res)
			if code = verdictCode(res, o.strict); code != exitOK {
				return &silent{code}
			}
			return nil
		}
	}
	if code != exitOK {
		return a.waitFailure(dir, r, code, o.timeout)
	}
	return a.emit(checkDoc{SchemaVersion: 1, Kind: "wait", Runs: []row{r}}, func() *table.Table { return rowsTable([]row{r}) })
}

// await looks at a run until it is in the wanted state, ended, or time is up.
// The code is 0, 9, or 124; trouble with the scheduler is waited through.
func (a *app) await(ctx context.Context, st runs.Store, s siteOf, dir runs.Dir, until string, timeout time.Duration) (row, int, error) {
	deadline := a.now().Add(timeout)
	w := a.watcher(st, s)
	dirs := []runs.Dir{dir}
	if service, ok := serviceOf(st, dir); ok {
		dirs = append(dirs, service)
	}
	for {
		views := w.look(ctx, dirs)
		v := views[0]
		r := v.row(a.now())
		over := r.State == stateStopped || v.state.Ended
		switch {
		case until == untilReady && r.Ready:
			return r, exitOK, nil
		case until == untilEnded && (over || r.Code == exitBad || (dir.Intent.Verb == "bench" && r.Ready)):
			return r, exitOK, nil
		case until == untilReady && over:
			return r, exitBad, nil
		case r.Code == exitBad:
			return r, exitBad, nil
		}
		if len(views) > 1 && !r.Ready {
			if err := a.besideFailed(dir, views[1]); err != nil {
				return r, exitBad, err
			}
		}
		left := deadline.Sub(a.now())
		if left <= 0 {
			return r, exitTimeout, nil
		}
		if err := w.pause(ctx, dir, left); err != nil {
			return r, exitInternal, err
		}
	}
}

// pause sleeps, but looks at the run's directory on the way: a file that
// appears there costs the scheduler nothing.
func (a *app) pause(ctx context.Context, dir runs.Dir, d time.Duration) error {
	before := stamp(dir)
	for end := a.now().Add(d); ; {
		left := end.Sub(a.now())
		if left <= 0 {
			return nil
		}
		if err := sleep(ctx, min(left, 250*time.Millisecond)); err != nil {
			return err
		}
		if stamp(dir) != before {
			return nil
		}
	}
}

// pace grows the pause between two looks at the scheduler.
type pace struct {
	floor time.Duration
	last  string
	since time.Time
	now   func() time.Time
}

func newPace(a *app, s siteOf) *pace {
	floor, err := site.ParseDuration(s.Profile.PollMin)
	if err != nil || floor <= 0 {
		floor = 5 * time.Second
	}
	return &pace{floor: floor, since: a.now(), now: a.now}
}

func (p *pace) next(r row) time.Duration {
	if key := r.State + r.Reason; key != p.last {
		p.last, p.since = key, p.now()
	}
	d := p.floor
	if r.State == string(slurm.Pending) {
		// 5, 10, 20, 30 s as a pending job stays pending.
		for _, step := range []time.Duration{30 * time.Second, 2 * time.Minute, 10 * time.Minute} {
			if p.now().Sub(p.since) > step {
				d = min(2*d, 30*time.Second)
			}
		}
	}
	return d + rand.N(d/4+1)
}

// waitFailure is the error of a wait that did not reach its state.
func (a *app) waitFailure(dir runs.Dir, r row, code int, timeout time.Duration) error {
	f := &failure{code: code, layer: "run", evidence: dir.Path, retryable: code == exitTimeout}
	if code == exitTimeout {
		f.message = fmt.Sprintf("run %s is not ready after %s: %s %s", dir.ID(), timeout, r.State, r.Why)
		f.advice = "it goes on; `aifbench wait " + dir.ID() + "` waits again, `aifbench stop " + dir.Intent.Service + " --run " + dir.ID() + "` ends it"
		return f
	}
	f.message = fmt.Sprintf("run %s: %s: %s", dir.ID(), r.State, r.Why)
	f.advice = "`aifbench logs " + dir.ID() + "` shows its last lines"
	return f
}
