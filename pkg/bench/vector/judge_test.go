package vector

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"aifbench/pkg/bench/vector/chroma"
	"aifbench/pkg/bench/vector/data"
	"aifbench/pkg/bench/vector/exact"
)

// TestJudge plants one fault at a time into a right answer: base rows are the
// numbers 0 to 9 on a line, the query is 2.2, k is 3.
func TestJudge(t *testing.T) {
	t.Parallel()
	base := data.Set{Dim: 1}
	for i := range 10 {
		base.Flat = append(base.Flat, float32(i))
	}
	queries := data.Set{Dim: 1, Flat: []float32{2.25}}
	truth, err := exact.Find(t.Context(), base, queries, 3, exact.L2, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, answer, class string
		tie, id             float64
	}{
		{"right", `{"ids":[["p-2","p-3","p-1"]],"distances":[[0.0625,0.5625,1.5625]]}`, classOK, 1, 1},
		{"a miss is no fault", `{"ids":[["p-2","p-3","p-4"]],"distances":[[0.0625,0.5625,3.0625]]}`, classOK, 2.0 / 3, 2.0 / 3},
		{"all missed", `{"ids":[["p-7","p-8","p-9"]],"distances":[[22.5625,33.0625,45.5625]]}`, classOK, 0, 0},
		{"rounding is no fault", `{"ids":[["p-2","p-3","p-1"]],"distances":[[0.0625001,0.5625001,1.5624999]]}`, classOK, 1, 1},
		{"no row", `{"ids":[],"distances":[]}`, WrongRows, nan, nan},
		{"two rows", `{"ids":[["p-2"],["p-3"]],"distances":[[0],[0]]}`, WrongRows, nan, nan},
		{"no distances", `{"ids":[["p-2","p-3","p-1"]],"distances":null}`, WrongRows, nan, nan},
		{"empty", `{"ids":[[]],"distances":[[]]}`, WrongCount, nan, nan},
		{"short", `{"ids":[["p-2","p-3"]],"distances":[[0.0625,0.5625]]}`, WrongCount, nan, nan},
		{"long", `{"ids":[["p-2","p-3","p-1","p-4"]],"distances":[[0.0625,0.5625,1.5625,3.0625]]}`, WrongCount, nan, nan},
		{"repeated", `{"ids":[["p-2","p-3","p-2"]],"distances":[[0.0625,0.5625,1.5625]]}`, WrongDuplicate, nan, nan},
		{"another collection's", `{"ids":[["x-2","p-3","p-1"]],"distances":[[0.0625,0.5625,1.5625]]}`, WrongUnknownID, nan, nan},
		{"beyond the data", `{"ids":[["p-2","p-3","p-10"]],"distances":[[0.0625,0.5625,1.5625]]}`, WrongUnknownID, nan, nan},
		{"leading zero", `{"ids":[["p-02","p-3","p-1"]],"distances":[[0.0625,0.5625,1.5625]]}`, WrongUnknownID, nan, nan},
		{"minus one", `{"ids":[["p--1","p-3","p-1"]],"distances":[[0.0625,0.5625,1.5625]]}`, WrongUnknownID, nan, nan},
		{"far to near", `{"ids":[["p-1","p-3","p-2"]],"distances":[[1.5625,0.5625,0.0625]]}`, WrongOrder, nan, nan},
		{"roots instead of squares", `{"ids":[["p-2","p-3","p-1"]],"distances":[[0.25,0.75,1.25]]}`, WrongDistance, nan, nan},
		{"distances of others", `{"ids":[["p-3","p-2","p-1"]],"distances":[[0.0625,0.5625,1.5625]]}`, WrongDistance, nan, nan},
	} {
		var a chroma.Answer
		if err := a.Parse([]byte(tc.answer)); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		j := &judge{base: base, queries: queries, truth: truth, metric: exact.L2, prefix: "p-", k: 3, stored: 10}
		v := j.answer(0, &a)
		if v.class != tc.class || !sameFloat(v.tie, tc.tie) || !sameFloat(v.id, tc.id) {
			t.Errorf("%s: %s tie %v id %v, want %s %v %v", tc.name, v.class, v.tie, v.id, tc.class, tc.tie, tc.id)
		}
	}
}

func sameFloat(a, b float64) bool {
	return a == b || math.Abs(a-b) < 1e-12 || (math.IsNaN(a) && math.IsNaN(b))
}

func FuzzID(f *testing.F) {
	for _, s := range []string{"ab12-0", "ab12-9", "ab12-00", "ab12-10", "ab12-", "xx-1", "ab12-99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, id string) {
		row := parseID([]byte(id), "ab12-", 10)
		if row >= 0 && id != "ab12-"+strconv.Itoa(int(row)) {
			t.Fatalf("%q is row %d", id, row)
		}
		if row >= 10 {
			t.Fatalf("%q is row %d of 10", id, row)
		}
		if n, err := strconv.Atoi(strings.TrimPrefix(id, "ab12-")); err == nil && n >= 0 && n < 10 && id == string(appendID(nil, "ab12-", n)) && row != int32(n) {
			t.Fatalf("%q is row %d", id, row)
		}
	})
}
