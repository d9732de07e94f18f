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
	// lost says why a bench beside a service can no longer end, "" otherwise.
	lost string
}

// look reads the journals of runs and asks the scheduler once for all that may
// hold a job. Changes are written to the journals.
func (a *app) look(ctx context.Context, st runs.Store, s siteOf, dirs []runs.Dir) []view {
	views := make([]view, len(dirs))
	groups := map[string][]int{}
	for i, state := range runs.States(dirs) {
		d := dirs[i]
		views[i] = view{dir: d, state: state, lost: a.lostBench(st, d)}
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
		a.find(ctx, sched, views, members)
		for _, i := range members {
			v := &views[i]
			if v.state.JobID == "" || v.obs != nil {
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

// lostBeside tells whether the job that a bench runs in is known to be over.
// Its own run has no job to ask for.
func lostBeside(st runs.Store, d runs.Dir) string {
	if d.Intent.Verb != "bench" || d.Intent.Where != whereBeside {
		return ""
	}
	target, err := runs.Open(filepath.Join(st.RunsDir(), d.Intent.Target))
	if err != nil {
		return ""
	}
	if s := target.State(); s.JobEnded || s.Ended {
		return "the service's job ended while it was loaded: " + orWord(s.Cause, s.SchedState)
	}
	return ""
}

// jobOver tells that the run's job was seen to end though the run itself goes
// on: a prepared data directory needs no job to be ready.
func jobOver(v view) bool { return v.state.JobEnded }

// find looks up the runs whose submission was never confirmed, all in one call.
func (a *app) find(ctx context.Context, sched scheduler, views []view, members []int) {
	var names []string
	for _, i := range members {
		if views[i].state.JobID == "" {
			names = append(names, views[i].dir.Intent.JobName)
		}
	}
	if len(names) == 0 {
		return
	}
	jobs, err := sched.LookUp(ctx, names)
	for _, i := range members {
		v := &views[i]
		if v.state.JobID != "" {
			continue
		}
		hits := jobs[v.dir.Intent.JobName]
		if len(hits) == 0 {
			v.obsErr = err
			continue
		}
		hit := hits[0]
		for _, h := range hits {
			// A rejected sbatch leaves a FAILED record: the live job is the run's.
			if hit.State.Terminal() && !h.State.Terminal() {
				hit = h
			}
		}
		if err := v.dir.Append(a.now(), runs.Event{Kind: runs.EventSubmitted, JobID: hit.JobID, Message: "found by name"}); err != nil {
			v.warnings = append(v.warnings, err.Error())
		}
		v.state = v.dir.State()
		o := slurm.Observation{Name: hit.Name, JobID: hit.JobID, Presence: slurm.Present, State: hit.State, Reason: hit.Reason, Nodes: hit.Nodes}
		if hit.State.Terminal() {
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
	case o.Presence == slurm.Absent || o.State.Terminal():
		// Out of the queue, or about to be: from when on is what tells a late
		// record, or a requeue, from a lost job.
		if !v.state.AbsentSince.IsZero() {
			return
		}
		e = runs.Event{Kind: runs.EventAbsent, State: string(o.State), Reason: o.Reason}
	case o.Presence == slurm.Present && (string(o.State) != v.state.SchedState || o.Reason != v.state.Reason || !v.state.AbsentSince.IsZero() ||
		(o.ReasonKind == slurm.ReasonFatal) == v.state.BlockedSince.IsZero() || (o.Nodes != "" && o.Nodes != v.state.Node)):
		e = runs.Event{Kind: runs.EventObserved, State: string(o.State), Reason: o.Reason, Node: o.Nodes}
		if o.ReasonKind == slurm.ReasonFatal {
			// The first sight is noted, so that the next command has its second.
			e.Cause = string(slurm.CauseBlocked)
		}
	default:
		return
	}
	if err := v.dir.Append(a.now(), e); err != nil {
		v.warnings = append(v.warnings, err.Error())
		return
	}
	v.state = v.dir.State()
}
