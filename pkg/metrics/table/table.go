// Package table owns how rows of values look as text and as CSV: alignment,
// number formats, escaping for terminals and spreadsheets. It must not know
// where the rows come from, except that it can lay out a result's figures.
package table

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Column is one column of a table.
type Column struct {
	// Name is printed as it is, never upper-cased.
	Name string
	// Right aligns the column to the right; a column that holds numbers only
	// is aligned so without being told.
	Right bool
}

// Cell is one value: Text for eyes, Data for programs. Number tells that Data
// is a number, which the CSV writer then leaves alone.
type Cell struct {
	Text   string
	Data   string
	Number bool
}

// Table is rows under columns. Cells hold foreign text as it came; the writers
// escape it.
type Table struct {
	Columns []Column
	Rows    [][]Cell
	// Notes are lines below the text form, absent from CSV.
	Notes []string
}

// New returns an empty table with the named columns.
func New(columns ...string) *Table {
	t := &Table{}
	for _, name := range columns {
		t.Columns = append(t.Columns, Column{Name: name})
	}
	return t
}

// Row appends one row. A value is a string, a bool, an integer, a float64, a
// *float64 (nil is missing), a time.Duration, a time.Time (UTC RFC 3339), a
// Cell, a fmt.Stringer or an error; nil is missing. Missing cells read "-" in
// text and are empty in CSV. More values than columns are a programmer's
// error and panic; fewer leave the rest empty.
func (t *Table) Row(values ...any) {
	if len(values) > len(t.Columns) {
		panic(fmt.Sprintf("table: %d values for %d columns", len(values), len(t.Columns)))
	}
	row := make([]Cell, len(t.Columns))
	for i, v := range values {
		row[i] = cell(v)
	}
	t.Rows = append(t.Rows, row)
}

// Note appends a line below the text form.
func (t *Table) Note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}

// Missing is the cell of a value that is not there.
func Missing() Cell { return Cell{Text: "-"} }

// Value is the cell of a number: short in text, every digit in CSV.
func Value(v float64) Cell {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Cell{Text: strconv.FormatFloat(v, 'g', -1, 64), Data: strconv.FormatFloat(v, 'g', -1, 64)}
	}
	return Cell{Text: Number(v), Data: exact(v), Number: true}
}

// exact writes every digit, without an exponent where people write none.
func exact(v float64) string {
	if a := math.Abs(v); v == 0 || (a >= 1e-6 && a < 1e21) {
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// ByteCount is the cell of a number of bytes: scaled in text, exact in CSV.
func ByteCount(n float64) Cell {
	c := Value(n)
	if c.Number {
		c.Text = Bytes(n)
	}
	return c
}

func cell(v any) Cell {
	switch x := v.(type) {
	case nil:
		return Missing()
	case Cell:
		return x
	case string:
		return Cell{Text: x, Data: x}
	case bool:
		s := strconv.FormatBool(x)
		return Cell{Text: s, Data: s}
	case int:
		return integer(int64(x))
	case int64:
		return integer(x)
	case int32:
		return integer(int64(x))
	case uint64:
		s := strconv.FormatUint(x, 10)
		return Cell{Text: s, Data: s, Number: true}
	case float64:
		return Value(x)
	case *float64:
		if x == nil {
			return Missing()
		}
		return Value(*x)
	case time.Duration:
		return Cell{Text: x.String(), Data: strconv.FormatFloat(x.Seconds(), 'g', -1, 64), Number: true}
	case time.Time:
		if x.IsZero() {
			return Missing()
		}
		s := x.UTC().Format(time.RFC3339)
		return Cell{Text: s, Data: s}
	case error:
		return Cell{Text: x.Error(), Data: x.Error()}
	case fmt.Stringer:
		s := x.String()
		return Cell{Text: s, Data: s}
	}
	s := fmt.Sprint(v)
	return Cell{Text: s, Data: s}
}

func integer(n int64) Cell {
	s := strconv.FormatInt(n, 10)
	return Cell{Text: s, Data: s, Number: true}
}
