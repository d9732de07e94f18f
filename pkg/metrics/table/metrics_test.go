package table_test

import (
	"strings"
	"testing"

	"aifbench/pkg/metrics/promq"
	"aifbench/pkg/metrics/table"
)

func TestSummary(t *testing.T) {
	t.Parallel()
	v, lo, hi, mem := 625.0, 250.0, 1000.0, float64(38<<30)
	s := &promq.Summary{Rows: []promq.Row{
		{Name: "scraped_ttft_p95_ms", Value: &v, Unit: "ms", N: 1200, Lower: &lo, Upper: &hi, Warnings: []string{"evil\x1b"}},
		{Name: "scraped_itl_p50_ms", Unit: "ms", Reason: "above the largest bound"},
		{Name: "gpu_memory_used_max_bytes", Value: &mem, Unit: "bytes", Labels: map[string]string{"node": "n1", "gpu": "0"}},
	}}
	want := strings.Join([]string{
		`figure                     labels          value  unit     n  remark`,
		`scraped_ttft_p95_ms        -                 625  ms    1200  between 250 and 1000`,
		`scraped_itl_p50_ms         -                   -  ms       -  null: above the largest bound`,
		`gpu_memory_used_max_bytes  gpu=0 node=n1  38 GiB           -`,
		`scraped_ttft_p95_ms: evil\x1b`, ``,
	}, "\n")
	if got := text(t, table.Summary(s)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	nan, v := promq.Num(0), promq.Num(-1.5)
	nan /= nan
	d := promq.Document{Type: "vector", Series: []promq.Series{
		{Labels: map[string]string{"b": "2", "a": "\u202ex"}, Points: []promq.Point{{TimeS: 1767225600.25, Value: &v}}},
		{Labels: nil, Points: []promq.Point{{TimeS: 0, Value: &nan}, {TimeS: 1, Histogram: &promq.Histogram{Count: 3, Sum: 1.5}}}},
	}, Warnings: []string{"w"}, Infos: []string{"i"}}
	want := strings.Join([]string{
		`labels         time                                               value`,
		`a=\u202ex b=2  2026-01-01T00:00:00.250Z                            -1.5`,
		`-              1970-01-01T00:00:00.000Z                             NaN`,
		`-              1970-01-01T00:00:01.000Z  histogram of 3 values, sum 1.5`,
		`warning: w`, `info: i`, ``,
	}, "\n")
	if got := text(t, table.Answer(d)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := text(t, table.Answer(promq.Document{Type: "vector"})); !strings.Contains(got, "no series matched") {
		t.Errorf("got %q", got)
	}
	if got := text(t, table.Answer(promq.Document{Type: "string", Text: "a\nb"})); !strings.Contains(got, `a\nb`) {
		t.Errorf("got %q", got)
	}
}
