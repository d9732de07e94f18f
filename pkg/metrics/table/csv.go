package table

import (
	"encoding/csv"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// plainNumber is a number a spreadsheet reads as a number and nothing more.
var plainNumber = regexp.MustCompile(`^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$`)

// WriteCSV writes a header and the rows as RFC 4180 with LF line ends. A cell
// that a spreadsheet would run as a formula gets a leading apostrophe, see
// Neutral; NUL bytes and invalid UTF-8 are escaped by Clean, line breaks inside
// a cell are kept, quoted.
func (t *Table) WriteCSV(w io.Writer) error {
	cw := csv.NewWriter(w)
	line := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		line[i] = Neutral(c.Name)
	}
	if err := cw.Write(line); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	for _, r := range t.Rows {
		for i := range line {
			line[i] = ""
			if i < len(r) {
				line[i] = Neutral(r[i].Data)
			}
		}
		if err := cw.Write(line); err != nil {
			return fmt.Errorf("write csv: %w", err)
		}
	}
	cw.Flush()
	if err := cw.Error(); err != nil {
		return fmt.Errorf("write csv: %w", err)
	}
	return nil
}

// Neutral returns a cell that no spreadsheet runs: one that begins, after
// blanks, with = + - @ or with a tab, CR or LF gets a leading apostrophe,
// unless it is a plain number. The full-width forms of the four signs count as
// the signs, since some programs fold them. Control characters but LF and tab
// become visible escapes.
func Neutral(s string) string {
	s = cleanCell(s)
	if s == "" || plainNumber.MatchString(s) {
		return s
	}
	if strings.ContainsAny(s[:1], "\t\n") || strings.HasPrefix(s, `\r`) {
		return "'" + s
	}
	trimmed := strings.TrimLeft(s, " \t\n\u00a0\u3000")
	for _, sign := range []string{"=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"} {
		if strings.HasPrefix(trimmed, sign) {
			return "'" + s
		}
	}
	return s
}

// cleanCell escapes what Clean escapes except LF and tab, which CSV can carry.
func cleanCell(s string) string {
	if !strings.ContainsAny(s, "\n\t") {
		return Clean(s)
	}
	var b strings.Builder
	for len(s) > 0 {
		i := strings.IndexAny(s, "\n\t")
		if i < 0 {
			b.WriteString(Clean(s))
			break
		}
		b.WriteString(Clean(s[:i]))
		b.WriteByte(s[i])
		s = s[i+1:]
	}
	return b.String()
}
