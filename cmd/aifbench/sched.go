package main

import (
	"context"
	"fmt"
	"path/filepath"

	runs "aifbench/pkg/services/run"
	"aifbench/pkg/services/site"
	"aifbench/pkg/slurm"
	"aifbench/pkg/slurm/local"
)

// scheduler is what the verbs need of Slurm or of the local scheduler.
type scheduler interface {
	slurm.Scheduler
	Observe(ctx context.Context, jobs []slurm.Ref) (map[string]slurm.Observation, []slurm.Warning, error)
}

// scheduler returns the scheduler of a site by the word in its profile.
func (a *app) scheduler(kind string, p site.Profile, st runs.Store) (scheduler, error) {
	if kind == site.SchedulerLocal {
		return local.New(local.Config{Root: filepath.Join(st.Home, "local"), Binary: a.self, Env: a.vars, Now: a.now})
	}
	env := a.vars
	if p.SlurmConf != "" {
		env = append(append([]string{}, env...), "SLURM_CONF="+p.SlurmConf)
	}
	return slurm.New(slurm.Config{Runner: a.runner, Env: env, Bin: p.SlurmBin, Now: a.now}), nil
}

// refOf is the reference by which a run's job is observed.
func refOf(d runs.Dir, s runs.State) slurm.Ref {
	after := s.SubmittedAt
	if after.IsZero() {
		after = d.Intent.Created
	}
	return slurm.Ref{Name: d.Intent.JobName, JobID: s.JobID, SubmittedAfter: after, AbsentSince: s.AbsentSince, BlockedSince: s.BlockedSince}
}

// view is a run with everything that is known about it now.
type view struct {
	dir      runs.Dir
	state    runs.State
	obs      *slurm.Observation // nil when the scheduler was not asked
	obsErr   error
	warnings []string
}

// look reads the journals of runs and asks the scheduler once for all that may
// hold a job. Changes are written to the journals.
func (a *app) look(ctx context.Context, st runs.Store, s siteOf, dirs []runs.Dir) []view {
	views := make([]view, len(dirs))
	groups := map[string][]int{}
	for i, d := range dirs {
		views[i] = view{dir: d, state: d.State()}
		if views[i].state.Live() && d.Intent.JobName != "" && views[i].state.Prepared && !jobOver(views[i]) {
			groups[d.Intent.Scheduler] = append(groups[d.Intent.Scheduler], i)
		}
	}
	for kind, members := range groups {
		sched, err := a.scheduler(kind, s.Profile, st)
		if err != nil {
			for _, i := range members {
				views[i].obsErr = err
			}
			continue
		}
		var refs []slurm.Ref
		for _, i := range members {
			if views[i].state.JobID == "" {
				continue
			}
			refs = append(refs, refOf(views[i].dir, views[i].state))
		}
		var seen map[string]slurm.Observation
		var warns []slurm.Warning
		if len(refs) > 0 {
			seen, warns, err = sched.Observe(ctx, refs)
		}
		for _, i := range members {
			v := &views[i]
			if v.state.JobID == "" {
				a.find(ctx, sched, v)
				continue
			}
			if err != nil {
				v.obsErr = err
				continue
			}
			for _, w := range warns {
				if w.Name == "" || w.Name == v.dir.Intent.JobName {
					v.warnings = append(v.warnings, w.Message)
				}
			}
			if o, ok := seen[v.dir.Intent.JobName]; ok {
				v.obs = &o
				a.note(v)
			}
		}
	}
	return views
}

// jobOver tells that the run's job was seen to end though the run itself goes
// on: a prepared data directory needs no job to be ready.
func jobOver(v view) bool { return v.state.JobEnded }

// find looks a run up whose submission was never confirmed.
func (a *app) find(ctx context.Context, sched scheduler, v *view) {
	jobs, err := sched.LookUp(ctx, []string{v.dir.Intent.JobName})
	if err != nil {
		v.obsErr = err
		return
	}
	if hits := jobs[v.dir.Intent.JobName]; len(hits) > 0 {
		if err := v.dir.Append(a.now(), runs.Event{Kind: runs.EventSubmitted, JobID: hits[0].JobID, Message: "found by name"}); err != nil {
			v.warnings = append(v.warnings, err.Error())
		}
		v.state = v.dir.State()
		o := slurm.Observation{Name: hits[0].Name, JobID: hits[0].JobID, Presence: slurm.Present, State: hits[0].State, Reason: hits[0].Reason, Nodes: hits[0].Nodes}
		if hits[0].State.Terminal() {
			o.Presence = slurm.Absent
		}
		v.obs = &o
	}
}

// note journals what changed since the last look.
func (a *app) note(v *view) {
	o := v.obs
	var e runs.Event
	switch {
	case o.Ended:
		e = runs.Event{Kind: runs.EventJobEnded, State: string(o.State), Cause: string(o.Cause), ExitCode: o.ExitCode, Node: o.Nodes, JobID: o.JobID}
		if o.CancelledBy != nil {
			e.Message = fmt.Sprintf("cancelled by uid %d", *o.CancelledBy)
		}
	case o.Presence == slurm.Present && (string(o.State) != v.state.SchedState || o.Reason != v.state.Reason || (o.Nodes != "" && o.Nodes != v.state.Node)):
		e = runs.Event{Kind: runs.EventObserved, State: string(o.State), Reason: o.Reason, Node: o.Nodes, Cause: string(o.Cause)}
	case o.Presence == slurm.Absent && v.state.AbsentSince.IsZero():
		e = runs.Event{Kind: runs.EventAbsent, State: string(o.State), Cause: string(o.Cause)}
	default:
		return
	}
	if err := v.dir.Append(a.now(), e); err != nil {
		v.warnings = append(v.warnings, err.Error())
		return
	}
	v.state = v.dir.State()
}
