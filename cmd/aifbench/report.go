package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"aifbench/pkg/metrics/probe"
	"aifbench/pkg/metrics/report"
	"aifbench/pkg/metrics/result"
	"aifbench/pkg/metrics/table"
	runs "aifbench/pkg/services/run"
)

func newReportCmd(a *app) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "report BENCH [FILE.html]",
		Short: "A page of a bench's result that opens offline",
		Long: `Writes one HTML file with figures, verdict, curves and what the nodes did meanwhile.
BENCH is the id of a bench run, a prefix, a directory, or vllm-bench, chroma-bench
or lustre-bench for the latest.

Exit status: 0; 3 no such run; 5 it has no result yet; 10 the file exists.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error { return runReport(a, args, force) },
	}
	cmd.Flags().BoolVar(&force, "force", false, "replace the file")
	return cmd
}

type reportDoc struct {
	SchemaVersion int    `json:"schema_version"`
	Kind          string `json:"kind"`
	Run           string `json:"run"`
	File          string `json:"file"`
}

func runReport(a *app, args []string, force bool) error {
	st, err := a.store()
	if err != nil {
		return err
	}
	dir, err := st.Resolve(args[0])
	if err != nil {
		return err
	}
	res, err := readResult(dir)
	if err != nil {
		if _, serr := os.Stat(dir.File(runs.ResultFile)); os.IsNotExist(serr) {
			return fail(exitNotReady, "run", "run "+dir.ID()+" has no result", "`aifbench wait "+dir.ID()+"` waits for one; a started service is reported by its benches")
		}
		return err
	}
	path := a.abs(dir.ID() + ".html")
	if len(args) == 2 {
		path = a.abs(args[1])
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return fail(exitGuard, "storage", path+" exists", "choose another name or add --force")
	}
	var page bytes.Buffer
	if err := report.HTML(&page, res, reportSeries(st, dir, res)); err != nil {
		return fmt.Errorf("report %s: %w", dir.ID(), err)
	}
	if err := runs.WriteFile(path, page.Bytes()); err != nil {
		return err
	}
	doc := reportDoc{1, "report", dir.ID(), path}
	return a.emit(doc, func() *table.Table {
		t := table.New("run", "file")
		t.Row(doc.Run, doc.File)
		return t
	})
}

// reportSeries picks the telemetry of the loaded run within the window.
func reportSeries(st runs.Store, dir runs.Dir, res *result.Result) []report.Series {
	target, err := st.Resolve(dir.Intent.Target)
	if err != nil {
		target = dir
	}
	all, _ := probe.ReadTelemetry(target.File(runs.TelemetryDir)) // torn lines only cost points of a picture
	var out []report.Series
	for _, s := range all {
		chart, unit := chartOf(s.Key)
		if chart == "" {
			continue
		}
		line := report.Series{Chart: chart, Name: s.Node + " " + labelsOf(s.Key), Unit: unit}
		for _, p := range s.Points {
			if !p.T.Before(res.Window.Start) && !p.T.After(res.Window.End) {
				line.Points = append(line.Points, report.Point{At: p.T, Value: p.V})
			}
		}
		if len(line.Points) > 1 {
			out = append(out, line)
		}
	}
	return out
}

func chartOf(key string) (chart, unit string) {
	name, _, _ := strings.Cut(key, "{")
	switch name {
	case "aifbench_gpu_temperature_celsius":
		return "GPU temperature", "°C"
	case "aifbench_gpu_util_ratio":
		return "GPU utilisation", "ratio"
	case "aifbench_gpu_power_watts":
		return "GPU power", "W"
	case "aifbench_gpu_memory_used_bytes":
		return "GPU memory", "bytes"
	case "aifbench_node_load1":
		return "Load average", "tasks"
	case "aifbench_node_memory_available_bytes":
		return "Available memory", "bytes"
	}
	return "", ""
}

func labelsOf(key string) string {
	_, l, ok := strings.Cut(key, "{")
	if !ok {
		return ""
	}
	return strings.TrimSuffix(l, "}")
}
