package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	runs "aifbench/pkg/services/run"
	"aifbench/pkg/slurm"
)

// launch makes exactly one run of the parameters: it takes the claim, or
// reports the run that holds it, finishing what a killed shell began.
func (a *app) launch(ctx context.Context, st runs.Store, s siteOf, o *startOptions, d *draft) (runs.Dir, bool, error) {
	claim := s.Name + "-" + o.service.Name + "-" + d.intent.ParamsHash
	if o.fresh {
		claim += "-" + d.intent.Nonce
	}
	for {
		_, err := st.TakeClaim(claim, d.intent.ID, a.now())
		if err == nil {
			if twin, ok := a.liveTwin(ctx, st, s, d, o.fresh); ok {
				return twin, true, st.BreakClaim(claim, d.intent.ID)
			}
			dir, err := a.prepare(st, s, d)
			if err == nil {
				err = a.keepClaim(st, dir, claim)
			}
			if err == nil {
				err = a.submit(ctx, st, s, dir, d.header, false)
			}
			// A claim is given back only when there is certainly no job.
			if err != nil && !errors.Is(err, slurm.ErrDoubtful) && (dir.Path == "" || dir.State().JobID == "" && !errors.Is(err, errJobMade)) {
				err = errors.Join(err, st.BreakClaim(claim, d.intent.ID))
			}
			return dir, false, err
		}
		held, ok := errors.AsType[*runs.ClaimedError](err)
		if !ok {
			return runs.Dir{}, false, err
		}
		dir, live, err := a.holder(ctx, st, s, held.Holder)
		if err != nil {
			return dir, false, err
		}
		if live {
			return dir, true, nil
		}
		if held.Holder.Run != "" {
			if err := st.BreakClaim(claim, held.Holder.Run); err != nil {
				return runs.Dir{}, false, err
			}
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return runs.Dir{}, false, err
		}
	}
}

// errJobMade: there is a job, and something after its submission went wrong.
var errJobMade = errors.New("the job was made")

// liveTwin finds a live run of the same parameters that holds no claim of this
// name: one that --new started, or whose claim was lost.
func (a *app) liveTwin(ctx context.Context, st runs.Store, s siteOf, d *draft, fresh bool) (runs.Dir, bool) {
	if fresh {
		return runs.Dir{}, false
	}
	all, _, err := st.List()
	if err != nil {
		return runs.Dir{}, false // prepare meets the same trouble and says so
	}
	var same []runs.Dir
	for _, r := range all {
		if r.Intent.Verb == "start" && r.Intent.ParamsHash == d.intent.ParamsHash && r.Intent.Site == s.Name && r.State().Live() {
			same = append(same, r)
		}
	}
	for _, v := range a.look(ctx, st, s, same) {
		if v.state.JobID != "" && a.holds(v) {
			return v.dir, true
		}
	}
	return runs.Dir{}, false
}

// holds tells whether a run with a job is still live: it may run, wait, be
// blocked in the queue, or be ready without a job.
func (a *app) holds(v view) bool {
	r := v.row(a.now())
	return !v.state.Ended && (!v.state.JobEnded || r.Ready)
}

// keepClaim makes sure, right before anything is submitted, that no other
// shell took this one for dead meanwhile.
func (a *app) keepClaim(st runs.Store, dir runs.Dir, claim string) error {
	holds, err := st.HoldsClaim(claim, dir.ID())
	if err == nil && holds {
		return nil
	}
	const why = "another shell took this start for dead and took it over"
	if err == nil {
		err = fail(exitInfra, "run", why, "run the same command again: it reports the live run")
	}
	return errors.Join(err, dir.Append(a.now(), runs.Event{Kind: runs.EventRefused, Message: why}))
}

// claimPatience is how long a claim without a run directory is believed when
// its holder cannot be seen.
const claimPatience = 3 * time.Minute

// holder decides whether the run behind a claim is live. A submission under
// way in another shell is waited for; one whose shell died is taken up.
func (a *app) holder(ctx context.Context, st runs.Store, s siteOf, h runs.Holder) (runs.Dir, bool, error) {
	if h.Run == "" {
		return runs.Dir{}, false, nil
	}
	first := a.now()
	for {
		dir, err := runs.Open(filepath.Join(st.RunsDir(), h.Run))
		working := a.alive(h, a.now().Sub(first))
		switch {
		case err != nil && working:
		case errors.Is(err, runs.ErrNotFound), errors.Is(err, runs.ErrDamaged):
			return dir, false, nil
		case err != nil:
			return dir, false, err
		default:
			state := dir.State()
			switch {
			case !state.Live():
				return dir, false, nil
			case state.JobID != "":
				return dir, a.holds(a.look(ctx, st, s, []runs.Dir{dir})[0]), nil
			case working:
			case !state.Prepared:
				return dir, false, dir.Append(a.now(), runs.Event{Kind: runs.EventRefused, Message: "the shell that started it ended before it submitted"})
			default:
				a.say("run %s: its shell ended while submitting; looking the job up", dir.ID())
				err := a.submit(ctx, st, s, dir, slurm.Header{}, true)
				return dir, err == nil, err
			}
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return dir, false, err
		}
	}
}

// alive tells whether the shell that took a claim may still be at work. One on
// another host cannot be seen, and its clock may be off, so it is watched for
// as long as it may need; a claim of an hour ago is old by any clock.
func (a *app) alive(h runs.Holder, watched time.Duration) bool {
	if h.Host != a.hostname {
		return watched < claimPatience && a.now().Sub(h.Time) < time.Hour
	}
	started := runs.ProcessStart(h.PID)
	return started != 0 && (h.Started == 0 || started == h.Started)
}

// prepare writes the run directory: everything the job needs, before sbatch.
func (a *app) prepare(st runs.Store, s siteOf, d *draft) (dir runs.Dir, err error) {
	if err := a.installBinary(d.intent.Binary.Path); err != nil {
		return runs.Dir{}, err
	}
	dir, err = st.Create(d.intent)
	if err != nil {
		return runs.Dir{}, err
	}
	// Half a run would be reported for ever, and nothing of it was submitted.
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir.Path))
			dir = runs.Dir{}
		}
	}()
	for name, text := range d.scripts {
		if err := runs.WriteExecutable(dir.File(name), text); err != nil {
			return dir, err
		}
	}
	if err := runs.WriteJSON(dir.File(runs.PlanFile), d.Plan); err != nil {
		return dir, err
	}
	return dir, runs.WriteFile(dir.File(runs.ScriptFile), d.script)
}

// submitPatience is how long start asks a scheduler that does not answer whether
// it has the job. After it the exit code is 8, the run stays, and the next start
// looks the job up before it submits.
const submitPatience = 2 * time.Minute

// submit hands the script to the scheduler exactly once and journals every step.
func (a *app) submit(ctx context.Context, st runs.Store, s siteOf, dir runs.Dir, h slurm.Header, resume bool) error {
	sched, err := a.scheduler(dir.Intent.Scheduler, s.Profile, st)
	if err != nil {
		return err
	}
	if c, ok := sched.(*slurm.Client); ok && !resume {
		if err := a.preflight(ctx, c, dir, h); err != nil {
			return err
		}
	}
	note := func(e runs.Event) error { return dir.Append(a.now(), e) }
	receipt, err := slurm.SubmitOnce(ctx, stoppable{sched, dir}, slurm.Submission{ScriptPath: dir.File(runs.ScriptFile), JobName: dir.Intent.JobName, Dir: dir.Path}, slurm.Journal{
		Intent: func(context.Context) error { return note(runs.Event{Kind: runs.EventIntent}) },
		Submitted: func(_ context.Context, r slurm.Receipt) error {
			return note(runs.Event{Kind: runs.EventSubmitted, JobID: r.JobID, Cluster: r.Cluster})
		},
		Doubtful: func(_ context.Context, why error) error {
			a.warn("submission unconfirmed, looking the job up by name: %v", why)
			return note(runs.Event{Kind: runs.EventDoubtful, Message: why.Error()})
		},
		Twin: func(_ context.Context, j slurm.Job) error {
			a.warn("a second job %s of the same run is cancelled", j.JobID)
			return nil
		},
	}, slurm.OnceOptions{Resume: resume, Patience: submitPatience, Now: a.now})
	switch {
	case receipt.JobID != "" && err != nil:
		// There is a job: what failed is a note about it, or a look at twins.
		if dir.State().JobID == "" {
			if nerr := note(runs.Event{Kind: runs.EventSubmitted, JobID: receipt.JobID, Cluster: receipt.Cluster}); nerr != nil {
				return &failure{
					code: exitInfra, layer: "storage", message: fmt.Sprintf("job %s was made and could not be noted", receipt.JobID), cause: errors.Join(errJobMade, err, nerr),
					evidence: dir.Path, advice: "make room, then run the same command again: it finds the job by its name",
				}
			}
		}
		a.warn("job %s: %v", receipt.JobID, err)
		err = nil
	case err != nil && !errors.Is(err, slurm.ErrDoubtful):
		return errors.Join(err, note(runs.Event{Kind: runs.EventRefused, Message: err.Error()}))
	case err != nil:
		return err
	}
	if s := dir.State(); !s.StopRequested.IsZero() {
		// A stop that came while sbatch ran could not know the job.
		err = fail(exitRefused, "run", "run "+dir.ID()+" was stopped while it was submitted", "start it again if it is wanted")
		return errors.Join(err, sched.Cancel(ctx, []string{receipt.JobID}))
	}
	return err
}

// stoppable submits nothing for a run that a user stopped meanwhile.
type stoppable struct {
	scheduler
	dir runs.Dir
}

func (s stoppable) Submit(ctx context.Context, sub slurm.Submission) (slurm.Receipt, error) {
	if !s.dir.State().StopRequested.IsZero() {
		return slurm.Receipt{}, &slurm.Refused{Reason: "the run was stopped before it was submitted", Advice: "start it again if it is wanted"}
	}
	return s.scheduler.Submit(ctx, sub)
}

// preflight catches what would be accepted and never run.
func (a *app) preflight(ctx context.Context, c *slurm.Client, dir runs.Dir, h slurm.Header) error {
	problems, err := c.Preflight(ctx, h)
	if err != nil {
		a.warn("preflight skipped: %v", err)
		return nil
	}
	for _, p := range problems {
		if p.Fatal {
			f := &failure{code: exitRefused, layer: "scheduler", message: "the scheduler would never run it: " + p.Message, advice: p.Advice}
			return errors.Join(f, dir.Append(a.now(), runs.Event{Kind: runs.EventRefused, Message: p.Message}))
		}
		a.warn("%s", p.Message)
	}
	return nil
}
