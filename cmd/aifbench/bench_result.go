package main

import (
	"fmt"

	"aifbench/pkg/metrics/result"
	"aifbench/pkg/metrics/table"
	runs "aifbench/pkg/services/run"
)

func readResult(dir runs.Dir) (*result.Result, error) {
	return result.Read(dir.File(runs.ResultFile))
}

// conclude prints a result and returns its exit code as an error.
func (a *app) conclude(dir runs.Dir, res *result.Result, strict bool) error {
	if err := a.printResult(res); err != nil {
		return err
	}
	a.explain(res)
	a.say("kept in %s", dir.Path)
	if code := verdictCode(res, strict); code != exitOK {
		return &silent{code}
	}
	return nil
}

func (a *app) printResult(res *result.Result) error {
	return a.emit(res, func() *table.Table {
		if a.output == formatCSV {
			return table.Long(res)
		}
		t := table.Figures(res)
		t.Note("%s %s, run %s: %s", res.Service, res.Engine, res.Run, res.Verdict.Status)
		return t
	})
}

// explain says on stderr why a verdict is what it is, and which gates failed.
func (a *app) explain(res *result.Result) {
	for _, r := range res.Verdict.Reasons {
		a.say("%s: %s: %s%s", table.Clean(r.Rule), r.Severity, table.Clean(r.Message), evidence(r.Evidence))
	}
	for _, w := range res.Warnings {
		a.warn("%s", w.Message)
	}
	for _, g := range res.Gates {
		if !g.Passed {
			fmt.Fprintf(a.err, "gate: %s\n", table.Clean(g.Message))
		}
	}
}

func evidence(s string) string {
	if s == "" {
		return ""
	}
	return " (" + table.Clean(s) + ")"
}

// detachedDoc is the document of bench --detach.
type detachedDoc struct {
	SchemaVersion int    `json:"schema_version"`
	Kind          string `json:"kind"`
	Run           string `json:"run"`
	Dir           string `json:"dir"`
	Where         string `json:"where"`
}

func (a *app) emitDetached(dir runs.Dir, where string) error {
	doc := detachedDoc{1, "bench_detached", dir.ID(), dir.Path, where}
	return a.emit(doc, func() *table.Table {
		t := table.New("run", "where")
		t.Row(doc.Run, doc.Where)
		t.Note("aifbench wait %s waits for it and judges it", doc.Run)
		return t
	})
}

// progressOf is one line of talk about how far a bench is.
func progressOf(dir runs.Dir) string {
	var p progressDoc
	if err := runs.ReadJSON(dir.File(runs.ProgressFile), &p); err != nil {
		return ""
	}
	total := ""
	if p.Total > 0 {
		total = fmt.Sprintf(" of %d", p.Total)
	}
	return fmt.Sprintf("  %3.0f %%  %s %s: %d%s done, %d failed", 100*p.Share, p.Point, p.Phase, p.Done, total, p.Failed)
}
