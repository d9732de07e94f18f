package slurm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// Scheduler is what SubmitOnce needs. Client and local.Scheduler have it.
type Scheduler interface {
	Submit(ctx context.Context, s Submission) (Receipt, error)
	LookUp(ctx context.Context, names []string) (map[string][]Job, error)
	Cancel(ctx context.Context, ids []string) error
	Ping(ctx context.Context) error
}

// Journal are the notes SubmitOnce makes on the way. Intent must be durable
// when it returns; a nil function is skipped. An error of one ends SubmitOnce,
// except that a job already made is reported with it.
type Journal struct {
	Intent    func(ctx context.Context) error
	Submitted func(ctx context.Context, r Receipt) error
	// Doubtful is told why it is not known whether there is a job.
	Doubtful func(ctx context.Context, why error) error
	// Twin is told of a second job of the same name, before it is cancelled.
	Twin func(ctx context.Context, j Job) error
}

// OnceOptions tune SubmitOnce. The zero value suits a site that says nothing.
type OnceOptions struct {
	// Resume says that an intent without an id was found: look the name up
	// before anything is submitted, and note no second intent.
	Resume bool
	// Settle is how long a healthy scheduler must not know the name before it
	// counts as not submitted; 0 means 60 s. Use max(60 s, 2 MessageTimeout + 30 s).
	Settle time.Duration
	// Patience is how long in a row a scheduler that does not answer is asked
	// before SubmitOnce ends in doubt; 0 means until the context ends.
	Patience time.Duration
	// Poll is the pause between look-ups; 0 means 5 s.
	Poll time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// SubmitOnce submits a job so that exactly one exists whatever happens on the
// way: intent on disk, sbatch, and after any doubtful answer the name is looked
// up until it is found or a healthy scheduler has not known it for Settle; only
// then it is submitted a second and last time. Of two jobs of the name the
// younger is cancelled. When the context or the patience ends in doubt the error
// wraps ErrDoubtful, and a later call with Resume takes up from there.
func SubmitOnce(ctx context.Context, sched Scheduler, s Submission, j Journal, o OnceOptions) (Receipt, error) {
	o.Settle = cmp.Or(o.Settle, time.Minute)
	o.Poll = cmp.Or(o.Poll, 5*time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := s.Check(); err != nil {
		return Receipt{}, err
	}
	var doubt error
	if o.Resume {
		doubt = errors.New("an earlier submission was interrupted")
	} else if j.Intent != nil {
		if err := j.Intent(ctx); err != nil {
			return Receipt{}, fmt.Errorf("submit %s: note intent: %w", s.JobName, err)
		}
	}
	for try := 0; ; try++ {
		if doubt == nil {
			r, err := sched.Submit(ctx, s)
			if err == nil {
				if err := noted(ctx, j, r); err != nil || try == 0 {
					return r, err
				}
				return dropTwins(ctx, sched, r, s, j)
			}
			if !errors.Is(err, ErrDoubtful) {
				return Receipt{}, err
			}
			doubt = err
		}
		if j.Doubtful != nil {
			if err := j.Doubtful(context.WithoutCancel(ctx), doubt); err != nil {
				return Receipt{}, errors.Join(doubt, err)
			}
		}
		r, found, err := reconcile(ctx, sched, s, j, o)
		switch {
		case err != nil:
			if !errors.Is(doubt, ErrDoubtful) {
				doubt = fmt.Errorf("submit %s: %w: %w", s.JobName, ErrDoubtful, doubt)
			}
			return Receipt{}, fmt.Errorf("%w: %w", doubt, err)
		case found:
			return r, noted(ctx, j, r)
		case try > 0:
			return Receipt{}, fmt.Errorf("submit %s: no job after two attempts: %w: %w", s.JobName, ErrAway, doubt)
		}
		doubt = nil
	}
}

// dropTwins looks once for a job of the first, doubtful attempt that came late.
// The elder of the two stays, so the receipt may change.
func dropTwins(ctx context.Context, sched Scheduler, r Receipt, s Submission, j Journal) (Receipt, error) {
	jobs, err := sched.LookUp(ctx, []string{s.JobName})
	if err != nil {
		return r, fmt.Errorf("look for a twin of %s: %w", s.JobName, err)
	}
	if len(jobs[s.JobName]) < 2 {
		return r, nil
	}
	kept, err := keepEldest(ctx, sched, jobs[s.JobName], j)
	if err != nil || kept.JobID == r.JobID {
		return r, err
	}
	return kept, noted(ctx, j, kept)
}

// noted journals a receipt even when the context just ended: the job exists.
func noted(ctx context.Context, j Journal, r Receipt) error {
	if j.Submitted == nil {
		return nil
	}
	if err := j.Submitted(context.WithoutCancel(ctx), r); err != nil {
		return fmt.Errorf("note job %s: %w", r.JobID, err)
	}
	return nil
}

// reconcile looks the name up until it is found or surely unknown.
func reconcile(ctx context.Context, sched Scheduler, s Submission, j Journal, o OnceOptions) (Receipt, bool, error) {
	var healthy time.Time // since when the scheduler answers and knows no such job
	silent := o.Now()     // since when it does not answer
	for {
		jobs, err := sched.LookUp(ctx, []string{s.JobName})
		if hits := jobs[s.JobName]; len(hits) > 0 {
			r, err := keepEldest(ctx, sched, hits, j)
			return r, err == nil, err
		}
		if err == nil {
			err = sched.Ping(ctx)
		}
		now := o.Now()
		switch {
		case ctx.Err() != nil:
			return Receipt{}, false, context.Cause(ctx)
		case errors.Is(err, ErrMissing):
			return Receipt{}, false, err
		case err != nil && o.Patience > 0 && now.Sub(silent) >= o.Patience:
			return Receipt{}, false, err
		case err != nil:
			healthy = time.Time{}
		case healthy.IsZero():
			healthy = now
		case now.Sub(healthy) >= o.Settle:
			return Receipt{}, false, nil
		}
		if err == nil {
			silent = now
		}
		if err := sleep(ctx, o.Poll); err != nil {
			return Receipt{}, false, err
		}
	}
}

// keepEldest cancels the younger jobs of a name. Jobs that ended already need
// no cancelling, but a live one is kept before an ended one: a rejected sbatch
// leaves a FAILED record behind.
func keepEldest(ctx context.Context, sched Scheduler, hits []Job, j Journal) (Receipt, error) {
	keep := -1
	for i, job := range hits {
		if keep < 0 || hits[keep].State.Terminal() && !job.State.Terminal() {
			keep = i
		}
	}
	var twins []string
	for i, job := range hits {
		if i == keep || job.State.Terminal() {
			continue
		}
		if j.Twin != nil {
			if err := j.Twin(ctx, job); err != nil {
				return Receipt{}, fmt.Errorf("note twin job %s: %w", job.JobID, err)
			}
		}
		twins = append(twins, job.JobID)
	}
	if err := sched.Cancel(ctx, twins); err != nil {
		return Receipt{}, fmt.Errorf("cancel twin: %w", err)
	}
	return Receipt{JobID: hits[keep].JobID, Submitted: hits[keep].Submit}, nil
}
