package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"aifbench/pkg/metrics/probe"
	"aifbench/pkg/metrics/table"
	runs "aifbench/pkg/services/run"
)

// telemetryDoc is the document of metrics where no Prometheus runs.
type telemetryDoc struct {
	SchemaVersion int            `json:"schema_version"`
	Kind          string         `json:"kind"`
	Run           string         `json:"run"`
	Start         time.Time      `json:"start"`
	End           time.Time      `json:"end"`
	Rows          []telemetryRow `json:"rows"`
	Warnings      []string       `json:"warnings"`
}

type telemetryRow struct {
	Node   string  `json:"node"`
	Series string  `json:"series"`
	N      int     `json:"n"`
	First  float64 `json:"first"`
	Last   float64 `json:"last"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// metricsFromTelemetry summarises what the supervisors appended themselves.
func (a *app) metricsFromTelemetry(dir runs.Dir, start, end time.Time) error {
	if _, err := os.Stat(filepath.Join(dir.Path, runs.TelemetryDir)); err != nil {
		return fmt.Errorf("telemetry of %s: %w", dir.ID(), err)
	}
	series, problems := probe.ReadTelemetry(dir.File(runs.TelemetryDir))
	doc := telemetryDoc{1, "telemetry", dir.ID(), start.UTC(), end.UTC(), []telemetryRow{}, []string{}}
	for _, p := range problems {
		doc.Warnings = append(doc.Warnings, p.Error())
	}
	for _, s := range series {
		r := telemetryRow{Node: s.Node, Series: s.Key}
		for _, p := range s.Points {
			if p.T.Before(start) || p.T.After(end) {
				continue
			}
			if r.N == 0 {
				r.First, r.Min, r.Max = p.V, p.V, p.V
			}
			r.N++
			r.Last, r.Min, r.Max = p.V, min(r.Min, p.V), max(r.Max, p.V)
		}
		if r.N > 0 {
			doc.Rows = append(doc.Rows, r)
		}
	}
	return a.emit(doc, func() *table.Table {
		t := table.New("node", "series", "n", "first", "last", "min", "max")
		for _, r := range doc.Rows {
			t.Row(r.Node, r.Series, r.N, r.First, r.Last, r.Min, r.Max)
		}
		t.Note("from the run's own telemetry, %s to %s; counters are first and last", start.UTC().Format(time.RFC3339), end.UTC().Format(time.RFC3339))
		for _, w := range doc.Warnings {
			t.Note("%s", w)
		}
		return t
	})
}
