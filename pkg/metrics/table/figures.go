package table

import (
	"fmt"
	"strings"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

// widePoints is how many points of a curve still fit side by side.
const widePoints = 8

// Figures lays a result's figures out for eyes. A single point is one row a
// figure: figure, value, unit, n, ci95, how (for a missing value the reason). A
// curve of up to eight points is one column a point, the reasons of missing
// values below; a longer one is the rows of Long.
func Figures(r *result.Result) *Table {
	switch {
	case len(r.Curve) > widePoints:
		return Long(r)
	case len(r.Curve) > 1:
		return columns(r)
	}
	set := r.Figures
	if len(set) == 0 && len(r.Curve) == 1 {
		set = r.Curve[0].Figures
	}
	t := New("figure", "value", "unit", "n", "ci95", "how")
	t.Columns[1].Right, t.Columns[3].Right, t.Columns[4].Right = true, true, true
	for _, name := range set.Names() {
		f := set[name]
		how := f.How
		if f.Value == nil {
			how = "null: " + f.Reason
		}
		t.Row(name, figureValue(f), unit(f), f.N, interval(f), how)
	}
	return t
}

// Long lays a result's figures out for programs: one row a point and figure,
// with every field of the figure in a column of its own. The figures of a
// result as a whole have an empty point.
func Long(r *result.Result) *Table {
	t := New("point", "figure", "value", "unit", "n", "ci95_low", "ci95_high", "how", "reason")
	for _, i := range []int{2, 4, 5, 6} {
		t.Columns[i].Right = true
	}
	add := func(point string, set figure.Set) {
		for _, name := range set.Names() {
			f := set[name]
			lo, hi := Missing(), Missing()
			if f.CI95 != nil {
				lo, hi = Value(f.CI95[0]), Value(f.CI95[1])
			}
			t.Row(point, name, figureValue(f), unit(f), f.N, lo, hi, f.How, f.Reason)
		}
	}
	if len(r.Curve) != 1 {
		add("", r.Figures)
	}
	for _, p := range r.Curve {
		add(p.Label, p.Figures)
	}
	return t
}

func columns(r *result.Result) *Table {
	t := New("figure", "unit")
	all := figure.Set{}
	for name, f := range r.Figures {
		all[name] = f
	}
	if len(r.Figures) > 0 {
		t.Columns = append(t.Columns, Column{Name: "all", Right: true})
	}
	for _, p := range r.Curve {
		t.Columns = append(t.Columns, Column{Name: p.Label, Right: true})
		for name, f := range p.Figures {
			all[name] = f
		}
	}
	sets := make([]figure.Set, 0, len(r.Curve)+1)
	labels := make([]string, 0, len(r.Curve)+1)
	if len(r.Figures) > 0 {
		sets, labels = append(sets, r.Figures), append(labels, "all")
	}
	for _, p := range r.Curve {
		sets, labels = append(sets, p.Figures), append(labels, p.Label)
	}
	why := absences{at: map[string][]string{}}
	for _, name := range all.Names() {
		row := []any{name, unit(all[name])}
		for i, set := range sets {
			f, ok := set[name]
			switch {
			case !ok:
				row = append(row, Missing())
			default:
				row = append(row, figureValue(f))
				if f.Value == nil {
					why.add(name, labels[i], f.Reason)
				}
			}
		}
		t.Row(row...)
	}
	why.note(t)
	return t
}

// absences gathers missing values by reason: one line a reason, since a short
// run lacks the same quantiles at every point.
type absences struct {
	reasons []string
	at      map[string][]string
}

func (a *absences) add(name, point, reason string) {
	if _, ok := a.at[reason]; !ok {
		a.reasons = append(a.reasons, reason)
	}
	a.at[reason] = append(a.at[reason], name+" at "+point)
}

func (a *absences) note(t *Table) {
	for _, r := range a.reasons {
		where := a.at[r]
		more := ""
		if len(where) > 3 {
			more = fmt.Sprintf(" and %d more", len(where)-3)
			where = where[:3]
		}
		t.Note("null, %s: %s%s", r, strings.Join(where, ", "), more)
	}
}

func figureValue(f figure.Figure) Cell {
	switch {
	case f.Value == nil:
		return Missing()
	case f.Unit == "bytes":
		return ByteCount(*f.Value)
	}
	return Value(*f.Value)
}

// unit is the unit's cell; a scaled number of bytes carries its own unit.
func unit(f figure.Figure) Cell {
	if f.Unit == "bytes" && f.Value != nil {
		return Cell{Text: "", Data: f.Unit}
	}
	return Cell{Text: f.Unit, Data: f.Unit}
}

func interval(f figure.Figure) Cell {
	if f.CI95 == nil {
		return Missing()
	}
	lo, hi := figureValue(figure.Figure{Value: &f.CI95[0], Unit: f.Unit}), figureValue(figure.Figure{Value: &f.CI95[1], Unit: f.Unit})
	return Cell{Text: lo.Text + " .. " + hi.Text, Data: lo.Data + ".." + hi.Data}
}
