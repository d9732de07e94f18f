package load

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// MaxConcurrency bounds closed loops and the pool of an open loop.
const MaxConcurrency = 65536

// MaxRate bounds open loops; a pacer cannot do more than this honestly.
const MaxRate = 1e6

// Schedule says when operations are meant to start. It is a value: the same
// schedule gives the same times.
type Schedule interface {
	// Arrivals returns the generator of intended starts, as offsets from the
	// start of the load, never falling. It is nil for a closed loop, where the
	// end of one operation causes the next.
	Arrivals() func() time.Duration
	// Validate refuses a schedule that cannot be run.
	Validate() error
	// String names the schedule for people.
	String() string
}

// ClosedLoop keeps Concurrency operations in flight; each worker waits Think
// after an operation before it starts its next one.
type ClosedLoop struct {
	Concurrency int
	Think       time.Duration
}

// Arrivals is nil: ends cause starts.
func (ClosedLoop) Arrivals() func() time.Duration { return nil }

// Validate checks the number of workers and the think time.
func (s ClosedLoop) Validate() error {
	if s.Concurrency < 1 || s.Concurrency > MaxConcurrency {
		return fmt.Errorf("concurrency %d: give a number from 1 to %d", s.Concurrency, MaxConcurrency)
	}
	if s.Think < 0 {
		return fmt.Errorf("think time %v: it must not be negative", s.Think)
	}
	return nil
}

func (s ClosedLoop) String() string {
	if s.Think > 0 {
		return fmt.Sprintf("closed loop of %d, think time %v", s.Concurrency, s.Think)
	}
	return fmt.Sprintf("closed loop of %d", s.Concurrency)
}

// Constant starts one operation every 1/Rate seconds, the first at zero.
type Constant struct{ Rate float64 }

// Arrivals computes each time from the index, so that rounding never adds up.
func (s Constant) Arrivals() func() time.Duration {
	var i float64
	return func() time.Duration {
		at := seconds(i / s.Rate)
		i++
		return at
	}
}

// Validate checks the rate.
func (s Constant) Validate() error { return validRate(s.Rate) }

func (s Constant) String() string { return fmt.Sprintf("constant rate of %g/s", s.Rate) }

// Poisson starts operations with independent exponential gaps of mean 1/Rate.
// Two schedules of one seed and rate are equal.
type Poisson struct {
	Rate float64
	Seed uint64
}

// Arrivals sums the gaps in seconds as a float, which keeps the nanosecond for
// runs of weeks.
func (s Poisson) Arrivals() func() time.Duration {
	rng := rand.New(rand.NewPCG(s.Seed, 0x9e3779b97f4a7c15))
	var at float64
	return func() time.Duration {
		at += rng.ExpFloat64() / s.Rate
		return seconds(at)
	}
}

// Validate checks the rate.
func (s Poisson) Validate() error { return validRate(s.Rate) }

func (s Poisson) String() string {
	return fmt.Sprintf("poisson rate of %g/s, seed %d", s.Rate, s.Seed)
}

// Bound ends a phase after Count operations or after Duration, whichever comes
// first; zero means no such bound.
type Bound struct {
	Count    int64
	Duration time.Duration
}

// Zero tells whether nothing bounds the phase.
func (b Bound) Zero() bool { return b.Count == 0 && b.Duration == 0 }

func (b Bound) validate(what string) error {
	if b.Count < 0 || b.Duration < 0 {
		return fmt.Errorf("%s: count %d and duration %v must not be negative", what, b.Count, b.Duration)
	}
	return nil
}

// Plan is one load: a warm-up that is run but not measured, then the window.
type Plan struct {
	Schedule Schedule
	// Warmup is excluded from the window; the zero Bound means none.
	Warmup Bound
	// Window needs a count, a duration or both.
	Window Bound
	// DrainLimit bounds how long operations in flight are waited for after the
	// context ended; then their contexts are cancelled with ErrDrainLimit. Zero
	// means that of the environment, or 30 s.
	DrainLimit time.Duration
	// TailLimit is the same after a window that time ended; zero means
	// DrainLimit. A window bounded by count has no limit: its last operations
	// belong to it.
	TailLimit time.Duration
	// MaxInFlight bounds the pool of an open loop; zero means 4096. A start that
	// finds the pool full is late, not lost; one that never starts is counted as
	// dropped.
	MaxInFlight int
	// StopAfterFailures ends the load early after so many failures in a row,
	// over all workers: a dead server answers refusals far faster than a live
	// one answers work. Zero means never.
	StopAfterFailures int64

	pace pacer // nil: the precise one
}

// Default limits of a plan.
const (
	defaultDrain    = 30 * time.Second
	defaultInFlight = 4096
)

// Validate refuses a plan that cannot be run.
func (p Plan) Validate() error {
	if p.Schedule == nil {
		return errors.New("plan without a schedule")
	}
	if err := p.Schedule.Validate(); err != nil {
		return err
	}
	if p.Window.Zero() {
		return errors.New("nothing ends the load: give a number of operations or a duration")
	}
	if p.MaxInFlight < 0 || p.MaxInFlight > MaxConcurrency {
		return fmt.Errorf("in-flight limit %d: give a number up to %d", p.MaxInFlight, MaxConcurrency)
	}
	return errors.Join(p.Warmup.validate("warm-up"), p.Window.validate("window"))
}

func validRate(r float64) error {
	if !(r > 0) || r > MaxRate {
		return fmt.Errorf("rate %v per second: give a number above 0 and up to %g", r, float64(MaxRate))
	}
	return nil
}

// seconds converts with rounding and saturates instead of overflowing.
func seconds(s float64) time.Duration {
	ns := math.Round(s * 1e9)
	if ns >= math.MaxInt64 {
		return math.MaxInt64
	}
	return time.Duration(ns)
}
