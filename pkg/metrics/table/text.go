package table

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// WriteText writes the table as aligned columns, two blanks apart, without
// frames, colours, wrapping or trailing blanks. Every cell is one line: foreign
// text is escaped by Clean. This is the only use of the table library, whose
// defaults rewrite headers (p99.9 becomes "P 99 . 9"), wrap and trim.
func (t *Table) WriteText(w io.Writer) error {
	if len(t.Columns) == 0 {
		return nil
	}
	aligns := make([]tw.Align, len(t.Columns))
	header := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		header[i] = Clean(c.Name)
		aligns[i] = tw.AlignLeft
		if c.Right || t.numeric(i) {
			aligns[i] = tw.AlignRight
		}
	}
	rows := make([][]string, 0, len(t.Rows))
	for _, r := range t.Rows {
		line := make([]string, len(t.Columns))
		for i := range line {
			if i < len(r) {
				line[i] = Clean(r[i].Text)
			}
		}
		rows = append(rows, line)
	}
	var buf bytes.Buffer
	if err := render(&buf, header, rows, aligns); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	var out strings.Builder
	for line := range strings.Lines(buf.String()) {
		out.WriteString(strings.TrimRight(line, " \n"))
		out.WriteByte('\n')
	}
	for _, n := range t.Notes {
		out.WriteString(Clean(n))
		out.WriteByte('\n')
	}
	if _, err := io.WriteString(w, out.String()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

func render(w io.Writer, header []string, rows [][]string, aligns []tw.Align) error {
	section := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
		Alignment:  tw.CellAlignment{Global: tw.AlignLeft, PerColumn: aligns},
		Padding:    tw.CellPadding{Global: tw.Padding{Left: "", Right: "  ", Overwrite: true}},
	}
	tb := tablewriter.NewTable(w,
		tablewriter.WithConfig(tablewriter.Config{Header: section, Row: section, Behavior: tw.Behavior{TrimSpace: tw.Off, TrimLine: tw.Off}}),
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders: tw.BorderNone,
			Symbols: tw.NewSymbols(tw.StyleNone),
			Settings: tw.Settings{
				Separators: tw.SeparatorsNone,
				Lines:      tw.LinesNone,
			},
		})),
		tablewriter.WithHeaderAutoFormat(tw.Off),
		tablewriter.WithTrimSpace(tw.Off),
		// Column widths must not depend on the locale of the shell.
		tablewriter.WithEastAsian(tw.Off),
	)
	tb.Header(header)
	for _, r := range rows {
		if err := tb.Append(r); err != nil {
			return err
		}
	}
	return tb.Render()
}

// numeric tells whether column i holds at least one number and nothing else
// but missing cells.
func (t *Table) numeric(i int) bool {
	some := false
	for _, r := range t.Rows {
		if i >= len(r) || r[i].Data == "" {
			continue
		}
		if !r[i].Number {
			return false
		}
		some = true
	}
	return some
}
