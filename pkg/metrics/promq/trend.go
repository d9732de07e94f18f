package promq

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// RangeQuerier evaluates one expression over a range. *Client is one.
type RangeQuerier interface {
	QueryRange(ctx context.Context, query string, start, end time.Time, step time.Duration) (*Answer, error)
}

// Line is one series over time, for a chart.
type Line struct {
	Chart  string  `json:"chart"`
	Name   string  `json:"name"`
	Unit   string  `json:"unit"`
	Points []Point `json:"points"`
}

// trend is one chart of a service.
type trend struct {
	chart, unit string
	name        string // of the only line; "" names lines by their labels
	queries     []string
}

func trends(service string) []trend {
	host := []trend{
		{chart: "CPU in use", unit: "ratio", queries: []string{`1 - sum by (node) (rate(aifbench_node_cpu_seconds_total{$sel,mode=~"idle|iowait"}[$r])) / sum by (node) (rate(aifbench_node_cpu_seconds_total{$sel}[$r]))`}},
		{chart: "memory in use", unit: "bytes", queries: []string{"aifbench_node_memory_total_bytes{$sel} - aifbench_node_memory_available_bytes{$sel}"}},
	}
	switch service {
	case "vllm":
		return append([]trend{
			{chart: "token throughput", unit: "per_s", name: "generated", queries: []string{"sum(rate(vllm:generation_tokens_total{$sel}[$r]))"}},
			{chart: "GPU temperature", unit: "celsius", queries: []string{"max by (node, gpu) (aifbench_gpu_temperature_celsius{$sel})"}},
			{chart: "requests", unit: "count", name: "running", queries: []string{"sum(vllm:num_requests_running{$sel})"}},
			{chart: "requests", unit: "count", name: "waiting", queries: []string{"sum(vllm:num_requests_waiting{$sel})"}},
			{chart: "KV cache in use", unit: "ratio", name: "largest engine", queries: each("max($m{$sel})", kvCache...)},
			{chart: "GPU utilisation", unit: "ratio", queries: []string{"max by (node, gpu) (aifbench_gpu_util_ratio{$sel})"}},
			{chart: "GPU power", unit: "W", queries: []string{"max by (node, gpu) (aifbench_gpu_power_watts{$sel})"}},
		}, host...)
	case "chroma":
		return append([]trend{
			{chart: "calls", unit: "per_s", name: "query", queries: each("sum(rate($m{$sel}[$r]))", "collection_query_total", "collection_query")},
			{chart: "calls", unit: "per_s", name: "add", queries: each("sum(rate($m{$sel}[$r]))", "collection_add_total", "collection_add")},
		}, host...)
	case "lustre", "monitors":
		return host
	}
	return nil
}

// Trends asks for the series of a service's charts over the window, at most 300
// points each. A chart without series is left out; what the server refuses or
// doubts is in the warnings.
func Trends(ctx context.Context, q RangeQuerier, service string, sel Selector, start, end time.Time) (lines []Line, warnings []string, err error) {
	list := trends(service)
	if list == nil {
		return nil, nil, fmt.Errorf("trends: no charts for service %q; use one of %s", service, strings.Join(Services(), ", "))
	}
	window := end.Sub(start)
	if window < time.Second {
		return nil, nil, fmt.Errorf("trends: window of %s is shorter than a second", window)
	}
	matchers, err := sel.matchers()
	if err != nil {
		return nil, nil, err
	}
	step := max(time.Second, (window/300 + time.Second - 1).Truncate(time.Second))
	// A rate needs several scrapes inside its range, whatever the step.
	span := max(15*time.Second, 4*step)
	a := asker{matchers: matchers, window: window, end: end}
	for _, t := range list {
		for _, form := range t.queries {
			query := a.expand(strings.ReplaceAll(form, "[$r]", "["+millis(span)+"]"))
			ans, err := q.QueryRange(ctx, query, start, end, step)
			var qe *Error
			switch {
			case err == nil:
			case errors.As(err, &qe) && rowOnly(qe.Kind):
				warnings = append(warnings, t.chart+": "+qe.Error())
				continue
			default:
				return nil, nil, fmt.Errorf("trends: %w", err)
			}
			for _, w := range append(append([]string{}, ans.Warnings...), ans.Infos...) {
				warnings = append(warnings, t.chart+": "+w)
			}
			if ans.Empty() {
				continue
			}
			for _, s := range ans.Document().Series {
				lines = append(lines, Line{Chart: t.chart, Name: lineName(t.name, s.Labels), Unit: t.unit, Points: s.Points})
			}
			break
		}
	}
	return lines, warnings, nil
}

func lineName(name string, labels map[string]string) string {
	if name != "" {
		return name
	}
	name = labels["node"]
	if gpu, ok := labels["gpu"]; ok {
		name = strings.TrimSpace(name + " GPU " + gpu)
	}
	if name == "" {
		return "all"
	}
	return name
}
