package promq_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/promq"
)

// asked answers from a function and keeps the queries.
type asked struct {
	queries []string
	answer  func(query string) (*promq.Answer, error)
}

func (a *asked) Query(_ context.Context, query string, _ time.Time) (*promq.Answer, error) {
	a.queries = append(a.queries, query)
	return a.answer(query)
}

func one(v float64) *promq.Answer {
	return &promq.Answer{Type: "vector", Value: model.Vector{{Metric: model.Metric{}, Value: model.SampleValue(v)}}}
}

func none() *promq.Answer { return &promq.Answer{Type: "vector", Value: model.Vector{}} }

var (
	from = time.Date(2026, 1, 1, 0, 1, 0, 0, time.UTC)
	to   = from.Add(time.Minute)
)

// With nothing behind it, every figure of every service is null with a reason
// and its query, never zero.
func TestNoSeries(t *testing.T) {
	t.Parallel()
	for _, service := range promq.Services() {
		q := &asked{answer: func(string) (*promq.Answer, error) { return none(), nil }}
		s, err := promq.Summarise(t.Context(), q, service, promq.Selector{"run": "r"}, from, to)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Rows) < 8 {
			t.Errorf("%s has only %d rows", service, len(s.Rows))
		}
		for _, r := range s.Rows {
			d, ok := figure.Lookup(r.Name)
			if !ok || r.Unit != d.Unit {
				t.Errorf("%s: %s has unit %q", service, r.Name, r.Unit)
			}
			if r.Value != nil || r.Reason == "" || r.Query == "" || r.Warnings == nil {
				t.Errorf("%s: %+v", service, r)
			}
		}
		for _, query := range q.queries {
			if strings.ContainsAny(query, "$") || !strings.Contains(query, `run="r"`) {
				t.Errorf("%s asks %s", service, query)
			}
		}
		if data, err := json.Marshal(s); err != nil || strings.Contains(string(data), `"warnings":null`) {
			t.Errorf("%s: %v", service, err)
		}
	}
}

func TestSelectorIsQuoted(t *testing.T) {
	t.Parallel()
	q := &asked{answer: func(string) (*promq.Answer, error) { return one(1), nil }}
	evil := `x"} or vector(1) # ` + "\n" + `\`
	if _, err := promq.Summarise(t.Context(), q, "lustre", promq.Selector{"run": evil, "node": "$w{,"}, from, to); err != nil {
		t.Fatal(err)
	}
	if want := `{node="$w{,",run="x\"} or vector(1) # \n\\"`; !strings.Contains(q.queries[0], want) {
		t.Errorf("asked %s, want %s in it", q.queries[0], want)
	}
	if _, err := promq.Summarise(t.Context(), q, "lustre", promq.Selector{`run="x"} or up{y`: "z"}, from, to); err == nil {
		t.Error("a label name that is a query was taken")
	}
	q.queries = nil
	if _, err := promq.Summarise(t.Context(), q, "lustre", nil, from, to); err != nil {
		t.Fatal(err)
	}
	for _, query := range q.queries {
		if strings.Contains(query, "{,") {
			t.Errorf("asked %s", query)
		}
	}
}

// Errors of one question stay in its row; a server that is away ends it all.
func TestErrors(t *testing.T) {
	t.Parallel()
	for kind, fatal := range map[promq.Kind]bool{
		promq.BadData: false, promq.Execution: false, promq.Timeout: false, promq.TooLarge: false, promq.Malformed: false, promq.Canceled: false,
		promq.Unreachable: true, promq.Unavailable: true, promq.Denied: true, promq.NotPrometheus: true, promq.Internal: true,
	} {
		q := &asked{answer: func(query string) (*promq.Answer, error) {
			return nil, &promq.Error{Kind: kind, Query: query, Message: "because"}
		}}
		s, err := promq.Summarise(t.Context(), q, "chroma", nil, from, to)
		if fatal {
			var qe *promq.Error
			if !errors.As(err, &qe) || qe.Kind != kind || len(q.queries) != 1 {
				t.Errorf("%s: %v after %d questions", kind, err, len(q.queries))
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		for _, r := range s.Rows {
			if r.Value != nil || !strings.Contains(r.Reason, "because") || !strings.Contains(r.Reason, string(kind)) {
				t.Errorf("%s: %+v", kind, r)
			}
		}
	}
}

func TestBadWindow(t *testing.T) {
	t.Parallel()
	q := &asked{answer: func(string) (*promq.Answer, error) { return one(1), nil }}
	for _, end := range []time.Time{from, from.Add(-time.Hour), from.Add(time.Millisecond)} {
		if _, err := promq.Summarise(t.Context(), q, "vllm", nil, from, end); err == nil {
			t.Errorf("window until %v was taken", end)
		}
	}
	if _, err := promq.Summarise(t.Context(), q, "vlm", nil, from, to); err == nil || !strings.Contains(err.Error(), "vllm") {
		t.Errorf("an unknown service gave %v", err)
	}
}

func TestDoubtsReachTheRow(t *testing.T) {
	t.Parallel()
	nan := 0.0
	q := &asked{answer: func(string) (*promq.Answer, error) {
		a := one(0 / nan)
		a.Warnings, a.Infos = []string{"w"}, []string{"i"}
		return a, nil
	}}
	s, err := promq.Summarise(t.Context(), q, "lustre", nil, from, to)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Rows {
		if r.Value != nil || !strings.Contains(r.Reason, "NaN") || !slices.Equal(r.Warnings, []string{"w", "i"}) {
			t.Errorf("%+v", r)
		}
	}
}
