package phases

import (
	"fmt"

	"aifbench/pkg/bench/record"
)

// RecordKind names the record file of the built-in engine.
const RecordKind = "fs"

// Row is what one rank did in one phase. Times are nanoseconds since the start
// of the engine, by the monotonic clock.
type Row struct {
	Phase    string
	Rank     int
	StartNS  int64
	EndNS    int64
	Ops      int64 // transfers or items that succeeded
	Failed   int64
	Bytes    int64
	Verified int64 // bytes compared with their pattern
	Corrupt  int64 // transfers that differed from it
	Matched  int64 // find only
	// WallOps and WallNS are the work and time at the stonewall, before the
	// wear-out; 0 for phases without one.
	WallOps int64
	WallNS  int64
	// Capped tells that the limit of the plan ended the phase, not the stonewall.
	Capped bool
	// Error is the first failure or corruption, with file and offset.
	Error   string
	Latency *Latency
	// Status is how the phase ended for this rank: Done, Failed, Interrupted.
	Status string
	// Read and Written are what the process moved from and to block devices
	// in the phase, by /proc/self/io; Expected is what find should match.
	// They belong to the whole phase and stand in the row of rank 0; nil
	// elsewhere and where the kernel does not say.
	Read, Written, Expected *int64
}

var columns = []record.Column{
	{Name: "phase", Kind: record.KindString},
	{Name: "rank", Kind: record.KindInt},
	{Name: "start", Kind: record.KindInt, Unit: "ns"},
	{Name: "end", Kind: record.KindInt, Unit: "ns"},
	{Name: "ops", Kind: record.KindInt},
	{Name: "failed", Kind: record.KindInt},
	{Name: "moved", Kind: record.KindInt, Unit: "bytes"},
	{Name: "verified", Kind: record.KindInt, Unit: "bytes"},
	{Name: "corrupt", Kind: record.KindInt},
	{Name: "matched", Kind: record.KindInt},
	{Name: "wall_ops", Kind: record.KindInt},
	{Name: "wall", Kind: record.KindInt, Unit: "ns"},
	{Name: "capped", Kind: record.KindInt},
	{Name: "error", Kind: record.KindString},
	{Name: "latency_max", Kind: record.KindInt, Unit: "ns"},
	{Name: "latency", Kind: record.KindInts, Unit: "bucket,count of 64 buckets a power of two of ns"},
	{Name: "status", Kind: record.KindString},
	{Name: "device_read", Kind: record.KindInt, Unit: "bytes"},
	{Name: "device_written", Kind: record.KindInt, Unit: "bytes"},
	{Name: "expected", Kind: record.KindInt},
}

// Columns declares the record file. Every rank writes one row a phase.
func Columns() []record.Column { return append([]record.Column(nil), columns...) }

// Encode turns a row into cells in the order of Columns.
func (r Row) Encode() record.Row {
	fault, most, hist := record.Null(), record.Null(), record.Null()
	if r.Error != "" {
		fault = record.Str(r.Error)
	}
	if r.Latency != nil && r.Latency.N() > 0 {
		most, hist = record.Int(r.Latency.Max()), record.Ints(r.Latency.Pairs())
	}
	return record.Row{
		record.Str(r.Phase), record.Int(int64(r.Rank)), record.Int(r.StartNS), record.Int(r.EndNS),
		record.Int(r.Ops), record.Int(r.Failed), record.Int(r.Bytes), record.Int(r.Verified),
		record.Int(r.Corrupt), record.Int(r.Matched), record.Int(r.WallOps), record.Int(r.WallNS),
		record.Bool(r.Capped), fault, most, hist,
		record.Str(r.Status), optional(r.Read), optional(r.Written), optional(r.Expected),
	}
}

func optional(v *int64) record.Value {
	if v == nil {
		return record.Null()
	}
	return record.Int(*v)
}

func pointer(v record.Value) *int64 {
	if v.Null {
		return nil
	}
	return &v.Int
}

// Decoder reads rows from a record file whatever the order of its columns.
type Decoder struct{ at []int }

// NewDecoder checks the header of a record file.
func NewDecoder(h record.Header) (Decoder, error) {
	at, err := h.Require(columns...)
	return Decoder{at}, err
}

// Row decodes one row. A null number is an error: every rank measures them all.
func (d Decoder) Row(cells record.Row) (Row, error) {
	nums := make([]int64, len(columns)) // the counters, columns 2..12
	for i, c := range columns {
		v := cells[d.at[i]]
		if c.Kind != record.KindInt || i > 12 {
			continue
		}
		if v.Null {
			return Row{}, fmt.Errorf("read records.%s: %s is null", RecordKind, c.Name)
		}
		nums[i] = v.Int
	}
	r := Row{
		Phase: cells[d.at[0]].Str, Rank: int(nums[1]), StartNS: nums[2], EndNS: nums[3],
		Ops: nums[4], Failed: nums[5], Bytes: nums[6], Verified: nums[7], Corrupt: nums[8],
		Matched: nums[9], WallOps: nums[10], WallNS: nums[11], Capped: nums[12] != 0,
		Error: cells[d.at[13]].Str, Status: cells[d.at[16]].Str,
		Read: pointer(cells[d.at[17]]), Written: pointer(cells[d.at[18]]), Expected: pointer(cells[d.at[19]]),
	}
	var err error
	r.Latency, err = FromPairs(cells[d.at[15]].Ints, cells[d.at[14]].Int)
	return r, err
}
