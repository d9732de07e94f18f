package result

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"aifbench/pkg/metrics/figure"
)

// ops are the operators of a gate, the two-character ones first so that "<="
// is not read as "<" with a limit of "=...".
var ops = []string{"<=", ">=", "==", "<", ">"}

// GateSpec is one condition of the user, parsed: figure, operator, limit in
// the figure's own unit.
type GateSpec struct {
	Expr   string  `json:"expr"`
	Figure string  `json:"figure"`
	Op     string  `json:"op"`
	Limit  float64 `json:"limit"`
}

// UnknownFigureError is a gate on a name that is not in the table of figures.
type UnknownFigureError struct {
	Name string
	// Close are the names of the table that look most like it, best first.
	Close []string
}

func (e *UnknownFigureError) Error() string {
	msg := fmt.Sprintf("unknown figure %q", e.Name)
	if len(e.Close) > 0 {
		msg += "; did you mean " + strings.Join(e.Close, ", ") + "?"
	}
	return msg
}

// ParseGate reads "figure OP number", blanks allowed around each part, where
// OP is one of <= >= < > ==. A name outside the table of figures is an
// *UnknownFigureError.
func ParseGate(expr string) (GateSpec, error) {
	trimmed := strings.TrimSpace(expr)
	at := strings.IndexAny(trimmed, "<>=!")
	if at < 0 {
		return GateSpec{}, fmt.Errorf("parse gate %q: no operator; write it like 'ttft_p99_ms<=500'", expr)
	}
	name, rest, op := strings.TrimSpace(trimmed[:at]), trimmed[at:], ""
	for _, o := range ops {
		if strings.HasPrefix(rest, o) {
			op = o
			break
		}
	}
	if op == "" {
		return GateSpec{}, fmt.Errorf("parse gate %q: unknown operator; use one of <= >= < > ==", expr)
	}
	if name == "" {
		return GateSpec{}, fmt.Errorf("parse gate %q: no figure before %s; write it like 'ttft_p99_ms<=500'", expr, op)
	}
	def, ok := figure.Lookup(name)
	if !ok {
		return GateSpec{}, fmt.Errorf("parse gate %q: %w", expr, &UnknownFigureError{Name: name, Close: figure.Close(name, 5)})
	}
	text := strings.TrimSpace(rest[len(op):])
	limit, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(limit) || math.IsInf(limit, 0) || strings.ContainsAny(text, "xX_") {
		return GateSpec{}, fmt.Errorf("parse gate %q: limit %q is not a plain number; give it in the figure's unit, %s, like '%s%s500'", expr, text, def.Unit, name, op)
	}
	return GateSpec{Expr: trimmed, Figure: name, Op: op, Limit: limit}, nil
}

// Holds tells whether value satisfies the condition.
func (g GateSpec) Holds(value float64) bool {
	switch g.Op {
	case "<=":
		return value <= g.Limit
	case ">=":
		return value >= g.Limit
	case "<":
		return value < g.Limit
	case ">":
		return value > g.Limit
	case "==":
		return value == g.Limit
	}
	return false
}

// Evaluate judges every condition on every point of the curve, in the order
// of specs, then of points. A figure that no point reports but the result as a
// whole does (a score over all phases) is judged once. A missing figure is not
// passed and has no value: inconclusive, see Gate.Inconclusive. The result
// itself is not changed; the caller stores what it gets in r.Gates.
func Evaluate(specs []GateSpec, r *Result) []Gate {
	out := make([]Gate, 0, len(specs))
	for _, g := range specs {
		if len(r.Curve) == 0 || !onCurve(r, g.Figure) {
			out = append(out, judge(g, "", r.Figures))
			continue
		}
		for _, p := range r.Curve {
			label := p.Label
			if len(r.Curve) == 1 {
				label = ""
			}
			out = append(out, judge(g, label, p.Figures))
		}
	}
	return out
}

// onCurve tells whether the points, not the result's top, answer for name: some
// point has it, or nothing has it and the curve is where it is missing.
func onCurve(r *Result, name string) bool {
	for _, p := range r.Curve {
		if _, ok := p.Figures[name]; ok {
			return true
		}
	}
	_, onTop := r.Figures[name]
	return !onTop
}

func judge(g GateSpec, point string, set figure.Set) Gate {
	out := Gate{Expr: g.Expr, Figure: g.Figure, Point: point, Op: g.Op, Limit: g.Limit}
	where := g.Figure
	if point != "" {
		where = point + ": " + g.Figure
	}
	f, ok := set[g.Figure]
	switch {
	case !ok:
		out.Message = where + " was not reported by this benchmark"
	case f.Value == nil:
		out.Message = where + " is null: " + f.Reason
	default:
		v := *f.Value
		out.Value, out.Passed = &v, g.Holds(v)
		word := "holds"
		if !out.Passed {
			word = "does not hold"
		}
		out.Message = fmt.Sprintf("%s is %s %s, %s %s %s", where, number(v), f.Unit, g.Op+" "+number(g.Limit), f.Unit, word)
	}
	return out
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Inconclusive tells that the figure of the gate is missing.
func (g Gate) Inconclusive() bool { return g.Value == nil }

// Tally counts the gates that were missed and those that are inconclusive.
func Tally(gates []Gate) (missed, inconclusive int) {
	for _, g := range gates {
		switch {
		case g.Inconclusive():
			inconclusive++
		case !g.Passed:
			missed++
		}
	}
	return missed, inconclusive
}
