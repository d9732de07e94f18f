package promq

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
)

func buckets(pairs ...any) model.Vector {
	var v model.Vector
	for i := 0; i < len(pairs); i += 2 {
		v = append(v, &model.Sample{
			Metric: model.Metric{"le": model.LabelValue(pairs[i].(string))},
			Value:  model.SampleValue(pairs[i+1].(float64)),
		})
	}
	return v
}

func TestEdges(t *testing.T) {
	t.Parallel()
	// Out of order as text, one bound in two spellings.
	got, warning, err := edges(buckets("+Inf", 20.0, "10", 5.0, "2.5", 1.0, "10.0", 7.0, "1e1", 1.0))
	if err != nil || warning != "" {
		t.Fatal(warning, err)
	}
	want := []edge{{2.5, 1}, {10, 13}, {math.Inf(1), 20}}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	got, warning, err = edges(buckets("1", 10.0, "2", 4.0, "+Inf", 12.0))
	if err != nil || !strings.Contains(warning, "levelled") || got[1].count != 10 {
		t.Errorf("falling counts gave %v, %q, %v", got, warning, err)
	}
	if _, warning, _ = edges(buckets("1", 1000.0000001, "2", 1000.0, "+Inf", 1000.0)); warning != "" {
		t.Errorf("a fall by rounding gave %q", warning)
	}
	for name, v := range map[string]model.Vector{
		"no +Inf":    buckets("1", 1.0, "2", 2.0),
		"only +Inf":  buckets("+Inf", 2.0),
		"nothing":    {},
		"bad bound":  buckets("x", 1.0, "+Inf", 2.0),
		"NaN bound":  buckets("NaN", 1.0, "+Inf", 2.0),
		"NaN count":  buckets("1", math.NaN(), "+Inf", 2.0),
		"no label":   {&model.Sample{Metric: model.Metric{}, Value: 1}},
		"histograms": {&model.Sample{Metric: model.Metric{"le": "1"}, Histogram: &model.SampleHistogram{}}},
	} {
		if got, _, err := edges(v); err == nil {
			t.Errorf("%s gave %v", name, got)
		}
	}
}

// By hand: 100 observations, 10 up to 1, 60 up to 2, 90 up to 4, 100 in all.
func TestBucketQuantile(t *testing.T) {
	t.Parallel()
	b := []edge{{1, 10}, {2, 60}, {4, 90}, {math.Inf(1), 100}}
	for _, c := range []struct {
		q, value, lower, upper float64
		above                  bool
	}{
		{0.05, 0.5, 0, 1, false}, // rank 5 of 10 in 0..1
		{0.1, 1, 0, 1, false},
		{0.35, 1.5, 1, 2, false}, // rank 35: 25 of 50 in 1..2
		{0.6, 2, 1, 2, false},
		{0.75, 3, 2, 4, false}, // rank 75: 15 of 30 in 2..4
		{0.9, 4, 2, 4, false},
		{0.95, math.NaN(), 4, math.Inf(1), true},
	} {
		value, lower, upper, above := quantile(b, c.q)
		if math.Abs(value-c.value) > 1e-12 || math.IsNaN(value) != math.IsNaN(c.value) || lower != c.lower || upper != c.upper || above != c.above {
			t.Errorf("q %v: %v in %v..%v above %v, want %v in %v..%v above %v", c.q, value, lower, upper, above, c.value, c.lower, c.upper, c.above)
		}
	}
	// An empty bucket in the middle is stepped over.
	if value, lower, upper, _ := quantile([]edge{{1, 50}, {2, 50}, {4, 100}, {math.Inf(1), 100}}, 0.75); value != 3 || lower != 2 || upper != 4 {
		t.Errorf("got %v in %v..%v, want 3 in 2..4", value, lower, upper)
	}
	if value, lower, upper, _ := quantile([]edge{{-1, 50}, {2, 100}, {math.Inf(1), 100}}, 0.2); value != -1 || !math.IsInf(lower, -1) || upper != -1 {
		t.Errorf("negative bounds: %v in %v..%v", value, lower, upper)
	}
}

// The quantile must lie within its bounds, whatever the buckets.
func FuzzBuckets(f *testing.F) {
	f.Add("1 2 4 +Inf", "10 60 90 100", 0.5)
	f.Add("0.3 +Inf", "0 5", 0.99)
	f.Fuzz(func(t *testing.T, bounds, counts string, q float64) {
		if !(q > 0 && q < 1) {
			return
		}
		les, ns := strings.Fields(bounds), strings.Fields(counts)
		var v model.Vector
		for i := range min(len(les), len(ns), 50) {
			n, err := strconv.ParseFloat(ns[i], 64)
			if err != nil || n < 0 || n > 1e15 {
				return
			}
			v = append(v, buckets(les[i], n)...)
		}
		b, _, err := edges(v)
		if err != nil || b[len(b)-1].count <= 0 {
			return
		}
		value, lower, upper, above := quantile(b, q)
		if above != math.IsNaN(value) || !above && !(value >= lower-1e-9*math.Abs(lower) && value <= upper+1e-9*math.Abs(upper)) {
			t.Fatalf("%v outside %v..%v (above %v) for q %v of %v", value, lower, upper, above, q, b)
		}
	})
}
