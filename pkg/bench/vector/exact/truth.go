package exact

import (
	"context"
	"fmt"
	"math"
	"slices"

	"golang.org/x/sync/errgroup"

	"aifbench/pkg/bench/vector/data"
)

// tieEpsilon is how much farther than the k-th true neighbour a vector may be
// and still count as one of them in tie-aware recall.
const tieEpsilon = 1e-6

// Truth is the exact nearest neighbours of a set of queries.
type Truth struct {
	K      int
	Metric Metric
	// near and dist hold, a query after another, the depth nearest rows and
	// their distances: near to far, ties by the lower row. depth is k+1, or all.
	near  []int32
	dist  []float64
	depth int
	n     int // base vectors
	// Random is the tie-aware recall of a random answer, Contrast the mean
	// distance over the k-th (NaN for ip and where the k-th distance is 0).
	// Examined is how many queries both were taken from.
	Random, Contrast float64
	Examined         int
}

// block is how many base rows are widened to float64 at once: with 128
// dimensions 32 kB, which stays in the first-level cache.
const block = 32

// Find finds the k nearest base vectors of every query by comparing all
// pairs: float32 data, float64 arithmetic. workers bounds the CPUs used. The
// error is the context's.
func Find(ctx context.Context, base, queries data.Set, k int, m Metric, workers int) (*Truth, error) {
	if base.Dim != queries.Dim {
		return nil, fmt.Errorf("compute exact neighbours: base of dimension %d, queries of %d", base.Dim, queries.Dim)
	}
	n, q := base.Len(), queries.Len()
	t := &Truth{K: k, Metric: m, n: n, depth: min(k+1, n)}
	t.near = make([]int32, q*t.depth)
	t.dist = make([]float64, q*t.depth)
	workers = max(1, min(workers, (q+3)/4))
	share := (q + workers - 1) / workers
	share += (4 - share%4) % 4
	g, ctx := errgroup.WithContext(ctx)
	for lo := 0; lo < q; lo += share {
		hi := min(lo+share, q)
		g.Go(func() error { return t.scan(ctx, base, queries, lo, hi) })
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("compute exact neighbours: %w", err)
	}
	t.examine(base, queries)
	return t, nil
}

// scan fills the rows of queries lo to hi.
func (t *Truth) scan(ctx context.Context, base, queries data.Set, lo, hi int) error {
	dim := base.Dim
	count := hi - lo
	padded := (count + 3) / 4 * 4
	qs := make([]float64, padded*dim)
	widen(qs, queries.Flat[lo*dim:hi*dim])
	qn := make([]float64, padded)
	for i := range count {
		qn[i] = norm(queries.Row(lo + i))
	}
	fill := make([]int, count)
	rows := make([]float64, block*dim)
	var out [4]float64
	var rn [block]float64
	for b := 0; b < t.n; b += block {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		size := min(block, t.n-b)
		widen(rows, base.Flat[b*dim:(b+size)*dim])
		if t.Metric == Cosine {
			for r := range size {
				rn[r] = norm(base.Row(b + r))
			}
		}
		for i := 0; i < count; i += 4 {
			q4 := qs[i*dim : (i+4)*dim]
			for r := range size {
				row := rows[r*dim : (r+1)*dim]
				if t.Metric == L2 {
					squares(&out, q4, row)
				} else {
					products(&out, q4, row)
				}
				for j := range min(4, count-i) {
					d := out[j]
					switch t.Metric {
					case IP:
						d = 1 - d
					case Cosine:
						d = cosine(d, qn[i+j], rn[r])
					}
					at := (lo + i + j) * t.depth
					fill[i+j] = insert(t.near[at:at+t.depth], t.dist[at:at+t.depth], fill[i+j], int32(b+r), d)
				}
			}
		}
	}
	return nil
}

// insert keeps near and dist sorted; rows come in ascending order, so a row
// that ties stays behind the ones before it.
func insert(near []int32, dist []float64, have int, row int32, d float64) int {
	if have == len(near) {
		if have == 0 || !(d < dist[have-1]) {
			return have
		}
		have--
	}
	i := have
	for i > 0 && d < dist[i-1] {
		near[i], dist[i] = near[i-1], dist[i-1]
		i--
	}
	near[i], dist[i] = row, d
	return have + 1
}

func widen(dst []float64, src []float32) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = float64(v)
	}
}

// squares and products compare one row with four queries at a time: four
// independent sums hide the latency of an addition.
func squares(out *[4]float64, q4, row []float64) {
	n := len(row)
	a, b, c, d := q4[:n], q4[n:2*n], q4[2*n:3*n], q4[3*n:4*n]
	var s0, s1, s2, s3 float64
	for i, v := range row {
		e0, e1, e2, e3 := a[i]-v, b[i]-v, c[i]-v, d[i]-v
		s0 += e0 * e0
		s1 += e1 * e1
		s2 += e2 * e2
		s3 += e3 * e3
	}
	out[0], out[1], out[2], out[3] = s0, s1, s2, s3
}

func products(out *[4]float64, q4, row []float64) {
	n := len(row)
	a, b, c, d := q4[:n], q4[n:2*n], q4[2*n:3*n], q4[3*n:4*n]
	var s0, s1, s2, s3 float64
	for i, v := range row {
		s0 += a[i] * v
		s1 += b[i] * v
		s2 += c[i] * v
		s3 += d[i] * v
	}
	out[0], out[1], out[2], out[3] = s0, s1, s2, s3
}

// Neighbours returns the rows of the (at most k) true neighbours of query q,
// near to far, and their distances.
func (t *Truth) Neighbours(q int) ([]int32, []float64) {
	at, k := q*t.depth, min(t.K, t.depth)
	return t.near[at : at+k], t.dist[at : at+k]
}

// Tied tells whether the neighbour after the k-th is as near as the k-th.
func (t *Truth) Tied(q int) bool {
	if t.depth <= t.K {
		return false
	}
	at := q * t.depth
	return t.dist[at+t.K] <= t.dist[at+t.K-1]+tieEpsilon
}

// examine takes the figures that tell whether recall says anything.
func (t *Truth) examine(base, queries data.Set) {
	const most = 32
	q := queries.Len()
	if q == 0 || t.n == 0 {
		return
	}
	t.Examined = min(q, most)
	contrasts := make([]float64, 0, most)
	var random float64
	for i := range t.Examined {
		qi := i * q / t.Examined
		_, dist := t.Neighbours(qi)
		kth := dist[len(dist)-1]
		within, sum := 0, 0.0
		for r := range t.n {
			d := Distance(t.Metric, queries.Row(qi), base.Row(r))
			if d <= kth+tieEpsilon {
				within++
			}
			l, _ := length(t.Metric, d)
			sum += l
		}
		random += float64(within) / float64(t.n)
		if l, ok := length(t.Metric, kth); ok && l > 0 {
			contrasts = append(contrasts, sum/float64(t.n)/l)
		}
	}
	t.Random = random / float64(t.Examined)
	t.Contrast = math.NaN()
	if len(contrasts) > 0 {
		slices.Sort(contrasts)
		t.Contrast = contrasts[(len(contrasts)-1)/2]
	}
}

// The bounds from which recall says too little to be reported.
const (
	maxRandom   = 0.5
	minContrast = 1.1
)

// Indifferent returns why recall on these data would say nothing, or "".
func (t *Truth) Indifferent() string {
	switch {
	case t.n <= t.K:
		return fmt.Sprintf("k %d is not below the number of vectors %d: every answer is complete", t.K, t.n)
	case t.Random >= maxRandom:
		return fmt.Sprintf("a random answer would have recall %.2f: the distances do not tell the vectors apart", t.Random)
	case t.Contrast < minContrast: // false for NaN
		return fmt.Sprintf("the mean distance is only %.3f times that of the k-th neighbour: the neighbours are nearly arbitrary", t.Contrast)
	}
	return ""
}
