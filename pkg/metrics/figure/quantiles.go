package figure

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// beyond is how many samples must lie beyond a quantile before it is a figure.
const beyond = 10

// Supports tells whether n samples are enough to report quantile q: at least
// ten of them must lie beyond it, n(1-q) >= 10.
func Supports(n int64, q float64) bool {
	if n < 0 || !(q >= 0 && q < 1) {
		return false
	}
	// 1-q of a decimal fraction misses by an ulp (100*(1-0.9) is 9.99...98).
	return float64(n)*(1-q) >= beyond*(1-1e-9)
}

// Needed returns the smallest number of samples that supports quantile q, so
// that a benchmark can say before it starts which quantiles its n cannot have.
func Needed(q float64) int64 {
	if !(q >= 0 && q < 1) {
		return math.MaxInt64
	}
	n := int64(beyond / (1 - q))
	for n > 0 && Supports(n-1, q) {
		n--
	}
	for !Supports(n, q) {
		n++
	}
	return n
}

// Distribution is a set of measured values, raw or in a histogram, that
// answers for its own method. quantile.Sample and *quantile.Histogram are two.
type Distribution interface {
	// N is the number of values.
	N() int64
	// How names the method in a few words.
	How() string
	// Quantile returns NaN when empty and an infinity when out of range.
	Quantile(q float64) float64
	// QuantileCI returns a 95 % interval, ok false when there is none.
	QuantileCI(q float64) (lo, hi float64, ok bool)
	// Mean returns NaN when empty.
	Mean() float64
	// MeanCI returns a 95 % interval, ok false when there is none.
	MeanCI() (lo, hi float64, ok bool)
}

// QuantileName returns the figure's name of a quantile: prefix, "p" and the
// percentage without its point, unit. QuantileName("ttft", "ms", 0.999) is
// ttft_p999_ms.
func QuantileName(prefix, unit string, q float64) string {
	percent := strconv.FormatFloat(math.Round(q*1e6)/1e4, 'f', -1, 64)
	return prefix + "_p" + strings.ReplaceAll(percent, ".", "") + "_" + unit
}

// PutQuantiles records the quantiles qs of d under QuantileName(prefix, unit,
// q), each value times scale (1000 for seconds shown in ms), with its interval.
// A quantile that n does not support is null with the number of samples it
// needs; one that lies outside a histogram's range is null as well.
func PutQuantiles(s Set, prefix, unit string, d Distribution, scale float64, qs ...float64) {
	for _, q := range qs {
		name := QuantileName(prefix, unit, q)
		n := d.N()
		switch {
		case n == 0:
			s.PutNull(name, "no samples", 0)
			continue
		case !Supports(n, q):
			s.PutNull(name, fmt.Sprintf("%d samples, quantile %s needs %d", n, strconv.FormatFloat(q, 'f', -1, 64), Needed(q)), n)
			continue
		}
		s.Put(name, d.Quantile(q)*scale, n, d.How())
		if lo, hi, ok := d.QuantileCI(q); ok {
			s.WithCI(name, lo*scale, hi*scale)
		}
	}
}

// PutMean records the mean of d under prefix_mean_unit, times scale. There is
// no interval: the requests of one run are not independent of each other, and
// a t interval over them would promise too much.
func PutMean(s Set, prefix, unit string, d Distribution, scale float64) {
	name := prefix + "_mean_" + unit
	if d.N() == 0 {
		s.PutNull(name, "no samples", 0)
		return
	}
	s.Put(name, d.Mean()*scale, d.N(), "arithmetic mean")
}

// PutRatio records part/whole under name with the given interval of a ratio
// (quantile.Wilson); a whole of zero is null, since a ratio of nothing is not
// zero.
func PutRatio(s Set, name string, part, whole int64, interval func(k, n int64) (lo, hi float64, ok bool)) {
	if whole <= 0 {
		s.PutNull(name, "nothing to take a ratio of", 0)
		return
	}
	s.Put(name, float64(part)/float64(whole), whole, "ratio of counts")
	if interval == nil {
		return
	}
	if lo, hi, ok := interval(part, whole); ok {
		s.WithCI(name, lo, hi)
	}
}
