package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/table"
	"aifbench/pkg/services"
	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
)

type stopOptions struct {
	service  string
	run      string
	noWait   bool
	keepData bool
	timeout  time.Duration
}

func newStopCmd(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "stop SERVICE|all",
		Short: "End the jobs of a service and remove what their runs own",
		Long: `Asks the jobs to end, verifies that they ended, then removes the paths the runs
own: data directories, never logs, samples or results. Nothing to stop is success.

Exit status: 0 all ended; 8 the scheduler does not answer; 10 a path is not the
run's own and was left; 124 not ended in time.`,
	}
	for _, name := range append(services.Names(), "all") {
		o := &stopOptions{service: name}
		sub := &cobra.Command{
			Use:   name,
			Short: "Stop " + name,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if o.timeout <= 0 {
					return usage("--timeout must be above 0", "e.g. --timeout 2m")
				}
				return runStop(cmd.Context(), a, o)
			},
		}
		f := sub.Flags()
		f.StringVar(&o.run, "run", "", "stop this run only")
		f.BoolVar(&o.noWait, "no-wait", false, "ask and return; data is removed by a later stop")
		f.BoolVar(&o.keepData, "keep-data", false, "keep the directories the run owns")
		f.DurationVar(&o.timeout, "timeout", 5*time.Minute, "how long to wait for the end")
		cmd.AddCommand(sub)
	}
	return cmd
}

// stopRow is one stopped run.
type stopRow struct {
	Run     string   `json:"run"`
	Service string   `json:"service"`
	JobID   string   `json:"job_id"`
	State   string   `json:"state"`
	Cause   string   `json:"cause"`
	Ended   bool     `json:"ended"`
	Removed []string `json:"removed"`
	Kept    []string `json:"kept"`
	Problem string   `json:"problem,omitempty"`
}

type stopDoc struct {
	SchemaVersion int       `json:"schema_version"`
	Kind          string    `json:"kind"`
	Runs          []stopRow `json:"runs"`
}

func runStop(ctx context.Context, a *app, o *stopOptions) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	s, err := a.site(nil)
	if err != nil {
		return err
	}
	dirs, err := a.toStop(st, o)
	if err != nil {
		return err
	}
	bound := o.timeout
	if o.noWait {
		bound = min(bound, time.Minute)
	}
	// scancel is repeated while the controller is away: not for ever.
	askCtx, cancel := context.WithTimeout(ctx, bound)
	views, err := a.requestStop(askCtx, st, s, dirs)
	cancel()
	if err != nil {
		return err
	}
	code := exitOK
	if !o.noWait {
		if views, code, err = a.awaitEnd(ctx, st, s, dirs, o.timeout); err != nil {
			return err
		}
	}
	doc := stopDoc{SchemaVersion: 1, Kind: "stop", Runs: []stopRow{}}
	var errs []error
	for _, v := range views {
		r, err := a.finishStop(st, v, o)
		errs = append(errs, err)
		doc.Runs = append(doc.Runs, r)
	}
	if err := a.emit(doc, func() *table.Table { return stopTable(doc.Runs) }); err != nil {
		return err
	}
	if err := errors.Join(errs...); err != nil {
		f := classify(ctx, err)
		a.warn("%v", err)
		code = weigh(code, f.code)
	}
	if code != exitOK {
		return &silent{code}
	}
	return nil
}

// toStop chooses the runs that may hold a job, data, or a measurement.
func (a *app) toStop(st runs.Store, o *stopOptions) ([]runs.Dir, error) {
	if o.run != "" {
		d, err := st.Resolve(o.run)
		if err != nil {
			return nil, err
		}
		if o.service != "all" && d.Intent.Service != o.service {
			return nil, usage(fmt.Sprintf("run %s is of %s, not %s", d.ID(), d.Intent.Service, o.service), "aifbench stop "+d.Intent.Service+" --run "+d.ID())
		}
		out := []runs.Dir{d}
		all, _, err := st.List()
		if err != nil {
			return nil, err
		}
		for _, b := range all {
			// What loads the run must have ended before its data goes.
			if b.Intent.Target == d.ID() && b.State().Live() {
				out = append(out, b)
			}
		}
		return out, nil
	}
	all, damaged, err := st.List()
	if err != nil {
		return nil, err
	}
	for _, bad := range damaged {
		a.warn("%v: not touched", bad.Err)
	}
	var out []runs.Dir
	for _, d := range all {
		if o.service != "all" && d.Intent.Service != o.service {
			continue
		}
		if s := d.State(); !s.Ended && (s.Refused == "" || len(d.Intent.OwnedPaths) > 0) {
			out = append(out, d)
		}
	}
	return out, nil
}

// requestStop asks every job to end. The request is in the journal before the
// scheduler hears of it, so that the supervisor can tell a stop from a time limit.
func (a *app) requestStop(ctx context.Context, st runs.Store, s siteOf, dirs []runs.Dir) ([]view, error) {
	views := a.look(ctx, st, s, dirs)
	ids := map[string][]string{}
	for _, v := range views {
		if v.state.StopRequested.IsZero() {
			if err := v.dir.Append(a.now(), runs.Event{Kind: runs.EventStopRequested}); err != nil {
				return nil, err
			}
		}
		if v.dir.Intent.Verb == "bench" && !a.jobGone(v) {
			if err := askGenerator(v.dir, "stop"); err != nil {
				return nil, err
			}
		}
		if v.state.JobID != "" && !v.state.JobEnded {
			ids[v.dir.Intent.Scheduler] = append(ids[v.dir.Intent.Scheduler], v.state.JobID)
		}
	}
	for kind, list := range ids {
		sched, err := a.scheduler(kind, s.Profile, st)
		if err != nil {
			return nil, err
		}
		if err := sched.Cancel(ctx, list); err != nil {
			return nil, fmt.Errorf("stop jobs: %w", err)
		}
	}
	return views, nil
}

// jobGone tells that nothing of a run can still run.
func (a *app) jobGone(v view) bool {
	switch {
	case v.state.JobEnded || v.state.Ended || v.state.Refused != "":
		return true
	case v.dir.Intent.JobName == "":
		return a.generatorGone(v)
	case v.state.JobID != "" || v.obsErr != nil:
		return false
	case !v.state.Prepared:
		return true
	}
	// The scheduler was asked and knows no such name, but a submission may be
	// on its way: sbatch may take minutes, and a hung controller makes the job
	// when it wakes.
	settle := 4 * time.Minute
	if v.dir.Intent.Scheduler == site.SchedulerLocal {
		settle = 5 * time.Second
	}
	return a.now().Sub(v.state.PreparedAt) > settle
}

// generatorGone tells that a generator without a job of its own has ended, or
// can no longer begin.
func (a *app) generatorGone(v view) bool {
	if v.lost != "" {
		return true
	}
	if _, err := os.Stat(v.dir.File(runs.ResultFile)); err == nil {
		return true
	}
	sent, _ := v.sentinel()
	switch {
	case sent == nil:
		return v.dir.Intent.Where == whereHere || v.dir.Intent.Where == ""
	case sent.Phase == runs.SentinelEnded || sent.Phase == runs.SentinelTruncated:
		return true
	}
	return v.dir.Intent.Where == whereHere && v.dir.Intent.Host == a.hostname && runs.ProcessStart(sent.PID) == 0
}

func (a *app) awaitEnd(ctx context.Context, st runs.Store, s siteOf, dirs []runs.Dir, timeout time.Duration) ([]view, int, error) {
	deadline := a.now().Add(timeout)
	pace := newPace(a, s)
	for {
		views := a.look(ctx, st, s, dirs)
		var open []view
		for _, v := range views {
			if !a.jobGone(v) {
				open = append(open, v)
			}
		}
		if len(open) == 0 {
			return views, exitOK, nil
		}
		if ctx.Err() != nil {
			return views, exitInternal, context.Cause(ctx)
		}
		if !a.now().Before(deadline) {
			code := exitTimeout
			if open[0].obsErr != nil {
				code = exitInfra
				a.warn("the scheduler does not answer: %v", open[0].obsErr)
			}
			return views, code, nil
		}
		if err := sleep(ctx, min(pace.floor, max(deadline.Sub(a.now()), 0))); err != nil {
			return views, exitInternal, err
		}
	}
}

// finishStop removes what an ended run owns and closes its journal.
func (a *app) finishStop(st runs.Store, v view, o *stopOptions) (stopRow, error) {
	r := stopRow{
		Run: v.dir.ID(), Service: v.dir.Intent.Service, JobID: v.state.JobID, State: v.state.SchedState, Cause: v.state.Cause,
		Ended: a.jobGone(v), Removed: []string{}, Kept: []string{},
	}
	if !r.Ended {
		r.Problem = "not ended yet; run the same command again"
		return r, nil
	}
	var errs []error
	for _, p := range v.dir.Intent.OwnedPaths {
		_, statErr := os.Lstat(p)
		switch {
		case errors.Is(statErr, os.ErrNotExist):
		case o.keepData:
			r.Kept = append(r.Kept, p)
		default:
			if err := runs.RemoveOwned(p, v.dir.Intent.Nonce); err != nil {
				errs = append(errs, err)
				r.Kept = append(r.Kept, p)
			} else {
				r.Removed = append(r.Removed, p)
			}
		}
	}
	// What a killed supervisor could not take back.
	for _, leftover := range []string{v.dir.File(runs.EndpointFile)} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if entries, err := os.ReadDir(v.dir.File(runs.DoorsDir)); err == nil {
		for _, e := range entries {
			if err := os.Remove(v.dir.File(runs.DoorsDir, e.Name())); !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	if !v.state.Ended && len(errs) == 0 {
		e := runs.Event{Kind: runs.EventEnded, State: v.state.SchedState}
		if v.state.Cause == "" {
			e.Cause = string(slurm.CauseCancelled) // else the true cause stays
		}
		errs = append(errs, v.dir.Append(a.now(), e))
	}
	if v.dir.Intent.Verb == "start" {
		claim := v.dir.Intent.Site + "-" + v.dir.Intent.Service + "-" + v.dir.Intent.ParamsHash
		errs = append(errs, st.BreakClaim(claim, v.dir.ID()), st.BreakClaim(claim+"-"+v.dir.Intent.Nonce, v.dir.ID()))
	}
	err := errors.Join(errs...)
	if err != nil {
		r.Problem = err.Error()
	}
	if r.State == "" {
		r.State = stateStopped
	}
	return r, err
}

func stopTable(rows []stopRow) *table.Table {
	t := table.New("run", "job", "state", "ended", "removed", "kept", "problem")
	for _, r := range rows {
		t.Row(r.Run, dash(r.JobID), dash(r.State), r.Ended, len(r.Removed), len(r.Kept), dash(r.Problem))
	}
	if len(rows) == 0 {
		t.Note("nothing to stop")
	}
	return t
}
