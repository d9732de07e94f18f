package llm

import (
	"time"

	"aifbench/pkg/bench/record"
)

// never is a moment that did not come.
const never = time.Duration(-1 << 62)

// sample is one request as it went. Moments are offsets from the start of its
// point's load.
type sample struct {
	point, seq                 int64
	warm                       bool
	class, message             string // class is empty for a good answer
	status                     int64  // HTTP, 0 without an answer
	intended, start            time.Duration
	connected, wrote           time.Duration
	firstByte                  time.Duration
	firstToken, lastToken, end time.Duration
	asked, maxTokens           int64 // input length asked for (0 when not set), output limit
	prompt, output, usage      int64 // tokens, -1 unknown
	chunks                     int64 // that carried tokens
	countedBy                  string
	finish                     string
	reused                     bool
	gaps                       []int64 // ns between chunks that carried tokens
	counts                     []int64 // tokens of each such chunk, nil when all have one
	parses, valid              int8    // -1 not judged
}

// Kinds of the engine's record files.
const (
	recordKind = "llm"
	pointsKind = "llm_points"
)

// columns of records.llm.rec; the order is that of sample.row.
var columns = []record.Column{
	{Name: "point", Kind: record.KindInt},
	{Name: "seq", Kind: record.KindInt},
	{Name: "warm", Kind: record.KindInt},
	{Name: "class", Kind: record.KindString},
	{Name: "message", Kind: record.KindString},
	{Name: "status", Kind: record.KindInt},
	{Name: "intended_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "start_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "connected_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "wrote_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "first_byte_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "first_token_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "last_token_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "end_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "asked_tokens", Kind: record.KindInt, Unit: "token"},
	{Name: "max_tokens", Kind: record.KindInt, Unit: "token"},
	{Name: "prompt_tokens", Kind: record.KindInt, Unit: "token"},
	{Name: "output_tokens", Kind: record.KindInt, Unit: "token"},
	{Name: "usage_tokens", Kind: record.KindInt, Unit: "token"},
	{Name: "chunks", Kind: record.KindInt},
	{Name: "counted_by", Kind: record.KindString},
	{Name: "finish", Kind: record.KindString},
	{Name: "reused", Kind: record.KindInt},
	{Name: "gaps_ns", Kind: record.KindInts, Unit: "ns"},
	{Name: "chunk_tokens", Kind: record.KindInts, Unit: "token"},
	{Name: "parses", Kind: record.KindInt},
	{Name: "valid", Kind: record.KindInt},
}

// pointColumns of records.llm_points.rec: one row a point, written when it ended.
var pointColumns = []record.Column{
	{Name: "point", Kind: record.KindInt},
	{Name: "zero_unix_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "start_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "end_ns", Kind: record.KindInt, Unit: "ns"},
	{Name: "stopped", Kind: record.KindString},
	{Name: "cut", Kind: record.KindInt},
	{Name: "account", Kind: record.KindString},
}

func moment(d time.Duration) record.Value {
	if d == never {
		return record.Null()
	}
	return record.Int(int64(d))
}

func known(n int64) record.Value {
	if n < 0 {
		return record.Null()
	}
	return record.Int(n)
}

func text(s string) record.Value {
	if s == "" {
		return record.Null()
	}
	return record.Str(s)
}

func list(v []int64) record.Value {
	if v == nil {
		return record.Null()
	}
	return record.Ints(v)
}

func (s *sample) row() record.Row {
	return record.Row{
		record.Int(s.point), record.Int(s.seq), record.Bool(s.warm), text(s.class), text(s.message), known(s.status),
		moment(s.intended), moment(s.start), moment(s.connected), moment(s.wrote), moment(s.firstByte),
		moment(s.firstToken), moment(s.lastToken), moment(s.end),
		record.Int(s.asked), record.Int(s.maxTokens), known(s.prompt), known(s.output), known(s.usage),
		record.Int(s.chunks), text(s.countedBy), text(s.finish), record.Bool(s.reused), list(s.gaps), list(s.counts),
		known(int64(s.parses)), known(int64(s.valid)),
	}
}

// read fills a sample from a row; the lists are the reader's and valid until
// its next row.
func (s *sample) read(row record.Row) {
	at := func(v record.Value) time.Duration {
		if v.Null {
			return never
		}
		return time.Duration(v.Int)
	}
	num := func(v record.Value) int64 {
		if v.Null {
			return -1
		}
		return v.Int
	}
	*s = sample{
		point: row[0].Int, seq: row[1].Int, warm: row[2].Int != 0, class: row[3].Str, message: row[4].Str, status: row[5].Int,
		intended: at(row[6]), start: at(row[7]), connected: at(row[8]), wrote: at(row[9]), firstByte: at(row[10]),
		firstToken: at(row[11]), lastToken: at(row[12]), end: at(row[13]),
		asked: row[14].Int, maxTokens: row[15].Int, prompt: num(row[16]), output: num(row[17]), usage: num(row[18]),
		chunks: row[19].Int, countedBy: row[20].Str, finish: row[21].Str, reused: row[22].Int != 0, gaps: row[23].Ints, counts: row[24].Ints,
		parses: int8(num(row[25])), valid: int8(num(row[26])),
	}
}
