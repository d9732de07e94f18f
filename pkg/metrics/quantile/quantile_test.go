package quantile_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"aifbench/pkg/metrics/quantile"
)

func ramp(n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = float64(i + 1)
	}
	return out
}

// Nearest ranks by hand: the smallest rank r with r/n >= q.
func TestRank(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n    int64
		q    float64
		want int64
	}{
		{0, 0.5, 0},
		{1, 0, 1},
		{1, 0.5, 1},
		{1, 1, 1},
		{4, 0.5, 2},
		{5, 0.5, 3},
		{10, 0.9, 9},
		{10, 0.95, 10},
		{100, 0.07, 7}, // 0.07*100 is 7.000000000000001 in binary
		{100, 0.29, 29},
		{100, 0.99, 99},
		{1000, 0.999, 999},
		{1000, 0.9991, 1000},
		{1_000_000_000, 0.999999, 999_999_000},
		{10, -0.1, 0},
		{10, 1.1, 0},
		{10, math.NaN(), 0},
	} {
		if got := quantile.Rank(c.n, c.q); got != c.want {
			t.Errorf("Rank(%d, %v) = %d, want %d", c.n, c.q, got, c.want)
		}
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	in := []float64{3, math.NaN(), 1, 2, 4}
	s := quantile.Of(in)
	if in[0] != 3 || !math.IsNaN(in[1]) {
		t.Fatal("Of changed its input")
	}
	if s.N() != 4 || s.NaNs() != 1 || s.Min() != 1 || s.Max() != 4 {
		t.Fatalf("N %d NaNs %d Min %v Max %v", s.N(), s.NaNs(), s.Min(), s.Max())
	}
	if got := s.Quantile(0.5); got != 2 {
		t.Errorf("median %v, want 2", got)
	}
	// Mean 2.5; deviations 1.5 .5 .5 1.5, squares sum to 5, over 3.
	if got := s.Mean(); got != 2.5 {
		t.Errorf("mean %v, want 2.5", got)
	}
	near(t, "std", s.Std(), math.Sqrt(5.0/3), 1e-12)
	// t(0.975, 3) = 3.182446 of a printed table.
	lo, hi, ok := s.MeanCI()
	half := 3.182446 * math.Sqrt(5.0/3) / 2
	if !ok {
		t.Fatal("no interval of the mean")
	}
	near(t, "mean low", lo, 2.5-half, 1e-5)
	near(t, "mean high", hi, 2.5+half, 1e-5)

	var empty quantile.Sample
	for name, v := range map[string]float64{"quantile": empty.Quantile(0.5), "mean": empty.Mean(), "min": empty.Min(), "max": empty.Max(), "std": empty.Std()} {
		if !math.IsNaN(v) {
			t.Errorf("%s of nothing is %v, want NaN", name, v)
		}
	}
	if _, _, ok := quantile.Of([]float64{1}).MeanCI(); ok {
		t.Error("one value has an interval of the mean")
	}
	if got := quantile.OfSorted([]float64{2, 1}).Quantile(0); got != 1 {
		t.Errorf("OfSorted trusted an unsorted slice: %v", got)
	}
}

// A spread of 1 on an offset of 1e9 must survive: the naive sum of squares
// loses it.
func TestStdLargeOffset(t *testing.T) {
	t.Parallel()
	s := quantile.Of([]float64{1e9 + 1, 1e9 + 2, 1e9 + 3})
	near(t, "std", s.Std(), 1, 1e-9)
}

// Ranks computed with exact fractions (binomial sums in Python).
func TestRankCI(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n    int64
		q    float64
		l, u int64
		ok   bool
	}{
		{5, 0.5, 0, 0, false},
		{6, 0.5, 1, 6, true},
		{10, 0.5, 2, 9, true},
		{20, 0.5, 6, 15, true},
		{100, 0.5, 40, 61, true},
		{200, 0.95, 184, 197, true},
		{1000, 0.9, 881, 919, true},
		{1000, 0.99, 983, 997, true},
		{100, 0.99, 0, 0, false},
		{3000, 0.999, 0, 0, false},
		{0, 0.5, 0, 0, false},
		{10, 0, 0, 0, false},
		{10, 1, 0, 0, false},
	} {
		l, u, ok := quantile.RankCI(c.n, c.q)
		if ok != c.ok || ok && (l != c.l || u != c.u) {
			t.Errorf("RankCI(%d, %v) = %d, %d, %v, want %d, %d, %v", c.n, c.q, l, u, ok, c.l, c.u, c.ok)
		}
	}
	lo, hi, ok := quantile.OfSorted(ramp(10)).QuantileCI(0.5)
	if !ok || lo != 2 || hi != 9 {
		t.Errorf("interval of the median of 1..10 is %v..%v %v, want 2..9", lo, hi, ok)
	}
}

func TestBinomialCDF(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k, n    int64
		p, want float64
	}{
		{3, 10, 0.3, 0.6496107184},
		{0, 20, 0.1, 0.1215766545905693},
		{990, 1000, 0.99, 0.5426994078251092},
		{55, 100, 0.5, 0.8643734879630827},
		{-1, 10, 0.5, 0},
		{10, 10, 0.5, 1},
	} {
		near(t, "cdf", quantile.BinomialCDF(c.k, c.n, c.p), c.want, 1e-10)
	}
	// Median of a symmetric binomial with a million trials: P(X <= 500000) is
	// one half plus half the central term sqrt(2/(pi n)).
	near(t, "large n", quantile.BinomialCDF(500_000, 1_000_000, 0.5), 0.5+0.5*math.Sqrt(2/(math.Pi*1e6)), 1e-7)
}

// Printed table of Student's t, 97.5 %.
func TestStudentT(t *testing.T) {
	t.Parallel()
	for df, want := range map[float64]float64{1: 12.7062, 2: 4.30265, 4: 2.77645, 9: 2.26216, 30: 2.04227, 120: 1.97993, 1e6: 1.95997} {
		near(t, "t", quantile.StudentT(df), want, 1e-4)
	}
	if !math.IsNaN(quantile.StudentT(0)) {
		t.Error("t with no degree of freedom")
	}
}

func TestWilson(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k, n   int64
		lo, hi float64
	}{
		{8, 10, 0.49016247, 0.94331785},
		{0, 20, 0, 0.16112516},
		{20, 20, 0.83887484, 1},
		{1, 1000, 0.00017654637, 0.00564255859},
	} {
		lo, hi, ok := quantile.Wilson(c.k, c.n)
		if !ok {
			t.Fatalf("Wilson(%d, %d) has no answer", c.k, c.n)
		}
		near(t, "low", lo, c.lo, 1e-8)
		near(t, "high", hi, c.hi, 1e-8)
	}
	for _, c := range [][2]int64{{0, 0}, {-1, 10}, {11, 10}} {
		if _, _, ok := quantile.Wilson(c[0], c[1]); ok {
			t.Errorf("Wilson(%d, %d) has an answer", c[0], c[1])
		}
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	h, err := quantile.NewHistogram(1e-6, 10, 3)
	if err != nil {
		t.Fatal(err)
	}
	if !math.IsNaN(h.Quantile(0.5)) || !math.IsNaN(h.Mean()) {
		t.Error("an empty histogram has values")
	}
	for i := 1; i <= 1000; i++ {
		h.Record(float64(i) / 1000) // 1 ms .. 1 s
	}
	for _, c := range []struct{ q, want float64 }{{0.5, 0.5}, {0.9, 0.9}, {0.99, 0.99}, {1, 1}, {0, 0.001}} {
		got := h.Quantile(c.q)
		if got < c.want*(1-1e-9) || got > c.want*1.001+1e-9 {
			t.Errorf("quantile %v is %v, want %v within 0.1 %% above", c.q, got, c.want)
		}
	}
	near(t, "mean", h.Mean(), 0.5005, 1e-12)
	if lo, hi, ok := h.QuantileCI(0.99); !ok || lo < 0.983 || hi > 0.9975*1.001 {
		t.Errorf("interval of p99 %v..%v %v, want order statistics 983 and 997", lo, hi, ok)
	}
}

func TestHistogramOutOfRange(t *testing.T) {
	t.Parallel()
	h, err := quantile.NewHistogram(0.001, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []float64{-1, 0, 0.5, 0.5, 0.5, 2, math.Inf(1), math.NaN()} {
		h.Record(v)
	}
	below, above := h.OutOfRange()
	if h.N() != 7 || below != 2 || above != 2 || h.NaNs() != 1 {
		t.Fatalf("N %d below %d above %d NaN %d, want 7 2 2 1", h.N(), below, above, h.NaNs())
	}
	if got := h.Quantile(0.1); !math.IsInf(got, -1) {
		t.Errorf("rank 1 of 7 lies below the range, got %v", got)
	}
	if got := h.Quantile(0.5); got < 0.5 || got > 0.505 {
		t.Errorf("median %v, want 0.5", got)
	}
	if got := h.Quantile(0.9); !math.IsInf(got, 1) {
		t.Errorf("rank 7 of 7 lies above the range, got %v", got)
	}
}

func TestHistogramRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		unit, max float64
		digits    int
	}{{0, 1, 3}, {-1, 1, 3}, {1, 1, 3}, {1e-6, 1, 0}, {1e-6, 1, 6}, {1e-9, 1e9, 3}, {math.NaN(), 1, 3}} {
		if _, err := quantile.NewHistogram(c.unit, c.max, c.digits); err == nil {
			t.Errorf("NewHistogram(%v, %v, %d) was not refused", c.unit, c.max, c.digits)
		}
	}
	a, _ := quantile.NewHistogram(1e-6, 10, 3)
	b, _ := quantile.NewHistogram(1e-6, 20, 3)
	b.Record(1)
	if err := a.Merge(b); err == nil || a.N() != 0 {
		t.Error("histograms of different shape were merged")
	}
}

// Recording into several histograms and merging them must equal recording
// into one, and quantiles must stay within the promised digits of the exact
// ones.
func TestMergeEqualsOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(-1, 120), 1, 200).Draw(t, "values")
		one, _ := quantile.NewHistogram(1e-3, 100, 3)
		parts := make([]*quantile.Histogram, 3)
		for i := range parts {
			parts[i], _ = quantile.NewHistogram(1e-3, 100, 3)
		}
		for i, v := range values {
			one.Record(v)
			parts[i%3].Record(v)
		}
		merged, _ := quantile.NewHistogram(1e-3, 100, 3)
		for _, p := range parts {
			if err := merged.Merge(p); err != nil {
				t.Fatal(err)
			}
		}
		exact := quantile.Of(values)
		for _, q := range []float64{0, 0.25, 0.5, 0.9, 1} {
			a, b := one.Quantile(q), merged.Quantile(q)
			if a != b {
				t.Fatalf("quantile %v: one %v, merged %v", q, a, b)
			}
			want := exact.Quantile(q)
			if math.IsInf(a, 0) {
				if want > 1e-3 && want < 100 {
					t.Fatalf("quantile %v is %v, exact %v lies in range", q, a, want)
				}
				continue
			}
			if math.Abs(a-want) > want*0.001+0.0005 {
				t.Fatalf("quantile %v is %v, exact %v", q, a, want)
			}
		}
	})
}

// The interval must cover the true quantile at least as often as promised; for
// 1..n drawn at random, coverage is a property of ranks alone, so the check is
// exact: P(l <= X < u) of the binomial.
func TestCoverage(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{20, 100, 999, 5000} {
		for _, q := range []float64{0.5, 0.9, 0.95} {
			l, u, ok := quantile.RankCI(n, q)
			if !ok {
				continue
			}
			covered := quantile.BinomialCDF(u-1, n, q) - quantile.BinomialCDF(l-1, n, q)
			if covered < quantile.Confidence {
				t.Errorf("n %d q %v: coverage %v", n, q, covered)
			}
			if tight := quantile.BinomialCDF(u-2, n, q) - quantile.BinomialCDF(l, n, q); tight >= quantile.Confidence+0.01 {
				t.Errorf("n %d q %v: a narrower interval covers %v", n, q, tight)
			}
		}
	}
}

func TestRecordDoesNotAllocate(t *testing.T) {
	h, err := quantile.NewHistogram(1e-6, 3600, 3)
	if err != nil {
		t.Fatal(err)
	}
	values := []float64{1e-9, 0.001, 1, 5000}
	if n := testing.AllocsPerRun(100, func() {
		for _, v := range values {
			h.Record(v)
		}
	}); n != 0 {
		t.Errorf("Record allocates %v times", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	h, err := quantile.NewHistogram(1e-6, 3600, 3)
	if err != nil {
		b.Fatal(err)
	}
	for i := range b.N {
		h.Record(float64(i%1000+1) * 1e-3)
	}
}

func near(t *testing.T, what string, got, want, tol float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tol) {
		t.Errorf("%s is %v, want %v within %v", what, got, want, tol)
	}
}

func TestOfKeepsInfinities(t *testing.T) {
	t.Parallel()
	s := quantile.Of([]float64{math.Inf(1), 1, math.Inf(-1)})
	if !slices.Equal([]float64{s.Quantile(0), s.Quantile(0.5), s.Quantile(1)}, []float64{math.Inf(-1), 1, math.Inf(1)}) {
		t.Error("infinities lost their place")
	}
}
