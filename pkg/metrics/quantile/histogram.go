package quantile

import (
	"fmt"
	"math"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Histogram counts values in buckets of a fixed relative width, for samples
// too many to keep. One worker owns one Histogram (it is not safe for
// concurrent use); Merge adds them up after the measured window. Values below
// the smallest and above the largest bucket are counted apart and keep their
// place in the ranks, so a quantile that falls among them is -Inf or +Inf
// instead of a wrong number.
type Histogram struct {
	hist         *hdr.Histogram
	unit         float64
	max          float64
	digits       int
	below, above int64
	nans         int64
	sum          float64
	n            int64
}

// NewHistogram returns a histogram of values from unit to max in the caller's
// unit, with digits (1..5) significant decimal digits. Seconds from 1 us to an
// hour at 3 digits, unit 1e-6 and max 3600, take about 190 kB.
func NewHistogram(unit, max float64, digits int) (*Histogram, error) {
	if !(unit > 0) || !(max >= 2*unit) || max/unit > 1<<53 || digits < 1 || digits > 5 {
		return nil, fmt.Errorf("make histogram: unit %v, max %v, digits %d: need 0 < 2*unit <= max <= 2^53*unit and 1..5 digits", unit, max, digits)
	}
	return &Histogram{hist: hdr.New(1, int64(math.Ceil(max/unit)), digits), unit: unit, max: max, digits: digits}, nil
}

// Record counts one value. It neither allocates nor fails: a value out of
// range is counted as below or above, NaN apart from all.
func (h *Histogram) Record(v float64) {
	if v != v {
		h.nans++
		return
	}
	h.n++
	h.sum += v
	ticks := v / h.unit
	switch {
	case ticks < 0.5:
		h.below++
	case v > h.max:
		h.above++
	default:
		if h.hist.RecordValue(int64(ticks+0.5)) != nil {
			h.above++
		}
	}
}

// Merge adds the counts of o, which stays as it was. Histograms of different
// shape are refused, since their buckets do not mean the same.
func (h *Histogram) Merge(o *Histogram) error {
	if o == nil {
		return nil
	}
	if o.unit != h.unit || o.max != h.max || o.digits != h.digits {
		return fmt.Errorf("merge histogram: shape %v..%v/%d differs from %v..%v/%d", o.unit, o.max, o.digits, h.unit, h.max, h.digits)
	}
	// Equal shapes drop nothing; a drop would be a defect of this package.
	if dropped := h.hist.Merge(o.hist); dropped != 0 {
		h.above += dropped
	}
	h.below += o.below
	h.above += o.above
	h.nans += o.nans
	h.sum += o.sum
	h.n += o.n
	return nil
}

// N returns the number of values, those out of range included.
func (h *Histogram) N() int64 { return h.n }

// NaNs returns how many values were not numbers.
func (h *Histogram) NaNs() int64 { return h.nans }

// OutOfRange returns how many values lay below and above the buckets.
func (h *Histogram) OutOfRange() (below, above int64) { return h.below, h.above }

// How names the method for the figure that is made from the histogram.
func (h *Histogram) How() string {
	return fmt.Sprintf("nearest rank over a histogram of %d significant digits", h.digits)
}

// Mean returns the exact mean of all values (the sum is kept beside the
// buckets), NaN when empty.
func (h *Histogram) Mean() float64 {
	if h.n == 0 {
		return math.NaN()
	}
	return h.sum / float64(h.n)
}

// MeanCI has no answer: a histogram keeps no exact second moment.
func (h *Histogram) MeanCI() (lo, hi float64, ok bool) { return 0, 0, false }

// Quantile returns the upper edge of the bucket that holds the nearest rank,
// so it is never too small and at most 10^-digits too large. It is NaN when
// empty, -Inf or +Inf when the rank lies among the values out of range.
func (h *Histogram) Quantile(q float64) float64 { return h.atRank(Rank(h.n, q)) }

// QuantileCI returns the bucket edges of the enclosing order statistics, see
// Sample.QuantileCI.
func (h *Histogram) QuantileCI(q float64) (lo, hi float64, ok bool) {
	l, u, ok := RankCI(h.n, q)
	if !ok {
		return 0, 0, false
	}
	lo, hi = h.atRank(l), h.atRank(u)
	if math.IsInf(lo, 0) || math.IsInf(hi, 0) {
		return 0, 0, false
	}
	return lo, hi, true
}

func (h *Histogram) atRank(rank int64) float64 {
	if rank == 0 {
		return math.NaN()
	}
	seen := h.below
	if rank <= seen {
		return math.Inf(-1)
	}
	for _, bar := range h.hist.Distribution() {
		seen += bar.Count
		if rank <= seen {
			return float64(bar.To) * h.unit
		}
	}
	return math.Inf(1)
}
