package load

import (
	"math/bits"
	"time"
)

// lateness is a histogram of one worker: 32 buckets for each power of two
// nanoseconds, allocated where values fall, so that thousands of workers cost
// little. Early starts count as zero.
type lateness struct {
	rows [64]*[32]uint32
	n    int64
	max  time.Duration
}

func (l *lateness) add(d time.Duration) {
	v := uint64(max(d, 0))
	exp := bits.Len64(v | 31) // at least 5
	row := l.rows[exp-1]
	if row == nil {
		row = new([32]uint32)
		l.rows[exp-1] = row
	}
	row[sub(v, exp)]++
	l.n++
	l.max = max(l.max, d)
}

// sub takes the five bits below the leading one; values under 32 are their own.
func sub(v uint64, exp int) uint64 {
	if exp == 5 {
		return v
	}
	return (v >> (exp - 6)) & 31
}

func (l *lateness) merge(o *lateness) {
	for i, row := range o.rows {
		if row == nil {
			continue
		}
		if l.rows[i] == nil {
			l.rows[i] = new([32]uint32)
		}
		for k, c := range row {
			l.rows[i][k] += c
		}
	}
	l.n += o.n
	l.max = max(l.max, o.max)
}

// quantile returns the middle of the bucket of the nearest rank in ms, 0 for
// an empty histogram.
func (l *lateness) quantile(q float64) float64 {
	if l.n == 0 {
		return 0
	}
	rank := max(int64(q*float64(l.n)+0.999999999), 1)
	var seen int64
	for i, row := range l.rows {
		if row == nil {
			continue
		}
		for k, c := range row {
			if seen += int64(c); seen >= rank {
				return float64(middle(i+1, k)) / 1e6
			}
		}
	}
	return ms(l.max)
}

func middle(exp, k int) float64 {
	if exp == 5 {
		return float64(k)
	}
	width := float64(uint64(1) << (exp - 6))
	return float64(uint64(32+k))*width + width/2
}

func (l *lateness) maximum() float64 { return ms(l.max) }
