package exact

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"aifbench/pkg/bench/vector/data"
)

// fvecs and ivecs read the TEXMEX formats: an int32 dimension before each row.
func fvecs(t testing.TB, name string) data.Set {
	t.Helper()
	raw, dim := vecs(t, name)
	s := data.Set{Dim: dim}
	for _, w := range raw {
		s.Flat = append(s.Flat, math.Float32frombits(w))
	}
	return s
}

func vecs(t testing.TB, name string) (words []uint32, dim int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	dim = int(binary.LittleEndian.Uint32(b))
	for len(b) > 0 {
		for i := range dim {
			words = append(words, binary.LittleEndian.Uint32(b[4+4*i:]))
		}
		b = b[4+4*dim:]
	}
	return words, dim
}

// TestExactAgainstFixture compares with neighbours, squared distances and
// ties that another program computed; every value is a multiple of 1/8, so
// all of them are exact and must be equal.
func TestExactAgainstFixture(t *testing.T) {
	t.Parallel()
	base, queries := fvecs(t, "base.fvecs"), fvecs(t, "queries.fvecs")
	want, k := vecs(t, "neighbors.ivecs")
	ibin, err := os.ReadFile("testdata/vectors/groundtruth.ibin")
	if err != nil {
		t.Fatal(err)
	}
	dists := ibin[8+4*len(want):]
	tied := recallFixture(t).Tied
	for _, workers := range []int{1, 3, 100} {
		truth, err := Find(t.Context(), base, queries, k, L2, workers)
		if err != nil {
			t.Fatal(err)
		}
		for q := range queries.Len() {
			near, dist := truth.Neighbours(q)
			for i := range k {
				w := want[q*k+i]
				d := math.Float32frombits(binary.LittleEndian.Uint32(dists[4*(q*k+i):]))
				if uint32(near[i]) != w || dist[i] != float64(d) {
					t.Fatalf("%d workers, query %d rank %d: row %d at %v, want %d at %v", workers, q, i, near[i], dist[i], w, d)
				}
			}
			// tied_at_border counts the rows at exactly the k-th distance, those
			// inside k too: the place after k is tied when there are more of them
			// than the last ranks hold.
			inside := 0
			for i := k - 1; i >= 0 && dist[i] == dist[k-1]; i-- {
				inside++
			}
			if got := truth.Tied(q); got != (tied[q] > inside) {
				t.Errorf("query %d: tied %v, %d rows at the border, %d of them inside", q, got, tied[q], inside)
			}
		}
	}
}

type recallDoc struct {
	K        int                                  `json:"k"`
	Tied     []int                                `json:"tied_at_border"`
	Lists    map[string][][]int32                 `json:"lists"`
	Expected map[string]map[string]map[string]any `json:"expected"`
}

func recallFixture(t testing.TB) recallDoc {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors/recall.json")
	if err != nil {
		t.Fatal(err)
	}
	var doc recallDoc
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestRecallAgainstFixture checks both named definitions on ten kinds of
// planted answers, query by query.
func TestRecallAgainstFixture(t *testing.T) {
	t.Parallel()
	base, queries := fvecs(t, "base.fvecs"), fvecs(t, "queries.fvecs")
	doc := recallFixture(t)
	truth, err := Find(t.Context(), base, queries, doc.K, L2, 2)
	if err != nil {
		t.Fatal(err)
	}
	for name, lists := range doc.Lists {
		for q, rows := range lists {
			var exact []float64
			for _, r := range rows {
				if r >= 0 {
					exact = append(exact, Distance(L2, queries.Row(q), base.Row(int(r))))
				}
			}
			tie, id := truth.Recall(q, rows, exact)
			for def, got := range map[string]float64{"tie_aware_1e-6": tie, "id_exact": id} {
				per, ok := doc.Expected[name][def]["per_query"].([]any)
				if !ok {
					t.Fatalf("no per_query of %s %s: %v", name, def, doc.Expected[name][def])
				}
				if want, ok := per[q].(float64); !ok || math.Abs(got-want) > 1e-12 {
					t.Errorf("%s, query %d, %s: %v, want %v", name, q, def, got, per[q])
				}
			}
		}
	}
}

// TestExactAgainstNaive compares every metric with a plain sort, and distances
// with rational arithmetic.
func TestExactAgainstNaive(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dim := rapid.IntRange(1, 9).Draw(rt, "dim")
		n := rapid.IntRange(1, 70).Draw(rt, "n")
		q := rapid.IntRange(1, 9).Draw(rt, "q")
		k := rapid.IntRange(1, 12).Draw(rt, "k")
		m := rapid.SampledFrom([]Metric{L2, Cosine, IP}).Draw(rt, "metric")
		// Few values make ties and zero vectors frequent.
		value := rapid.SampledFrom([]float32{-1, 0, 0, 0.5, 2})
		base := data.Set{Dim: dim, Flat: rapid.SliceOfN(value, n*dim, n*dim).Draw(rt, "base")}
		queries := data.Set{Dim: dim, Flat: rapid.SliceOfN(value, q*dim, q*dim).Draw(rt, "queries")}
		truth, err := Find(context.Background(), base, queries, k, m, rapid.IntRange(1, 4).Draw(rt, "workers"))
		if err != nil {
			rt.Fatal(err)
		}
		for i := range q {
			order := make([]int32, n)
			for r := range order {
				order[r] = int32(r)
			}
			d := func(r int32) float64 { return Distance(m, queries.Row(i), base.Row(int(r))) }
			slices.SortStableFunc(order, func(a, b int32) int {
				switch da, db := d(a), d(b); {
				case da < db:
					return -1
				case da > db:
					return 1
				}
				return 0
			})
			near, dist := truth.Neighbours(i)
			if !slices.Equal(near, order[:min(k, n)]) {
				rt.Fatalf("query %d: %v, want %v", i, near, order[:min(k, n)])
			}
			for j, r := range near {
				if dist[j] != d(r) || math.Abs(d(r)-rational(m, queries.Row(i), base.Row(int(r)))) > 1e-14 {
					rt.Fatalf("query %d row %d: distance %v, one by one %v, rational %v", i, r, dist[j], d(r), rational(m, queries.Row(i), base.Row(int(r))))
				}
			}
		}
	})
}

// rational computes a distance in exact fractions but for the last root.
func rational(m Metric, a, b []float32) float64 {
	sum := func(f func(x, y *big.Rat) *big.Rat) *big.Rat {
		s := new(big.Rat)
		for i := range a {
			s.Add(s, f(new(big.Rat).SetFloat64(float64(a[i])), new(big.Rat).SetFloat64(float64(b[i]))))
		}
		return s
	}
	float := func(r *big.Rat) float64 { f, _ := r.Float64(); return f }
	dot := sum(func(x, y *big.Rat) *big.Rat { return new(big.Rat).Mul(x, y) })
	switch m {
	case L2:
		return float(sum(func(x, y *big.Rat) *big.Rat { d := new(big.Rat).Sub(x, y); return d.Mul(d, d) }))
	case IP:
		return float(new(big.Rat).Sub(big.NewRat(1, 1), dot))
	}
	na := float(sum(func(x, _ *big.Rat) *big.Rat { return new(big.Rat).Mul(x, x) }))
	nb := float(sum(func(_, y *big.Rat) *big.Rat { return new(big.Rat).Mul(y, y) }))
	if na == 0 || nb == 0 {
		return 1
	}
	return 1 - float(dot)/math.Sqrt(na*nb)
}

func TestExactStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Find(ctx, data.Set{Dim: 1, Flat: []float32{1}}, data.Set{Dim: 1, Flat: []float32{1}}, 1, L2, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}

func TestIndifferent(t *testing.T) {
	t.Parallel()
	equal := data.Set{Dim: 2, Flat: make([]float32, 2*100)}
	generated := func(d data.Spec, dim, n int) data.Set {
		base, _, err := data.Generate(d, dim, n, 0)
		if err != nil {
			t.Fatal(err)
		}
		return base
	}
	for _, tc := range []struct {
		name    string
		base    data.Set
		metric  Metric
		refused bool
	}{
		{"all equal", equal, L2, true},
		{"all equal, cosine", equal, Cosine, true},
		{"all equal, ip", equal, IP, true},
		{"k not below n", generated(data.Spec{Kind: data.Uniform}, 2, 10), L2, true},
		{"uniform in 1536 dimensions", generated(data.Spec{Kind: data.Uniform, Seed: 3}, 1536, 500), L2, true},
		{"uniform in 8 dimensions", generated(data.Spec{Kind: data.Uniform, Seed: 3}, 8, 500), L2, false},
		{"clustered", generated(data.Spec{Kind: data.Clustered, Seed: 3, Clusters: 8}, 64, 1000), L2, false},
		{"clustered, cosine", generated(data.Spec{Kind: data.Clustered, Seed: 3, Clusters: 8}, 64, 1000), Cosine, false},
		{"clustered, ip", generated(data.Spec{Kind: data.Clustered, Seed: 3, Clusters: 8}, 64, 1000), IP, false},
	} {
		queries := tc.base.Head(min(10, tc.base.Len()))
		truth, err := Find(t.Context(), tc.base, queries, 10, tc.metric, 2)
		if err != nil {
			t.Fatal(err)
		}
		if got := truth.Indifferent(); (got != "") != tc.refused {
			t.Errorf("%s: random %v contrast %v: %q", tc.name, truth.Random, truth.Contrast, got)
		}
	}
}

func BenchmarkExact(b *testing.B) {
	base, queries, err := data.Generate(data.Spec{Kind: data.Clustered, Seed: 1, Clusters: 64}, 128, 20000, 200)
	if err != nil {
		b.Fatal(err)
	}
	for _, m := range []Metric{L2, Cosine, IP} {
		b.Run(string(m), func(b *testing.B) {
			for b.Loop() {
				if _, err := Find(b.Context(), base, queries, 10, m, 1); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(20000*200*128), "ns/value")
		})
	}
}
