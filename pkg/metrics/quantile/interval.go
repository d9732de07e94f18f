package quantile

import (
	"math"
	"sort"
)

// RankCI returns the 1-based ranks l < u of the order statistics that enclose
// quantile q of n independent values with at least 95 % confidence: l-1 is the
// largest k with P(X <= k) <= 0.025 and u-1 the smallest k with
// P(X <= k) >= 0.975 for X binomial(n, q). ok is false when the sample is too
// small for such ranks to exist.
func RankCI(n int64, q float64) (l, u int64, ok bool) {
	if n < 1 || !(q > 0 && q < 1) {
		return 0, 0, false
	}
	const tail = (1 - Confidence) / 2
	// Search for the number of ranks k = 0..n for which the tail is exceeded.
	l = int64(sort.Search(int(n), func(k int) bool { return BinomialCDF(int64(k), n, q) > tail }))
	u = 1 + int64(sort.Search(int(n), func(k int) bool { return BinomialCDF(int64(k), n, q) >= 1-tail }))
	if l < 1 || u > n {
		return 0, 0, false
	}
	return l, u, true
}

// Wilson returns the 95 % Wilson score interval of a ratio of k successes in n
// trials. It stays inside 0..1 and is right at k = 0 and k = n, where the
// normal interval has no width.
func Wilson(k, n int64) (lo, hi float64, ok bool) {
	if n < 1 || k < 0 || k > n {
		return 0, 0, false
	}
	const z = 1.959963984540054 // the 97.5 % point of the normal distribution
	p, m := float64(k)/float64(n), float64(n)
	centre := (p + z*z/(2*m)) / (1 + z*z/m)
	half := z / (1 + z*z/m) * math.Sqrt(p*(1-p)/m+z*z/(4*m*m))
	lo, hi = centre-half, centre+half
	if k == 0 {
		lo = 0
	}
	if k == n {
		hi = 1
	}
	return max(lo, 0), min(hi, 1), true
}

// StudentT returns the 97.5 % point of Student's t distribution with df
// degrees of freedom, NaN for df <= 0.
func StudentT(df float64) float64 {
	if !(df > 0) {
		return math.NaN()
	}
	// P(T > t) = I_x(df/2, 1/2)/2 with x = df/(df+t*t), falling in t.
	above := func(t float64) float64 { return betaInc(df/2, 0.5, df/(df+t*t)) / 2 }
	const tail = (1 - Confidence) / 2
	lo, hi := 0.0, 2.0
	for above(hi) > tail && hi < 1e6 {
		hi *= 2
	}
	for range 200 {
		mid := lo + (hi-lo)/2
		if mid == lo || mid == hi {
			break
		}
		if above(mid) > tail {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// BinomialCDF returns P(X <= k) for X binomial(n, p).
func BinomialCDF(k, n int64, p float64) float64 {
	switch {
	case k < 0:
		return 0
	case k >= n:
		return 1
	}
	return betaInc(float64(n-k), float64(k+1), 1-p)
}

// betaInc is the regularised incomplete beta function I_x(a, b).
func betaInc(a, b, x float64) float64 {
	switch {
	case x <= 0:
		return 0
	case x >= 1:
		return 1
	}
	la, _ := math.Lgamma(a)
	lb, _ := math.Lgamma(b)
	lab, _ := math.Lgamma(a + b)
	front := math.Exp(lab - la - lb + a*math.Log(x) + b*math.Log1p(-x))
	// The continued fraction converges fast on one side of the mean; the
	// symmetry I_x(a,b) = 1 - I_(1-x)(b,a) brings every x there.
	if x < (a+1)/(a+b+2) {
		return front * betaFraction(a, b, x) / a
	}
	return 1 - front*betaFraction(b, a, 1-x)/b
}

// betaFraction evaluates the continued fraction of betaInc by Lentz's method.
func betaFraction(a, b, x float64) float64 {
	const tiny, eps = 1e-300, 1e-15
	nonZero := func(v float64) float64 {
		if math.Abs(v) < tiny {
			return tiny
		}
		return v
	}
	c, d := 1.0, 1/nonZero(1-(a+b)*x/(a+1))
	h := d
	// The number of steps grows with the square root of the larger argument.
	steps := 200 + int(10*math.Sqrt(math.Max(a, b)))
	for m := 1; m <= steps; m++ {
		fm := float64(m)
		even := fm * (b - fm) * x / ((a + 2*fm - 1) * (a + 2*fm))
		d = 1 / nonZero(1+even*d)
		c = nonZero(1 + even/c)
		h *= d * c
		odd := -(a + fm) * (a + b + fm) * x / ((a + 2*fm) * (a + 2*fm + 1))
		d = 1 / nonZero(1+odd*d)
		c = nonZero(1 + odd/c)
		step := d * c
		h *= step
		if math.Abs(step-1) < eps {
			break
		}
	}
	return h
}
