package promq

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"
)

// edge is one classic bucket: how many observations lay at or below le.
type edge struct {
	le, count float64
}

// edges reads a vector of buckets. le is compared as a number, since one
// bound is spelled 1 by one server and 1.0 by another; counts of equal bounds
// are added. Small decreases, which extrapolation makes, are levelled; larger
// ones are told in the warning.
func edges(v model.Vector) ([]edge, string, error) {
	byBound := map[float64]float64{}
	for _, s := range v {
		text, ok := s.Metric[model.BucketLabel]
		if !ok {
			return nil, "", fmt.Errorf("a series has no le label")
		}
		le, err := strconv.ParseFloat(string(text), 64)
		if err != nil || math.IsNaN(le) {
			return nil, "", fmt.Errorf("bucket bound %q is not a number", text)
		}
		if s.Histogram != nil || math.IsNaN(float64(s.Value)) || math.IsInf(float64(s.Value), 0) {
			return nil, "", fmt.Errorf("bucket le=%q has no finite count", text)
		}
		byBound[le] += float64(s.Value)
	}
	out := make([]edge, 0, len(byBound))
	for le, n := range byBound {
		out = append(out, edge{le, n})
	}
	slices.SortFunc(out, func(a, b edge) int { return cmp.Compare(a.le, b.le) })
	if len(out) == 0 || !math.IsInf(out[len(out)-1].le, 1) {
		return nil, "", fmt.Errorf("the buckets have no +Inf bound")
	}
	if len(out) < 2 {
		return nil, "", fmt.Errorf("the histogram has no finite bucket")
	}
	warning := ""
	for i := 1; i < len(out); i++ {
		if drop := out[i-1].count - out[i].count; drop > 0 {
			if drop > 1e-6*math.Max(1, out[i-1].count) {
				warning = "bucket counts decrease with rising bounds; they were levelled"
			}
			out[i].count = out[i-1].count
		}
	}
	return out, warning, nil
}

// quantile interpolates linearly in the bucket that holds rank q*total, the
// way Prometheus does, and returns the bounds of that bucket: the true value
// lies between them and nowhere more exactly. above tells that the rank lies
// beyond the largest finite bound, lower then.
func quantile(b []edge, q float64) (value, lower, upper float64, above bool) {
	total := b[len(b)-1].count
	rank := q * total
	i, _ := slices.BinarySearchFunc(b, rank, func(e edge, r float64) int { return cmp.Compare(e.count, r) })
	i = min(i, len(b)-1)
	if i == len(b)-1 {
		return math.NaN(), b[i-1].le, math.Inf(1), true
	}
	upper = b[i].le
	below := 0.0
	switch {
	case i > 0:
		lower, below = b[i-1].le, b[i-1].count
	case upper <= 0:
		// The first bucket of a histogram with negative bounds has no lower
		// end to interpolate from.
		return upper, math.Inf(-1), upper, false
	}
	inside := b[i].count - below
	if inside <= 0 {
		return upper, lower, upper, false
	}
	return lower + (upper-lower)*(rank-below)/inside, lower, upper, false
}
