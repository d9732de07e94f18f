package report_test

import (
	"math"
	"testing"

	"aifbench/pkg/metrics/promq"
	"aifbench/pkg/metrics/report"
)

func TestFromTrends(t *testing.T) {
	t.Parallel()
	v := promq.Num(7)
	got := report.FromTrends([]promq.Line{{Chart: "c", Name: "n", Unit: "u", Points: []promq.Point{{TimeS: 1767323045.5, Value: &v}, {TimeS: 2, Histogram: &promq.Histogram{}}}}})
	if len(got) != 1 || got[0].Chart != "c" || got[0].Name != "n" || got[0].Unit != "u" || len(got[0].Points) != 2 {
		t.Fatalf("%+v", got)
	}
	if p := got[0].Points[0]; p.Value != 7 || p.At.Sub(at).Seconds() != 0.5 {
		t.Errorf("%+v", p)
	}
	if !math.IsNaN(got[0].Points[1].Value) {
		t.Errorf("a histogram became %v", got[0].Points[1].Value)
	}
}
