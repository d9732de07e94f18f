// Package quantile owns order statistics: exact nearest-rank quantiles of raw
// values, the same over mergeable histograms, and the confidence intervals of
// quantiles, means and ratios. It must not know what the values are, in which
// unit they are shown, or when a quantile has enough samples to be reported
// (that rule is figure.Supports).
package quantile

import (
	"math"
	"slices"
)

// Confidence is the level of every interval of this package.
const Confidence = 0.95

// Sample is a set of raw values in ascending order. The zero Sample is empty.
type Sample struct {
	sorted []float64
	nans   int64
}

// Of copies values, drops NaN (see NaNs) and sorts the rest.
func Of(values []float64) Sample {
	kept := make([]float64, 0, len(values))
	for _, v := range values {
		if !math.IsNaN(v) {
			kept = append(kept, v)
		}
	}
	slices.Sort(kept)
	return Sample{sorted: kept, nans: int64(len(values) - len(kept))}
}

// OfSorted uses values as they are, without a copy. Values that are not in
// ascending order, or that hold NaN, are copied and sorted as Of does.
func OfSorted(values []float64) Sample {
	for i, v := range values {
		if math.IsNaN(v) || (i > 0 && v < values[i-1]) {
			return Of(values)
		}
	}
	return Sample{sorted: values}
}

// N returns the number of values.
func (s Sample) N() int64 { return int64(len(s.sorted)) }

// NaNs returns how many values were dropped because they are not numbers.
func (s Sample) NaNs() int64 { return s.nans }

// How names the method for the figure that is made from the sample.
func (s Sample) How() string { return "nearest rank over raw values" }

// Quantile returns the nearest-rank quantile: the smallest value with at least
// q*n values at or below it. It is NaN for an empty sample or a q outside 0..1.
func (s Sample) Quantile(q float64) float64 {
	r := Rank(s.N(), q)
	if r == 0 {
		return math.NaN()
	}
	return s.sorted[r-1]
}

// QuantileCI returns the two order statistics that enclose the quantile with
// at least 95 % confidence whatever the distribution; ok is false when the
// sample is too small to have them.
func (s Sample) QuantileCI(q float64) (lo, hi float64, ok bool) {
	l, u, ok := RankCI(s.N(), q)
	if !ok {
		return 0, 0, false
	}
	return s.sorted[l-1], s.sorted[u-1], true
}

// Min returns the smallest value, NaN when empty.
func (s Sample) Min() float64 {
	if len(s.sorted) == 0 {
		return math.NaN()
	}
	return s.sorted[0]
}

// Max returns the largest value, NaN when empty.
func (s Sample) Max() float64 {
	if len(s.sorted) == 0 {
		return math.NaN()
	}
	return s.sorted[len(s.sorted)-1]
}

// Mean returns the arithmetic mean, NaN when empty.
func (s Sample) Mean() float64 {
	mean, _ := moments(s.sorted)
	return mean
}

// Std returns the standard deviation of the sample (divisor n-1), NaN for
// fewer than two values.
func (s Sample) Std() float64 {
	_, std := moments(s.sorted)
	return std
}

// MeanCI returns the t interval of the mean; ok is false for fewer than two
// values. It assumes independent values: latencies of one server are not, so
// use it for repeats, not for the requests of one run.
func (s Sample) MeanCI() (lo, hi float64, ok bool) {
	n := len(s.sorted)
	if n < 2 {
		return 0, 0, false
	}
	mean, std := moments(s.sorted)
	half := StudentT(float64(n-1)) * std / math.Sqrt(float64(n))
	if math.IsNaN(half) || math.IsInf(half, 0) {
		return 0, 0, false
	}
	return mean - half, mean + half, true
}

// Rank returns the 1-based nearest rank ceil(q*n) of quantile q among n
// values, at least 1; it is 0 when there is no such rank.
func Rank(n int64, q float64) int64 {
	if n <= 0 || !(q >= 0 && q <= 1) {
		return 0
	}
	// q*n of decimal fractions misses whole numbers by a few ulp (0.07*100 is
	// 7.000000000000001), and a rank of 8 there would be plainly wrong.
	exact := q * float64(n)
	r := int64(math.Ceil(exact - 1e-9*math.Max(1, exact*1e-3)))
	return min(max(r, 1), n)
}

// moments returns mean and standard deviation by Welford's method, which does
// not lose digits when the spread is small against the mean.
func moments(values []float64) (mean, std float64) {
	if len(values) == 0 {
		return math.NaN(), math.NaN()
	}
	var m2 float64
	for i, v := range values {
		d := v - mean
		mean += d / float64(i+1)
		m2 += d * (v - mean)
	}
	if len(values) < 2 {
		return mean, math.NaN()
	}
	return mean, math.Sqrt(m2 / float64(len(values)-1))
}
