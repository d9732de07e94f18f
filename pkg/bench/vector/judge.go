package vector

import (
	"bytes"
	"math"
	"slices"
	"strconv"

	"aifbench/pkg/bench/vector/chroma"
	"aifbench/pkg/bench/vector/data"
	"aifbench/pkg/bench/vector/exact"
)

// Classes of answers that came with status 200 and are wrong all the same.
// They stand beside the classes of package chroma.
const (
	WrongRows      = "wrong_rows"       // not one list for one query
	WrongUnknownID = "wrong_unknown_id" // an id that was never stored
	WrongDuplicate = "wrong_duplicate"  // an id given twice
	WrongCount     = "wrong_count"      // more or fewer ids than can be
	WrongOrder     = "wrong_order"      // not near to far by its own distances
	WrongDistance  = "wrong_distance"   // a distance other than the one computed here
	classOK        = string(chroma.ClassOK)
)

// appendID appends the id of a row: the prefix of its collection and the row
// number, so that an answer out of another collection is recognised.
func appendID(dst []byte, prefix string, row int) []byte {
	return strconv.AppendInt(append(dst, prefix...), int64(row), 10)
}

// parseID returns the row of an id, or -1 for one that appendID cannot have
// made for a row below n.
func parseID(id []byte, prefix string, n int) int32 {
	digits, ok := bytes.CutPrefix(id, []byte(prefix))
	if !ok || len(digits) == 0 || len(digits) > 10 || (digits[0] == '0' && len(digits) > 1) {
		return -1
	}
	row := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return -1
		}
		row = row*10 + int(c-'0')
	}
	if row >= n {
		return -1
	}
	return int32(row)
}

// judge decides about answers. One belongs to one worker; what it returns is
// valid until its next use.
type judge struct {
	base, queries data.Set
	truth         *exact.Truth
	metric        exact.Metric
	prefix        string
	k             int
	stored        int64 // records the server counts
	rows          []int32
	sorted        []int32
	exact         []float64
}

// verdict is what became of one answer. The recalls are NaN unless the class
// is classOK and there is a truth.
type verdict struct {
	class   string
	rows    []int32
	tie, id float64
}

func (j *judge) answer(q int, a *chroma.Answer) verdict {
	v := verdict{class: WrongRows, tie: math.NaN(), id: math.NaN()}
	if a.Rows() != 1 {
		return v
	}
	ids, dist := a.IDs(0), a.Distances(0)
	if dist == nil && len(ids) > 0 {
		return v
	}
	j.rows, j.exact = j.rows[:0], j.exact[:0]
	query := j.queries.Row(q)
	known := true
	for _, id := range ids {
		row := parseID(id, j.prefix, j.base.Len())
		j.rows = append(j.rows, row)
		if row < 0 {
			known = false
			continue
		}
		j.exact = append(j.exact, exact.Distance(j.metric, query, j.base.Row(int(row))))
	}
	v.rows = j.rows
	switch {
	case !known:
		v.class = WrongUnknownID
	case j.repeats():
		v.class = WrongDuplicate
	case int64(len(ids)) != min(int64(j.k), j.stored):
		v.class = WrongCount
	case !slices.IsSorted(dist):
		v.class = WrongOrder
	case !j.close(query, dist):
		v.class = WrongDistance
	default:
		v.class = classOK
		if j.truth != nil {
			v.tie, v.id = j.truth.Recall(q, j.rows, j.exact)
		}
	}
	return v
}

func (j *judge) repeats() bool {
	j.sorted = append(j.sorted[:0], j.rows...)
	slices.Sort(j.sorted)
	for i := 1; i < len(j.sorted); i++ {
		if j.sorted[i] == j.sorted[i-1] {
			return true
		}
	}
	return false
}

func (j *judge) close(query []float32, dist []float64) bool {
	for i, d := range dist {
		want := j.exact[i]
		// The negation catches NaN, which compares with nothing.
		if !(math.Abs(d-want) <= exact.Tolerance(j.metric, query, j.base.Row(int(j.rows[i])), want)) {
			return false
		}
	}
	return true
}
