package load

import (
	"context"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// pacer waits until a moment. wait returns false when ctx ended first.
type pacer interface {
	wait(ctx context.Context, until time.Time) bool
}

const (
	// coarse is what Go's timers are trusted with; they wake up to 1.6 ms late.
	coarse = 4 * time.Millisecond
	// slice bounds how long a sleep in the kernel ignores the context.
	slice = 2 * time.Millisecond
)

// kernelPacer sleeps with Go's timer far from the moment and with
// clock_nanosleep near it, which wakes some 50 us late where Go's timers wake
// a millisecond late. Its goroutine must be locked to its thread.
type kernelPacer struct{ timer *time.Timer }

func newKernelPacer() *kernelPacer {
	// A smaller timer slack belongs to this thread only; without the right to
	// set it the kernel's 50 us stand.
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &kernelPacer{timer: t}
}

func (p *kernelPacer) wait(ctx context.Context, until time.Time) bool {
	for {
		left := time.Until(until)
		switch {
		case ctx.Err() != nil:
			return false
		case left <= 0:
			return true
		case left > coarse:
			p.timer.Reset(left - coarse)
			select {
			case <-ctx.Done():
				p.timer.Stop()
				return false
			case <-p.timer.C:
			}
		default:
			ts := unix.NsecToTimespec(int64(min(left, slice)))
			// A signal may end the sleep early; the loop sleeps on.
			_ = unix.ClockNanosleep(unix.CLOCK_MONOTONIC, 0, &ts, nil)
		}
	}
}

// timerPacer uses only the runtime's timer, so that it works on a fake clock
// and for many waiters at once.
type timerPacer struct{}

func (timerPacer) wait(ctx context.Context, until time.Time) bool {
	left := time.Until(until)
	if left <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// lockedPacer returns the pacer of a dispatcher and how to give it back.
func lockedPacer(given pacer) (pacer, func()) {
	if given != nil {
		return given, func() {}
	}
	runtime.LockOSThread()
	// The thread keeps its timer slack, so it is not returned to the pool: an
	// exiting locked goroutine ends its thread.
	return newKernelPacer(), func() {}
}
