package probe

import (
	"fmt"
	"strconv"
	"strings"
)

// Llite is what is read of one llite stats file: client counters of one
// Lustre mount.
type Llite struct {
	ReadBytes, WriteBytes uint64
	// Ops are operations by kind, in the order of the file.
	Ops []Op
}

// Op is a kind of operation and how often it was done.
type Op struct {
	Kind string
	N    uint64
}

// ParseLlite reads llite.*.stats of a Lustre client:
//
//	snapshot_time             1620000000.123 secs.usecs
//	write_bytes  3 samples [bytes] 4096 1048576 2101248
//	open         7 samples [usec] 1 90 300 20000
//
// The seventh field of the byte lines is their sum.
func ParseLlite(raw []byte) (Llite, error) {
	var out Llite
	for i, line := range lines(raw) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "samples" {
			continue // snapshot_time, start_time, elapsed_time
		}
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			return Llite{}, fmt.Errorf("parse llite stats: line %d: %q is not a count", i+1, f[1])
		}
		out.Ops = append(out.Ops, Op{Kind: f[0], N: n})
		if f[0] != "read_bytes" && f[0] != "write_bytes" {
			continue
		}
		if len(f) < 7 {
			if n == 0 {
				continue
			}
			return Llite{}, fmt.Errorf("parse llite stats: line %d: no sum of bytes", i+1)
		}
		sum, err := strconv.ParseUint(f[6], 10, 64)
		if err != nil {
			return Llite{}, fmt.Errorf("parse llite stats: line %d: %q is not a count", i+1, f[6])
		}
		if f[0] == "read_bytes" {
			out.ReadBytes = sum
		} else {
			out.WriteBytes = sum
		}
	}
	return out, nil
}

// lliteName is the file system of a directory name like
// scratch-ffff8a1b2c3d4e00.
func lliteName(dir string) string {
	if i := strings.LastIndexByte(dir, '-'); i > 0 {
		return dir[:i]
	}
	return dir
}
