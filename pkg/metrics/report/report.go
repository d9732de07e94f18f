// Package report owns the page that shows a result: one HTML file with its
// style and drawings inside, no script, nothing fetched. It must not know how
// a figure was measured; everything it prints is foreign text to it.
package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
	"aifbench/pkg/metrics/table"
	"aifbench/templates"
)

// Series is one line of a chart over time, from telemetry or Prometheus.
type Series struct {
	// Chart is the heading of the chart; series with the same chart and unit
	// are drawn together.
	Chart string
	// Name is the line's own name, such as a node or GPU.
	Name string
	Unit string
	// Points are in order of time. A NaN or infinite value breaks the line.
	Points []Point
}

// Point is one sample of a series.
type Point struct {
	At    time.Time
	Value float64
}

// page is what the template sees: strings ready to be escaped, and charts.
type page struct {
	Title       string
	Facts       [][2]string
	Status      string
	Reasons     []result.Reason
	Gates       []result.Gate
	GateValues  []string
	Warnings    []result.Warning
	Figures     *table.Table
	Right       []bool
	Points      []pointView
	Curves      []chart
	Telemetry   []chart
	Definitions []figure.Def
	Environment string
	Config      string
}

type pointView struct {
	Label, Status string
	Errors        []string
	Phases        []result.Phase
}

// HTML writes the page of a result. Series may be empty.
func HTML(w io.Writer, r *result.Result, series []Series) error {
	r.Normalise()
	t, err := template.New("report.html.tmpl").Funcs(template.FuncMap{
		"clean": table.Clean, "cleanLines": cleanLines, "bytes": func(n int64) string { return table.Bytes(float64(n)) },
		"span": func(p result.Phase) string { return table.Number(p.EndS - p.StartS) },
	}).ParseFS(templates.FS, "report.html.tmpl")
	if err != nil {
		return fmt.Errorf("read report template: %w", err)
	}
	p := page{
		Title: strings.TrimSpace("aifbench " + r.Service + " " + r.Run), Status: string(r.Verdict.Status),
		Reasons: r.Verdict.Reasons, Gates: r.Gates, Warnings: r.Warnings,
		Figures: table.Figures(r), Definitions: definitions(r),
		Curves: curves(r), Telemetry: telemetry(series, r.Window),
	}
	p.Facts = facts(r)
	for i, c := range p.Figures.Columns {
		p.Right = append(p.Right, c.Right || i == 1 && c.Name == "value")
	}
	for _, g := range r.Gates {
		v := "-"
		if g.Value != nil {
			v = table.Number(*g.Value)
		}
		p.GateValues = append(p.GateValues, v)
	}
	for _, pt := range r.Curve {
		view := pointView{Label: pt.Label, Status: string(pt.Verdict.Status), Phases: pt.Phases}
		for class, n := range pt.Errors {
			if n > 0 {
				view.Errors = append(view.Errors, fmt.Sprintf("%s: %d", class, n))
			}
		}
		slices.Sort(view.Errors)
		p.Points = append(p.Points, view)
	}
	env, err := json.MarshalIndent(r.Environment, "", "  ")
	if err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	p.Environment, p.Config = string(env), indent(r.Config)
	// Written at once: half a page on an error would look like a whole one.
	var buf bytes.Buffer
	if err := t.Execute(&buf, p); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	if _, err := w.Write(buf.Bytes()); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func facts(r *result.Result) [][2]string {
	var out [][2]string
	add := func(name, value string) {
		if value != "" {
			out = append(out, [2]string{name, value})
		}
	}
	add("service", r.Service)
	add("engine", r.Engine)
	add("kind", r.Kind)
	add("run", r.Run)
	add("target", r.Target)
	if !r.Window.Start.IsZero() {
		add("window", fmt.Sprintf("%s to %s UTC, %s s", r.Window.Start.UTC().Format("2006-01-02 15:04:05"), r.Window.End.UTC().Format("15:04:05"), table.Number(r.Window.DurationS)))
	}
	return out
}

// definitions lists what the figures of the page mean, in the table's order.
func definitions(r *result.Result) []figure.Def {
	all := figure.Set{}
	for name, f := range r.Figures {
		all[name] = f
	}
	for _, p := range r.Curve {
		for name, f := range p.Figures {
			all[name] = f
		}
	}
	var out []figure.Def
	for _, name := range all.Names() {
		if d, ok := figure.Lookup(name); ok {
			out = append(out, d)
		}
	}
	return out
}

// cleanLines is table.Clean for text of several lines.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = table.Clean(l)
	}
	return strings.Join(lines, "\n")
}

func indent(raw json.RawMessage) string {
	var buf bytes.Buffer
	if err := json.Indent(&buf, raw, "", "  "); err != nil {
		return string(raw)
	}
	return buf.String()
}
