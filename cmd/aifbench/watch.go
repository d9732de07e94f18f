package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	runs "aifbench/pkg/services/run"
	"aifbench/pkg/slurm"
)

// watcher looks at runs again and again. Their directories are read whenever
// something changed in them; the scheduler is asked on its own schedule only,
// however often a progress file is written.
type watcher struct {
	a    *app
	st   runs.Store
	s    siteOf
	pace *pace
	due  time.Time // when the scheduler may be asked again
	last []view
	ends []endMark // of last, as they were when the scheduler was asked
}

// endMark tells one endpoint of a run from the next.
type endMark struct {
	pid     int
	started time.Time
}

func (a *app) watcher(st runs.Store, s siteOf) *watcher {
	return &watcher{a: a, st: st, s: s, pace: newPace(a, s)}
}

// look judges the runs; the list must be the same each time.
func (w *watcher) look(ctx context.Context, dirs []runs.Dir) []view {
	if w.last == nil || !w.a.now().Before(w.due) {
		w.last = w.a.look(ctx, w.st, w.s, dirs)
		w.ends = make([]endMark, len(dirs))
		for i, d := range dirs {
			w.ends[i] = markOf(d)
		}
		lead := w.last[len(w.last)-1] // of a bench beside a service the service has the job
		w.due = w.a.now().Add(w.pace.next(lead.row(w.a.now())))
		return w.last
	}
	out := make([]view, len(dirs))
	for i, d := range dirs {
		out[i] = view{dir: d, state: d.State(), lost: w.a.lostBench(w.st, d), obs: w.last[i].obs, obsErr: w.last[i].obsErr}
		if markOf(d) != w.ends[i] {
			// The run has spoken since: its word is newer than the scheduler's.
			out[i].obs, out[i].obsErr = nil, nil
		}
	}
	return out
}

func markOf(d runs.Dir) endMark {
	ep, err := d.ReadEndpoint()
	if err != nil {
		return endMark{}
	}
	return endMark{ep.PID, ep.Started.UTC()}
}

// pause waits until the scheduler may be asked again, something is written
// into the run, or limit has passed.
func (w *watcher) pause(ctx context.Context, dir runs.Dir, limit time.Duration) error {
	return w.a.pause(ctx, dir, max(min(limit, w.due.Sub(w.a.now())), 10*time.Millisecond))
}

// lostBench says why a bench can no longer end, "" when it can.
func (a *app) lostBench(st runs.Store, d runs.Dir) string {
	if why := lostBeside(st, d); why != "" || d.Intent.Verb != "bench" || d.Intent.Where != whereHere {
		return why
	}
	list, _ := d.Sentinels()
	for _, s := range list {
		if s.Phase == runs.SentinelStarted && d.Intent.Host == a.hostname && runs.ProcessStart(s.PID) == 0 {
			return "its shell was killed before it could save"
		}
	}
	return ""
}

// answerPatience is how long a supervisor may leave a request unread.
const answerPatience = 90 * time.Second

// besideFailed tells when a bench beside a service can no longer end: the
// supervisor refused or lost the generator, does not take requests, or is gone.
func (a *app) besideFailed(dir runs.Dir, service view) error {
	lost := func(code int, why string) error {
		if _, err := os.Stat(dir.File(runs.ResultFile)); err == nil {
			return nil // it was saved after all
		}
		return &failure{
			code: code, layer: "engine", message: fmt.Sprintf("bench %s: %s", dir.ID(), why), evidence: dir.Path, retryable: code == exitInfra,
			advice: "`aifbench logs " + dir.ID() + "` and `aifbench logs " + service.dir.ID() + "` show the last lines",
		}
	}
	ans, err := service.dir.Answer(dir.ID())
	switch {
	case err == nil && ans.State == runs.AnswerFailed:
		return lost(exitBad, orWord(ans.Message, "the supervisor could not run the generator"))
	case err == nil && ans.State == runs.AnswerDone && ans.ExitCode != nil && *ans.ExitCode != 0:
		return lost(exitBad, fmt.Sprintf("the generator ended with code %d", *ans.ExitCode))
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	if a.jobGone(service) {
		return lost(exitBad, "the service's job ended while it was loaded: "+orWord(service.state.Cause, service.state.SchedState))
	}
	if err != nil && a.now().Sub(dir.Intent.Created) > answerPatience {
		// Withdrawn, so that nothing is measured behind the user's back.
		rerr := os.Remove(service.dir.File(runs.RequestsDir, dir.ID()+".json"))
		if errors.Is(rerr, os.ErrNotExist) {
			rerr = nil
		}
		return errors.Join(lost(exitInfra, fmt.Sprintf("the supervisor of %s has not taken the request for %s, though its job is not known to have ended", service.dir.ID(), answerPatience)), rerr)
	}
	return nil
}

// serviceOf is the run a bench beside it depends on; ok is false for others.
func serviceOf(st runs.Store, dir runs.Dir) (runs.Dir, bool) {
	if dir.Intent.Verb != "bench" || dir.Intent.Where != whereBeside {
		return runs.Dir{}, false
	}
	d, err := runs.Open(st.RunsDir() + string(os.PathSeparator) + dir.Intent.Target)
	return d, err == nil
}

// askToStop hands a signal of this shell on. A generator drains and saves; a
// job that has not started holds nothing to save and is cancelled.
func (a *app) askToStop(ctx context.Context, st runs.Store, s siteOf, v view) (over bool, err error) {
	word := "stop"
	if endedByTerm(ctx) {
		word = "term"
	}
	if err := askGenerator(v.dir, word); err != nil {
		return false, err
	}
	sent, _ := v.sentinel()
	if v.dir.Intent.JobName == "" || v.state.JobID == "" || sent != nil || v.state.SchedState == string(slurm.Running) {
		a.say("asked to stop: the generator drains and saves; a second signal kills this shell only")
		return false, nil
	}
	if err := v.dir.Append(a.now(), runs.Event{Kind: runs.EventStopRequested}); err != nil {
		return false, err
	}
	sched, err := a.scheduler(v.dir.Intent.Scheduler, s.Profile, st)
	if err != nil {
		return false, err
	}
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	a.say("job %s has not started: it is cancelled", v.state.JobID)
	return true, sched.Cancel(bound, []string{v.state.JobID})
}
