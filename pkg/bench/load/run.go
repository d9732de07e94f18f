package load

import (
	"context"
	"errors"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Causes a worker finds in context.Cause of an operation's context, and a
// caller in Outcome.Stopped.
var (
	// ErrDrainLimit: the operation outlived the drain and was cut.
	ErrDrainLimit = errors.New("drain limit passed")
	// ErrFailing: the load was ended early after too many failures in a row.
	ErrFailing = errors.New("too many failures in a row")
)

// Op is one operation as it was planned.
type Op struct {
	// Index counts from 0 over warm-up and window, in intended order.
	Index int64
	// Intended is the intended start as an offset from the clock's zero. In a
	// closed loop it is the end of the worker's operation before plus the think
	// time.
	Intended time.Duration
	// Warm tells that the operation belongs to the warm-up.
	Warm bool
}

// Do runs one operation and tells whether it ended well. It runs on one of
// many workers and must not share anything unguarded with the others. ctx
// outlives the load's own context until the drain limit has passed.
type Do func(ctx context.Context, clock Clock, op Op) bool

// NewWorker makes the Do of worker id, counting from 0. It is called from one
// goroutine at a time, so that it may give each worker a recorder of its own
// and keep them in a slice; they are merged after Run returned.
type NewWorker func(id int) Do

// Clock turns moments into offsets from the start of the load.
type Clock struct{ zero time.Time }

// StartClock returns a clock that starts now, for operations outside a load.
func StartClock() Clock { return Clock{zero: time.Now()} }

// Since returns the monotonic offset of now.
func (c Clock) Since() time.Duration { return time.Since(c.zero) }

// Offset returns the monotonic offset of t.
func (c Clock) Offset(t time.Time) time.Duration { return t.Sub(c.zero) }

// Zero returns the start of the load.
func (c Clock) Zero() time.Time { return c.zero }

// Outcome is what a load came to.
type Outcome struct {
	// Zero is the start of the load; all offsets count from it.
	Zero time.Time
	// Start and End are the window as offsets. A window bounded by time ends at
	// its bound; one bounded by count, or ended early, when its last operation
	// ended or was cut.
	Start, End time.Duration
	// Sent, OK and Failed count operations of the window; WarmSent those of the
	// warm-up.
	Sent, OK, Failed, WarmSent int64
	// Dropped counts operations that were due in the window and never started,
	// because the pool of an open loop was full.
	Dropped int64
	// Cut counts operations cancelled at the drain limit.
	Cut int64
	// Stopped is nil when the plan ran to its end, else why not: the cause of
	// the context, or ErrFailing.
	Stopped error
	// Account tells how well the generator kept up.
	Account Account
}

// Run drives the plan and returns when every worker has ended. The error is
// only for a plan that is refused; an early end is in the outcome.
func Run(ctx context.Context, plan Plan, env Env, newWorker NewWorker) (Outcome, error) {
	if err := plan.Validate(); err != nil {
		return Outcome{}, err
	}
	if plan.DrainLimit == 0 {
		plan.DrainLimit = env.DrainLimit
	}
	if plan.DrainLimit <= 0 {
		plan.DrainLimit = defaultDrain
	}
	if plan.TailLimit <= 0 {
		plan.TailLimit = plan.DrainLimit
	}
	if plan.MaxInFlight == 0 {
		plan.MaxInFlight = defaultInFlight
	}
	admit, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// Operations keep the values of ctx but not its end.
	work, cut := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cut(nil)
	d := &driver{plan: plan, env: env, newWorker: newWorker, stop: stop, work: work, cut: cut}
	if plan.Schedule.Arrivals() == nil {
		d.closed(admit)
	} else {
		d.open(admit)
	}
	d.unwatch()
	return d.outcome(admit), nil
}

// startClock sets zero once everything that takes time beforehand is done.
func (d *driver) startClock() {
	d.clock.zero = time.Now()
	d.usage = readUsage()
	d.unwatch = d.watch()
	if d.plan.Warmup.Zero() {
		d.begin(0)
	}
}

// driver is one running load.
type driver struct {
	plan      Plan
	env       Env
	newWorker NewWorker
	clock     Clock
	stop      context.CancelCauseFunc // ends admission
	work      context.Context
	cut       context.CancelCauseFunc // ends operations
	workers   []*worker
	wg        sync.WaitGroup
	unwatch   func()
	next      atomic.Int64 // next index
	measured  atomic.Int64 // operations of the window that were admitted
	inARow    atomic.Int64 // failures
	begun     atomic.Bool  // the window has begun
	start     atomic.Int64 // its offset
	startOnce sync.Once
	usage     usage // at the start of the window
	ended     usage // at its end
	endOnce   sync.Once
	endAt     time.Duration // when admission ended
	dropped   int64
	done      atomic.Int64 // for progress
	failed    atomic.Int64
}

// worker is the private part of one goroutine; its counters are read after
// the goroutine has ended.
type worker struct {
	do                         Do
	sent, ok, failed, warmSent int64
	cut                        int64
	lastEnd                    time.Duration
	firstSent, lastSent        time.Duration
	late                       lateness
}

func (d *driver) addWorker() *worker {
	w := &worker{do: d.newWorker(len(d.workers))}
	d.workers = append(d.workers, w)
	return w
}

// begin marks the start of the window at the offset at.
func (d *driver) begin(at time.Duration) {
	d.startOnce.Do(func() {
		d.usage = readUsage()
		d.start.Store(int64(at))
		d.begun.Store(true)
	})
}

// end reads the resource use at the end of the window, before the drain.
func (d *driver) end() {
	d.endOnce.Do(func() {
		d.ended = readUsage()
		d.endAt = d.clock.Since()
	})
}

// perform runs one operation on w and counts it.
func (d *driver) perform(w *worker, op Op) {
	began := d.clock.Since()
	ok := w.do(d.work, d.clock, op)
	w.lastEnd = max(w.lastEnd, d.clock.Since())
	d.done.Add(1)
	cut := !ok && d.work.Err() != nil
	if cut {
		w.cut++
	}
	if ok {
		if d.inARow.Load() != 0 {
			d.inARow.Store(0)
		}
	} else {
		d.failed.Add(1)
		if n := d.inARow.Add(1); d.plan.StopAfterFailures > 0 && n >= d.plan.StopAfterFailures && !cut {
			d.stop(ErrFailing)
		}
	}
	if op.Warm {
		w.warmSent++
		return
	}
	w.late.add(began - op.Intended)
	if w.sent == 0 {
		w.firstSent = began
	}
	w.lastSent = began
	w.sent++
	if ok {
		w.ok++
	} else {
		w.failed++
	}
}

// warm tells whether an operation intended at the offset belongs to the
// warm-up; the bound met first ends it.
func (d *driver) warm(index int64, intended time.Duration) bool {
	b := d.plan.Warmup
	if b.Zero() || d.begun.Load() {
		return false
	}
	if b.Count > 0 && index >= b.Count {
		return false
	}
	return b.Duration == 0 || intended < b.Duration
}

// drain waits for the workers, at most the limit of the way in which admission
// ended, and cuts what is left then.
func (d *driver) drain(admit context.Context, done <-chan struct{}) {
	var tail <-chan time.Time
	if d.plan.Window.Duration > 0 {
		t := time.NewTimer(d.plan.TailLimit)
		defer t.Stop()
		tail = t.C
	}
	select {
	case <-done:
		return
	case <-tail:
	case <-admit.Done():
		t := time.NewTimer(d.plan.DrainLimit)
		defer t.Stop()
		select {
		case <-done:
			return
		case <-t.C:
		}
	}
	d.cut(ErrDrainLimit)
	<-done
}

// finished returns a channel that closes when every worker has ended.
func (d *driver) finished() <-chan struct{} {
	done := make(chan struct{})
	go func() { d.wg.Wait(); close(done) }()
	return done
}

func (d *driver) outcome(admit context.Context) Outcome {
	d.end()
	out := Outcome{Zero: d.clock.zero, Start: time.Duration(d.start.Load()), Dropped: d.dropped}
	var last time.Duration
	first, final := time.Duration(math.MaxInt64), time.Duration(0)
	var late lateness
	for _, w := range d.workers {
		out.Sent += w.sent
		out.OK += w.ok
		out.Failed += w.failed
		out.WarmSent += w.warmSent
		out.Cut += w.cut
		last = max(last, w.lastEnd)
		if w.sent > 0 {
			first, final = min(first, w.firstSent), max(final, w.lastSent)
		}
		late.merge(&w.late)
	}
	out.Stopped = context.Cause(admit)
	w := d.plan.Window
	byTime := w.Duration > 0 && (w.Count == 0 || out.Sent+d.dropped < w.Count)
	switch {
	case out.Stopped != nil:
		out.End = d.endAt
	case byTime:
		out.End = out.Start + w.Duration
	default:
		out.End = last
	}
	out.End = max(out.End, out.Start)
	out.Account = d.account(out, &late, final-first)
	return out
}
