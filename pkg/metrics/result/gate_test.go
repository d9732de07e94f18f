package result_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

func TestParseGate(t *testing.T) {
	t.Parallel()
	for expr, want := range map[string]result.GateSpec{
		"error_ratio<=0.01":           {Expr: "error_ratio<=0.01", Figure: "error_ratio", Op: "<=", Limit: 0.01},
		" error_ratio <= 1e-2 ":       {Expr: "error_ratio <= 1e-2", Figure: "error_ratio", Op: "<=", Limit: 0.01},
		"achieved_rate_per_s>=500":    {Expr: "achieved_rate_per_s>=500", Figure: "achieved_rate_per_s", Op: ">=", Limit: 500},
		"error_ratio<1":               {Expr: "error_ratio<1", Figure: "error_ratio", Op: "<", Limit: 1},
		"error_ratio>-1":              {Expr: "error_ratio>-1", Figure: "error_ratio", Op: ">", Limit: -1},
		"operations_failed_count==+0": {Expr: "operations_failed_count==+0", Figure: "operations_failed_count", Op: "==", Limit: 0},
	} {
		got, err := result.ParseGate(expr)
		if err != nil {
			t.Errorf("%q: %v", expr, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q: %s", expr, diff)
		}
	}
	for expr, part := range map[string]string{
		"":                          "no operator",
		"error_ratio":               "no operator",
		"error_ratio=1":             "unknown operator",
		"error_ratio!=1":            "unknown operator",
		"error_ratio=<1":            "unknown operator",
		"<=1":                       "no figure",
		"error_ratio<=":             "not a plain number",
		"error_ratio<=abc":          "not a plain number",
		"error_ratio<=NaN":          "not a plain number",
		"error_ratio<=Inf":          "not a plain number",
		"error_ratio<=1e999":        "not a plain number",
		"error_ratio<=0x10":         "not a plain number",
		"error_ratio<=1_000":        "not a plain number",
		"send_lateness_p99_ms<=5ms": "in the figure's unit, ms",
		"error_ratio<==1":           "not a plain number",
		"error_ratio<=1<=2":         "not a plain number",
		"$(rm -rf)<=1":              "unknown figure",
	} {
		if got, err := result.ParseGate(expr); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q gave %+v, %v, want an error with %q", expr, got, err, part)
		}
	}
}

func TestParseGateUnknown(t *testing.T) {
	t.Parallel()
	_, err := result.ParseGate("eror_ratio<=1")
	var unknown *result.UnknownFigureError
	if !errors.As(err, &unknown) {
		t.Fatalf("got %v, want an UnknownFigureError", err)
	}
	if unknown.Name != "eror_ratio" || !slices.Contains(unknown.Close, "error_ratio") {
		t.Errorf("%+v", unknown)
	}
	if !strings.Contains(err.Error(), "did you mean error_ratio") {
		t.Errorf("the message names no close figure: %v", err)
	}
}

func point(label string, p99 float64) result.Point {
	s := figure.Set{}
	if p99 < 0 {
		s.PutNull("send_lateness_p99_ms", "9 samples", 9)
	} else {
		s.Put("send_lateness_p99_ms", p99, 1000, "test")
	}
	return result.Point{Label: label, Figures: s, Verdict: result.Verdict{Status: result.Valid}}
}

func spec(t *testing.T, expr string) result.GateSpec {
	t.Helper()
	s, err := result.ParseGate(expr)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEvaluateCurve(t *testing.T) {
	t.Parallel()
	r := &result.Result{Curve: []result.Point{point("c=1", 100), point("c=8", 501), point("c=64", -1)}}
	got := result.Evaluate([]result.GateSpec{spec(t, "send_lateness_p99_ms<=500")}, r)
	if len(got) != 3 {
		t.Fatalf("%d gates, want one a point", len(got))
	}
	type outcome struct {
		Point                string
		Passed, Inconclusive bool
	}
	want := []outcome{{"c=1", true, false}, {"c=8", false, false}, {"c=64", false, true}}
	for i, g := range got {
		if o := (outcome{g.Point, g.Passed, g.Inconclusive()}); o != want[i] {
			t.Errorf("gate %d is %+v, want %+v", i, o, want[i])
		}
	}
	// The exit code's text needs figure, value and limit.
	for _, part := range []string{"c=8", "send_lateness_p99_ms", "501", "500", "ms"} {
		if !strings.Contains(got[1].Message, part) {
			t.Errorf("message %q lacks %q", got[1].Message, part)
		}
	}
	if !strings.Contains(got[2].Message, "9 samples") {
		t.Errorf("message %q lacks the reason", got[2].Message)
	}
	if missed, inconclusive := result.Tally(got); missed != 1 || inconclusive != 1 {
		t.Errorf("tally %d missed %d inconclusive, want 1 and 1", missed, inconclusive)
	}
}

func TestEvaluateBorders(t *testing.T) {
	t.Parallel()
	r := &result.Result{Curve: []result.Point{point("only", 500)}}
	for op, want := range map[string]bool{"<=": true, ">=": true, "==": true, "<": false, ">": false} {
		g := result.Evaluate([]result.GateSpec{spec(t, "send_lateness_p99_ms"+op+"500")}, r)
		if len(g) != 1 || g[0].Passed != want || g[0].Point != "" {
			t.Errorf("500%s500 gave %+v", op, g)
		}
	}
	// A figure of the whole result is judged once, one that nobody reports on
	// every point, as inconclusive.
	r = &result.Result{Figures: figure.Set{}, Curve: []result.Point{point("a", 1), point("b", 2)}}
	r.Figures.Put("error_ratio", 0.5, 10, "test")
	g := result.Evaluate([]result.GateSpec{spec(t, "error_ratio<=0.1"), spec(t, "achieved_rate_per_s>=1")}, r)
	if len(g) != 3 || g[0].Point != "" || g[0].Passed || g[0].Inconclusive() || !g[1].Inconclusive() || g[1].Point != "a" || g[2].Point != "b" {
		t.Errorf("got %+v", g)
	}
	if g := result.Evaluate([]result.GateSpec{spec(t, "error_ratio<=0.1")}, &result.Result{}); len(g) != 1 || !g[0].Inconclusive() {
		t.Errorf("an empty result gave %+v", g)
	}
}

func FuzzParseGate(f *testing.F) {
	for _, s := range []string{"error_ratio<=1", "", "<", "a==b", "error_ratio>=1e309", "é<=1", "error_ratio<=0x1p4"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		g, err := result.ParseGate(s)
		if err != nil {
			return
		}
		if _, ok := figure.Lookup(g.Figure); !ok {
			t.Fatalf("%q passed an unknown figure %q", s, g.Figure)
		}
		if again, err := result.ParseGate(g.Expr); err != nil || again != g {
			t.Fatalf("%q does not read back: %+v, %v", g.Expr, again, err)
		}
	})
}
