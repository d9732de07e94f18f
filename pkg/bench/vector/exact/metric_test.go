package exact

import (
	"math"
	"testing"

	"aifbench/pkg/bench/vector/data"
)

// TestTolerance: sums in float32, forwards and backwards, must stay inside at
// the dimensions of real embeddings; a neighbour's distance must not.
func TestTolerance(t *testing.T) {
	t.Parallel()
	for _, dim := range []int{1, 3, 128, 1536} {
		base, queries, err := data.Generate(data.Spec{Kind: data.Clustered, Seed: 5, Clusters: 4}, dim, 60, 20)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []Metric{L2, IP} {
			for q := range queries.Len() {
				for r := range base.Len() {
					a, b := queries.Row(q), base.Row(r)
					exact := Distance(m, a, b)
					var up, down float32
					for i := range a {
						up += term(m, a[i], b[i])
						down += term(m, a[dim-1-i], b[dim-1-i])
					}
					if m == IP {
						up, down = 1-up, 1-down
					}
					tol := Tolerance(m, a, b, exact)
					if math.Abs(float64(up)-exact) > tol || math.Abs(float64(down)-exact) > tol {
						t.Fatalf("dim %d %s: exact %v, float32 %v and %v, tolerance %v", dim, m, exact, up, down, tol)
					}
					if dim > 1 && tol > 0.01*math.Abs(exact)+0.05 {
						t.Fatalf("dim %d %s: tolerance %v of %v finds nothing", dim, m, tol, exact)
					}
				}
			}
		}
	}
}

func term(m Metric, a, b float32) float32 {
	if m == L2 {
		return (a - b) * (a - b)
	}
	return a * b
}
