package vector

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"aifbench/pkg/bench/record"
)

// recordKind names the record file: records.vector.rec.
const recordKind = "vector"

// The phases of a point, in order, and the operations in them. An opWindow is
// no call: it marks the measured interval of its phase, intended to end.
const (
	phaseCreate  = "create"
	phaseInsert  = "insert"
	phaseSettle  = "settle"
	phaseWarm    = "warm"
	phaseQuery   = "query"
	phaseCleanup = "cleanup"

	opCreate = "create"
	opAdd    = "add"
	opCount  = "count"
	opQuery  = "query"
	opDrop   = "drop"
	opWindow = "window"
)

// sample is one operation. Times are offsets from the start of the run by the
// monotonic clock.
type sample struct {
	point, phase, op string
	item             int64 // batch or query number
	intended         time.Duration
	start            time.Duration
	header           time.Duration // first bytes of the answer; -1 when none came
	end              time.Duration
	n                int64 // vectors of an add, ids of an answer, records of a count
	sent, got        int64
	outcome          string
	status           int64 // HTTP status of a failure that had one; 0 else
	tie, id          float64
	rows             []int64 // returned rows, -1 unknown
	distances        []int64 // float32 bits of the returned distances
}

func columns() []record.Column {
	return []record.Column{
		{Name: "point", Kind: record.KindString},
		{Name: "phase", Kind: record.KindString},
		{Name: "op", Kind: record.KindString},
		{Name: "item", Kind: record.KindInt},
		{Name: "intended_ns", Kind: record.KindInt, Unit: "ns"},
		{Name: "start_ns", Kind: record.KindInt, Unit: "ns"},
		{Name: "header_ns", Kind: record.KindInt, Unit: "ns"},
		{Name: "end_ns", Kind: record.KindInt, Unit: "ns"},
		{Name: "n", Kind: record.KindInt, Unit: "count"},
		{Name: "sent_bytes", Kind: record.KindInt, Unit: "bytes"},
		{Name: "got_bytes", Kind: record.KindInt, Unit: "bytes"},
		{Name: "outcome", Kind: record.KindString},
		{Name: "status", Kind: record.KindInt},
		{Name: "recall_tie", Kind: record.KindFloat, Unit: "ratio"},
		{Name: "recall_id", Kind: record.KindFloat, Unit: "ratio"},
		{Name: "rows", Kind: record.KindInts, Unit: "row"},
		{Name: "distance_bits", Kind: record.KindInts, Unit: "float32 bits"},
	}
}

func (s *sample) row() record.Row {
	ratio := func(v float64) record.Value {
		if math.IsNaN(v) {
			return record.Null()
		}
		return record.Float(v)
	}
	list := func(v []int64) record.Value {
		if v == nil {
			return record.Null()
		}
		return record.Ints(v)
	}
	header, status := record.Int(int64(s.header)), record.Int(s.status)
	if s.header < 0 {
		header = record.Null()
	}
	if s.status == 0 {
		status = record.Null()
	}
	return record.Row{
		record.Str(s.point), record.Str(s.phase), record.Str(s.op), record.Int(s.item),
		record.Int(int64(s.intended)), record.Int(int64(s.start)), header, record.Int(int64(s.end)),
		record.Int(s.n), record.Int(s.sent), record.Int(s.got), record.Str(s.outcome), status,
		ratio(s.tie), ratio(s.id), list(s.rows), list(s.distances),
	}
}

// fromRow reads the cells of columns() in their order; at maps them to the
// file's. Returned rows and distances are not kept.
func fromRow(row record.Row, at []int) sample {
	ratio := func(v record.Value) float64 {
		if v.Null {
			return math.NaN()
		}
		return v.Float
	}
	header := time.Duration(-1)
	if v := row[at[6]]; !v.Null {
		header = time.Duration(v.Int)
	}
	return sample{
		point: row[at[0]].Str, phase: row[at[1]].Str, op: row[at[2]].Str, item: row[at[3]].Int,
		intended: time.Duration(row[at[4]].Int), start: time.Duration(row[at[5]].Int),
		header: header, end: time.Duration(row[at[7]].Int),
		n: row[at[8]].Int, sent: row[at[9]].Int, got: row[at[10]].Int,
		outcome: row[at[11]].Str, status: row[at[12]].Int,
		tie: ratio(row[at[13]]), id: ratio(row[at[14]]),
	}
}

// readSamples reads the record file of a run directory up to its last whole
// block. The warning is empty for a whole file.
func readSamples(dir string) (samples []sample, meta map[string]string, warning string, err error) {
	r, err := record.Open(record.Path(dir, recordKind))
	if err != nil {
		return nil, nil, "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	at, err := r.Header().Require(columns()...)
	if err != nil {
		return nil, nil, "", err
	}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return samples, r.Header().Meta, r.Warning(), nil
		}
		if err != nil {
			return nil, nil, "", fmt.Errorf("read records: %w", err)
		}
		samples = append(samples, fromRow(row, at))
	}
}

// label names a point by the settings it differs in from the others.
func label(vectors, concurrency int) string {
	return "vectors=" + strconv.Itoa(vectors) + ",query_concurrency=" + strconv.Itoa(concurrency)
}
