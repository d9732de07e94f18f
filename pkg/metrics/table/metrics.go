package table

import (
	"maps"
	"slices"
	"strings"
	"time"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/promq"
)

// Summary lays the metric summaries of a service out: one row a figure and set
// of labels. The bounds of a quantile's bucket and the reason of a missing value
// stand in the last column; doubts of the server are notes.
func Summary(s *promq.Summary) *Table {
	t := New("figure", "labels", "value", "unit", "n", "remark")
	t.Columns[2].Right, t.Columns[4].Right = true, true
	for _, r := range s.Rows {
		f := figure.Figure{Value: r.Value, Unit: r.Unit}
		remark := r.Reason
		switch {
		case r.Value == nil:
			remark = "null: " + r.Reason
		case r.Lower != nil && r.Upper != nil:
			remark = "between " + Number(*r.Lower) + " and " + Number(*r.Upper)
		}
		n := Missing()
		if r.N > 0 {
			n = integer(r.N)
		}
		t.Row(r.Name, pairs(r.Labels), figureValue(f), unit(f), n, remark)
		for _, w := range r.Warnings {
			t.Note("%s: %s", r.Name, w)
		}
	}
	return t
}

// Answer lays the answer to a user's own query out: one row a sample, labels as
// Prometheus writes them.
func Answer(d promq.Document) *Table {
	t := New("labels", "time", "value")
	t.Columns[2].Right = true
	if d.Type == "string" {
		t.Row("", "", d.Text)
	}
	for _, s := range d.Series {
		for _, p := range s.Points {
			at := time.UnixMilli(int64(p.TimeS * 1000)).UTC().Format("2006-01-02T15:04:05.000Z")
			switch {
			case p.Value != nil:
				t.Row(pairs(s.Labels), at, Value(float64(*p.Value)))
			case p.Histogram != nil:
				t.Row(pairs(s.Labels), at, "histogram of "+p.Histogram.Count.String()+" values, sum "+p.Histogram.Sum.String())
			}
		}
	}
	for _, w := range d.Warnings {
		t.Note("warning: %s", w)
	}
	for _, i := range d.Infos {
		t.Note("info: %s", i)
	}
	if len(t.Rows) == 0 {
		t.Note("no series matched")
	}
	return t
}

// pairs writes labels as name=value in the order of their names.
func pairs(labels map[string]string) Cell {
	if len(labels) == 0 {
		return Missing()
	}
	parts := make([]string, 0, len(labels))
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	s := strings.Join(parts, " ")
	return Cell{Text: s, Data: s}
}
