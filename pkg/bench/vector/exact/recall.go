package exact

import (
	"math"
	"slices"
)

// Recall returns the tie-aware and the id-exact recall of an answer to query
// q: rows are the returned rows (-1 for an id that does not exist) and exact
// the exact distances of those that exist, in the same order. The answer is
// cut at k, repeats are counted once, and the divisor is k (or the number of
// base vectors where that is smaller).
func (t *Truth) Recall(q int, rows []int32, exact []float64) (tie, id float64) {
	near, dist := t.Neighbours(q)
	if len(near) == 0 {
		return math.NaN(), math.NaN()
	}
	limit := dist[len(dist)-1] + tieEpsilon
	ties, ids, e := 0, 0, 0
	for i, row := range rows[:min(len(rows), t.K)] {
		if row < 0 {
			continue
		}
		d := exact[e]
		e++
		if slices.Contains(rows[:i], row) {
			continue
		}
		if d <= limit {
			ties++
		}
		if slices.Contains(near, row) {
			ids++
		}
	}
	k := float64(len(near))
	return float64(min(ties, len(near))) / k, float64(ids) / k
}
