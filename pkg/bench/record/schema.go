// Package record owns the one container for raw samples of every engine: a
// file records.<kind>.rec of checksummed blocks that one writer appends to
// while a bench runs and that reads back up to its last whole block whenever
// the writer was killed. It must not know what a column means.
//
// The format is described in docs/formats.md, section "Record file".
package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
)

// SchemaVersion is the version of the header document.
const SchemaVersion = 1

// Extension ends the name of every record file.
const Extension = ".rec"

const (
	magic = "AIFREC1\n"
	// maxFrame bounds what a reader allocates for one frame, whatever the file claims.
	maxFrame = 64 << 20
	// blockTarget is the payload size at which a writer closes a block by itself.
	blockTarget = 64 << 10

	frameHeader = 'H'
	frameBlock  = 'B'
	frameEnd    = 'E'
	// frameOverhead is type, length and checksum.
	frameOverhead = 9
)

// ErrNotRecord is returned for a file that does not begin as a record file does.
var ErrNotRecord = errors.New("not a record file")

// Kind is the type of a column.
type Kind string

// The kinds of columns. Every cell of every kind may be null.
const (
	KindInt    Kind = "int"    // signed 64 bit, varint
	KindFloat  Kind = "float"  // IEEE 754 double
	KindString Kind = "string" // UTF-8 or not; repeated values of a block are stored once
	KindInts   Kind = "ints"   // list of signed 64 bit
)

// Column is one declared column. Unit is free text such as ns, bytes or token.
type Column struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind"`
	Unit string `json:"unit"`
}

// Header is the first frame of a file. Meta carries what a reader needs to
// rebuild figures, such as the configuration as JSON text.
type Header struct {
	SchemaVersion int               `json:"schema_version"`
	Kind          string            `json:"kind"`
	Columns       []Column          `json:"columns"`
	Meta          map[string]string `json:"meta,omitempty"`
}

// Path returns the name of the record file of a kind in a run directory.
func Path(dir, kind string) string {
	return filepath.Join(dir, "records."+kind+Extension)
}

// Index returns the position of a column, or -1.
func (h Header) Index(name string) int {
	for i, c := range h.Columns {
		if c.Name == name {
			return i
		}
	}
	return -1
}

// Require returns the positions of the named columns in the order given, or
// an error that names the first one that is missing or of another kind.
func (h Header) Require(cols ...Column) ([]int, error) {
	out := make([]int, len(cols))
	for i, c := range cols {
		k := h.Index(c.Name)
		if k < 0 {
			return nil, fmt.Errorf("read records.%s: no column %q", h.Kind, c.Name)
		}
		if h.Columns[k].Kind != c.Kind {
			return nil, fmt.Errorf("read records.%s: column %q is %s, want %s", h.Kind, c.Name, h.Columns[k].Kind, c.Kind)
		}
		out[i] = k
	}
	return out, nil
}

// Validate refuses a header no reader could use.
func (h Header) Validate() error {
	if h.SchemaVersion != SchemaVersion {
		return fmt.Errorf("record header: schema_version %d, this program reads %d", h.SchemaVersion, SchemaVersion)
	}
	if h.Kind == "" {
		return errors.New("record header: no kind")
	}
	if len(h.Columns) == 0 || len(h.Columns) > 1024 {
		return fmt.Errorf("record header: %d columns, want 1 to 1024", len(h.Columns))
	}
	seen := make(map[string]bool, len(h.Columns))
	for _, c := range h.Columns {
		switch c.Kind {
		case KindInt, KindFloat, KindString, KindInts:
		default:
			return fmt.Errorf("record header: column %q has unknown kind %q", c.Name, c.Kind)
		}
		if c.Name == "" || seen[c.Name] {
			return fmt.Errorf("record header: column name %q is empty or used twice", c.Name)
		}
		seen[c.Name] = true
	}
	return nil
}

func decodeHeader(b []byte) (Header, error) {
	var h Header
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return Header{}, fmt.Errorf("record header: %w", err)
	}
	return h, h.Validate()
}

// Value is one cell. Only the field of the column's kind is used; a null cell
// has none.
type Value struct {
	Null  bool
	Int   int64
	Float float64
	Str   string
	Ints  []int64
}

// Row is the cells of one sample in the order of the columns.
type Row []Value

// Null is the cell of something that was not measured.
func Null() Value { return Value{Null: true} }

// Int is an integer cell.
func Int(v int64) Value { return Value{Int: v} }

// Float is a floating-point cell.
func Float(v float64) Value { return Value{Float: v} }

// Str is a string cell.
func Str(s string) Value { return Value{Str: s} }

// Ints is a list cell. The list must not be changed before the row is written.
func Ints(v []int64) Value { return Value{Ints: v} }

// Bool is an integer cell of 0 or 1.
func Bool(b bool) Value {
	if b {
		return Int(1)
	}
	return Int(0)
}
