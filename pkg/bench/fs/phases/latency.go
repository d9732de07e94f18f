package phases

import (
	"fmt"
	"math"
	"math/bits"
)

// A Latency counts times in buckets of nanoseconds: 64 to each power of two,
// so a bucket is at most 1/64 wider than its values. Times of 2^40 ns (18
// minutes) and more share the last bucket.
const (
	subBits    = 6
	subBuckets = 1 << subBits
	maxExp     = 40
	buckets    = (maxExp - subBits + 1) * subBuckets
)

// Latency is a histogram owned by one rank. Adding neither allocates nor fails.
type Latency struct {
	counts [buckets]uint64
	n      int64
	max    int64
}

func bucket(ns int64) int {
	if ns < 0 {
		ns = 0
	}
	if ns < subBuckets {
		return int(ns)
	}
	exp := bits.Len64(uint64(ns)) - 1
	if exp >= maxExp {
		return buckets - 1
	}
	return (exp-subBits+1)*subBuckets + int(ns>>(exp-subBits)) - subBuckets
}

// upper is the largest time of a bucket.
func upper(b int) int64 {
	if b < subBuckets {
		return int64(b)
	}
	exp := b/subBuckets + subBits - 1
	sub := int64(b%subBuckets) + subBuckets
	return (sub+1)<<(exp-subBits) - 1
}

// Add counts one time.
func (l *Latency) Add(ns int64) {
	l.counts[bucket(ns)]++
	l.n++
	if ns > l.max {
		l.max = ns
	}
}

// Merge adds the counts of o.
func (l *Latency) Merge(o *Latency) {
	for i, c := range o.counts {
		l.counts[i] += c
	}
	l.n += o.n
	l.max = max(l.max, o.max)
}

// N is how many times were counted.
func (l *Latency) N() int64 { return l.n }

// Max is the largest time in nanoseconds, exact.
func (l *Latency) Max() int64 { return l.max }

// Quantile returns the upper edge of the bucket that holds the nearest rank of
// q, in nanoseconds, never above Max. ok is false when fewer than ten times lie
// beyond q: such a quantile would be a single sample's accident.
func (l *Latency) Quantile(q float64) (ns int64, ok bool) {
	if float64(l.n)*(1-q) < 10 {
		return 0, false
	}
	// The small term undoes a product such as 0.99*1000 = 990.0000000000001.
	rank := int64(math.Ceil(q*float64(l.n) - 1e-6))
	rank = max(1, min(rank, l.n))
	var seen int64
	for b, c := range l.counts {
		seen += int64(c)
		if seen >= rank {
			if b == buckets-1 {
				return l.max, true
			}
			return min(upper(b), l.max), true
		}
	}
	return l.max, true
}

// Pairs lists the buckets in use as bucket, count, bucket, count.
func (l *Latency) Pairs() []int64 {
	var out []int64
	for b, c := range l.counts {
		if c > 0 {
			out = append(out, int64(b), int64(c))
		}
	}
	return out
}

// FromPairs rebuilds a histogram from Pairs and the exact maximum.
func FromPairs(pairs []int64, maxNS int64) (*Latency, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("latency histogram: %d numbers are not pairs", len(pairs))
	}
	l := &Latency{max: maxNS}
	for i := 0; i < len(pairs); i += 2 {
		b, c := pairs[i], pairs[i+1]
		if b < 0 || b >= buckets || c < 0 || l.n+c < l.n {
			return nil, fmt.Errorf("latency histogram: bucket %d with count %d", b, c)
		}
		l.counts[b] += uint64(c)
		l.n += c
	}
	return l, nil
}
