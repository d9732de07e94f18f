package figure_test

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/quantile"
)

// suffixes says how a unit ends a name.
var suffixes = map[string]string{
	"ms": "ms", "s": "s", "per_s": "per_s", "ratio": "ratio", "count": "count", "bytes": "bytes",
	"bytes/s": "bytes_per_s", "MB/s": "mb_per_s", "GiB/s": "gib_per_s", "kIOPS": "kiops", "score": "score",
	"celsius": "celsius", "celsius/s": "celsius_per_s", "W": "watts", "J": "joules", "tokens": "tokens",
}

// perThing is a count of things a thing, tokens_per_request: the first noun says
// what is counted.
var perThing = regexp.MustCompile(`_per_[a-z]{2,}$`)

var snake = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

func TestTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	services := []string{"", "vllm", "chroma", "lustre", "monitors"}
	for _, d := range figure.All() {
		if seen[d.Name] {
			t.Errorf("%s is in the table twice", d.Name)
		}
		seen[d.Name] = true
		if !snake.MatchString(d.Name) {
			t.Errorf("%s is not snake_case", d.Name)
		}
		suffix, ok := suffixes[d.Unit]
		if !ok {
			t.Errorf("%s has unit %q; add its suffix to the test on purpose or use a known one", d.Name, d.Unit)
		} else if !regexp.MustCompile(`_`+suffix+`(_per_[a-z]+)?$`).MatchString(d.Name) && !(d.Unit == "count" && perThing.MatchString(d.Name)) {
			t.Errorf("%s does not end in _%s, its unit", d.Name, suffix)
		}
		if d.Direction != figure.Higher && d.Direction != figure.Lower && d.Direction != figure.Neutral {
			t.Errorf("%s has direction %q", d.Name, d.Direction)
		}
		if len(d.Definition) < 20 || !strings.HasSuffix(d.Definition, ".") {
			t.Errorf("%s has no sentence as definition: %q", d.Name, d.Definition)
		}
		if !slices.Contains(services, d.Service) {
			t.Errorf("%s has service %q", d.Name, d.Service)
		}
	}
	if len(seen) < 50 {
		t.Errorf("only %d figures; are all parts listed?", len(seen))
	}
}

func TestSupports(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		n    int64
		q    float64
		want bool
	}{
		{19, 0.5, false},
		{20, 0.5, true},
		{99, 0.9, false},
		{100, 0.9, true}, // 100*(1-0.9) is 9.999999999999998 in binary
		{199, 0.95, false},
		{200, 0.95, true},
		{999, 0.99, false},
		{1000, 0.99, true},
		{9999, 0.999, false},
		{10000, 0.999, true},
		{10, 0, true},
		{9, 0, false},
		{0, 0.5, false},
		{-5, 0, false},
		{1 << 40, 1, false},
		{1000, math.NaN(), false},
		{1000, -1, false},
	} {
		if got := figure.Supports(c.n, c.q); got != c.want {
			t.Errorf("Supports(%d, %v) = %v", c.n, c.q, got)
		}
	}
	for q, want := range map[float64]int64{0: 10, 0.5: 20, 0.9: 100, 0.95: 200, 0.99: 1000, 0.999: 10000, 0.9999: 100000} {
		if got := figure.Needed(q); got != want {
			t.Errorf("Needed(%v) = %d, want %d", q, got, want)
		}
	}
}

func TestQuantileName(t *testing.T) {
	t.Parallel()
	for q, want := range map[float64]string{0.5: "ttft_p50_ms", 0.9: "ttft_p90_ms", 0.95: "ttft_p95_ms", 0.99: "ttft_p99_ms", 0.999: "ttft_p999_ms"} {
		if got := figure.QuantileName("ttft", "ms", q); got != want {
			t.Errorf("QuantileName(%v) = %s, want %s", q, got, want)
		}
	}
}

// Seconds 0.001..1.000 are 1..1000 ms: nearest ranks are the ranks themselves.
func TestPutQuantiles(t *testing.T) {
	t.Parallel()
	values := make([]float64, 1000)
	for i := range values {
		values[i] = float64(i+1) / 1000
	}
	s := figure.Set{}
	figure.PutQuantiles(s, "send_lateness", "ms", quantile.OfSorted(values), 1000, 0.5, 0.99)
	p99 := s["send_lateness_p99_ms"]
	if p99.Value == nil || math.Abs(*p99.Value-990) > 1e-9 || p99.N != 1000 || p99.Unit != "ms" || p99.Reason != "" {
		t.Fatalf("p99 %+v", p99)
	}
	if p99.CI95 == nil || math.Abs(p99.CI95[0]-983) > 1e-9 || math.Abs(p99.CI95[1]-997) > 1e-9 {
		t.Errorf("interval of p99 %v, want ranks 983 and 997", p99.CI95)
	}
	if !strings.Contains(p99.How, "nearest rank") {
		t.Errorf("how %q", p99.How)
	}
	s = figure.Set{}
	figure.PutQuantiles(s, "send_lateness", "ms", quantile.OfSorted(values[:999]), 1000, 0.99)
	if f := s["send_lateness_p99_ms"]; f.Value != nil || !strings.Contains(f.Reason, "999 samples") || !strings.Contains(f.Reason, "1000") || f.N != 999 {
		t.Errorf("999 samples gave %+v", f)
	}
	figure.PutQuantiles(s, "send_lateness", "ms", quantile.Sample{}, 1000, 0.5)
	if f := s["send_lateness_p50_ms"]; f.Value != nil || f.Reason == "" {
		t.Errorf("no samples gave %+v", f)
	}
	h, err := quantile.NewHistogram(1e-3, 1, 3)
	if err != nil {
		t.Fatal(err)
	}
	for range 30 {
		h.Record(5)
	}
	figure.PutQuantiles(s, "send_lateness", "ms", h, 1000, 0.5)
	if f := s["send_lateness_p50_ms"]; f.Value != nil || f.Reason == "" {
		t.Errorf("a quantile above the histogram's range gave %+v", f)
	}
}

func TestPutRatio(t *testing.T) {
	t.Parallel()
	s := figure.Set{}
	figure.PutRatio(s, "error_ratio", 0, 20, quantile.Wilson)
	f := s["error_ratio"]
	if f.Value == nil || *f.Value != 0 || f.CI95 == nil || math.Abs(f.CI95[1]-0.16112516) > 1e-8 {
		t.Errorf("0 of 20 gave %+v", f)
	}
	figure.PutRatio(s, "error_ratio", 0, 0, quantile.Wilson)
	if f := s["error_ratio"]; f.Value != nil || f.Reason == "" {
		t.Errorf("0 of 0 gave %+v", f)
	}
}

func TestPut(t *testing.T) {
	t.Parallel()
	s := figure.Set{}
	s.Put("error_ratio", math.NaN(), 3, "x")
	if f := s["error_ratio"]; f.Value != nil || f.Reason == "" {
		t.Errorf("NaN gave %+v", f)
	}
	s.WithCI("error_ratio", 0, 1)
	if s["error_ratio"].CI95 != nil {
		t.Error("a null figure got an interval")
	}
	defer func() {
		if recover() == nil {
			t.Error("an unknown name did not panic")
		}
	}()
	s.Put("no_such_figure_ms", 1, 1, "x")
}

func TestClose(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"eror_ratio":           "error_ratio",
		"send_lateness_p99":    "send_lateness_p99_ms",
		"lateness_p99":         "send_lateness_p99_ms",
		"p99_lateness_send":    "send_lateness_p99_ms",
		"achieved_rate_per_ss": "achieved_rate_per_s",
		"ERROR_RATIO":          "error_ratio",
	} {
		if got := figure.Close(name, 3); !slices.Contains(got, want) {
			t.Errorf("Close(%q) = %v, want it to hold %s", name, got, want)
		}
	}
	for _, name := range []string{"", "zzzzzzzzzz", strings.Repeat("a", 10000)} {
		if got := figure.Close(name, 3); len(got) != 0 {
			t.Errorf("Close(%.20q) = %v, want none", name, got)
		}
	}
}
