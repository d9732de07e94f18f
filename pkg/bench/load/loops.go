package load

import (
	"context"
	"time"
)

// closed runs a closed loop: every worker takes the next index when it is free.
func (d *driver) closed(admit context.Context) {
	s, ok := d.plan.Schedule.(ClosedLoop)
	if !ok {
		// A schedule of another package without arrivals: one worker is the only
		// reading that cannot overload anything.
		s = ClosedLoop{Concurrency: 1}
	}
	workers := make([]*worker, s.Concurrency)
	for i := range workers {
		workers[i] = d.addWorker()
	}
	gate := make(chan struct{})
	for _, w := range workers {
		d.wg.Go(func() {
			<-gate
			d.loop(admit, w, s.Think)
		})
	}
	d.startClock()
	close(gate)
	// The window's end is watched here so that resource use is read at that
	// moment and not after the drain.
	done := d.finished()
	d.untilWindowEnds(admit, done)
	d.end()
	d.drain(admit, done)
}

// untilWindowEnds returns when the window's time is over, admission has ended
// or every worker is done.
func (d *driver) untilWindowEnds(admit context.Context, done <-chan struct{}) {
	for {
		wait := 10 * time.Millisecond
		if d.begun.Load() {
			if d.plan.Window.Duration == 0 {
				wait = time.Hour
			} else if wait = time.Duration(d.start.Load()) + d.plan.Window.Duration - d.clock.Since(); wait <= 0 {
				return
			}
		}
		t := time.NewTimer(wait)
		select {
		case <-admit.Done():
		case <-done:
		case <-t.C:
			continue
		}
		t.Stop()
		return
	}
}

func (d *driver) loop(admit context.Context, w *worker, think time.Duration) {
	var intended time.Duration
	for admit.Err() == nil {
		now := d.clock.Since()
		op := Op{Intended: intended}
		if b := d.plan.Window; b.Duration > 0 && d.begun.Load() && now-time.Duration(d.start.Load()) >= b.Duration {
			return
		}
		op.Index = d.next.Add(1) - 1
		op.Warm = d.warm(op.Index, now)
		if !op.Warm {
			d.begin(now)
			if n := d.measured.Add(1); d.plan.Window.Count > 0 && n > d.plan.Window.Count {
				return
			}
		}
		d.perform(w, op)
		intended = d.clock.Since() + think
		if think > 0 && !(timerPacer{}).wait(admit, d.clock.zero.Add(intended)) {
			return
		}
	}
}

// open runs an open loop: starts follow the schedule whatever the ends do.
func (d *driver) open(admit context.Context) {
	jobs := make(chan Op)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		// Its own goroutine: a pacer may lock it to a thread that is then lost.
		d.dispatch(admit, jobs)
		close(jobs)
	}()
	<-finished
	d.end()
	d.drain(admit, d.finished())
}

func (d *driver) dispatch(admit context.Context, jobs chan Op) {
	pace, release := lockedPacer(d.plan.pace)
	defer release()
	next := d.plan.Schedule.Arrivals()
	d.startClock()
	var windowCount int64
	for index := int64(0); ; index++ {
		op := Op{Index: index, Intended: next()}
		op.Warm = d.warm(index, op.Intended)
		limit := time.Duration(-1)
		if !op.Warm {
			d.begin(op.Intended)
			if b := d.plan.Window; b.Count > 0 && windowCount >= b.Count {
				return
			}
			windowCount++
			if b := d.plan.Window; b.Duration > 0 {
				limit = time.Duration(d.start.Load()) + b.Duration
			}
		}
		if limit >= 0 && op.Intended >= limit {
			// The window lasts to its end, not to its last arrival.
			pace.wait(admit, d.clock.zero.Add(limit))
			return
		}
		if !pace.wait(admit, d.clock.zero.Add(op.Intended)) {
			return
		}
		if !d.hand(admit, jobs, op, limit) {
			if admit.Err() == nil {
				d.countDropped(op, next, limit, windowCount)
			}
			return
		}
	}
}

// hand gives op to an idle worker, to a new one while the pool may grow, or
// waits for one. It returns false when admission ended or the window did.
func (d *driver) hand(admit context.Context, jobs chan Op, op Op, limit time.Duration) bool {
	select {
	case jobs <- op:
		return true
	default:
	}
	if len(d.workers) < d.plan.MaxInFlight {
		w := d.addWorker()
		d.wg.Go(func() {
			d.perform(w, op)
			for op := range jobs {
				d.perform(w, op)
			}
		})
		return true
	}
	var over <-chan time.Time
	if limit >= 0 {
		t := time.NewTimer(limit - d.clock.Since())
		defer t.Stop()
		over = t.C
	}
	select {
	case jobs <- op:
		return true
	case <-over:
		return false
	case <-admit.Done():
		return false
	}
}

// countDropped counts op and everything else that was due in the window.
func (d *driver) countDropped(op Op, next func() time.Duration, limit time.Duration, count int64) {
	at := op.Intended
	for at < limit {
		d.dropped++
		if b := d.plan.Window.Count; b > 0 && count >= b {
			return
		}
		count++
		at = next()
	}
}
