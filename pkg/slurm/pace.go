package slurm

import "time"

// Pace is how often a waiting command may ask the scheduler. The zero value is
// the tightest that Slurm's own rate limit bears for good.
type Pace struct {
	// Min is the shortest interval; 0 means 5 s. A site may demand more; a lab
	// of one's own bears 1 s, which shortens the whole schedule in proportion.
	Min time.Duration
	// Max caps the intervals; 0 means 30 s, or Min where that is longer.
	Max time.Duration
}

const (
	baseMin = 5 * time.Second
	baseMax = 30 * time.Second
)

// Interval is the pause before the next call for a job in that state, age being
// how long it has been in it and consecutive how many calls in a row found it
// so. Pending: 5, 10, 20, 30 s. Running: 5 s for the first minute, then 30 s.
// Anything in between two states: 5 s.
func (p Pace) Interval(state State, age time.Duration, consecutive int) time.Duration {
	d := baseMin
	switch {
	case state == Pending || state == Suspended:
		steps := []time.Duration{baseMin, 2 * baseMin, 4 * baseMin, 6 * baseMin}
		d = steps[max(0, min(consecutive, len(steps)-1))]
	case state == Running && age >= time.Minute:
		d = baseMax
	}
	lo, hi := p.Min, p.Max
	if lo <= 0 {
		lo = baseMin
	}
	if hi <= 0 {
		hi = baseMax
	}
	if lo < baseMin {
		d = time.Duration(float64(d) * float64(lo) / float64(baseMin))
	}
	return max(lo, min(d, hi))
}

// Interval is Pace{}.Interval.
func Interval(state State, age time.Duration, consecutive int) time.Duration {
	return Pace{}.Interval(state, age, consecutive)
}

// Jitter spreads d by up to a fifth upwards, never below it, so that many
// clients started by one script do not ask in step. r is a random number in
// [0, 1).
func Jitter(d time.Duration, r float64) time.Duration {
	return d + time.Duration(float64(d)*0.2*max(0, min(r, 1)))
}
