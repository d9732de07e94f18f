package fs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"aifbench/pkg/bench/fs/io500"
	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/bench/record"
	"aifbench/pkg/metrics/result"
)

// Recompute rebuilds the result of a run from the raw files in its directory:
// the record file of the built-in engine, or the result files of the real
// IO500. Of a file that was cut it uses what is whole, with a warning; phases
// without rows are null.
func Recompute(dir string) (result.Result, error) {
	r, err := record.Open(record.Path(dir, phases.RecordKind))
	if errors.Is(err, os.ErrNotExist) {
		return recomputeIO500(dir)
	}
	if err != nil {
		return result.Result{}, err
	}
	res, err := rebuild(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return result.Result{}, fmt.Errorf("recompute %s: %w", dir, err)
	}
	return res, nil
}

func rebuild(r *record.Reader) (result.Result, error) {
	head := r.Header()
	dec, err := phases.NewDecoder(head)
	if err != nil {
		return result.Result{}, err
	}
	rows := map[string][]phases.Row{}
	for {
		cells, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return result.Result{}, err
		}
		row, err := dec.Row(cells)
		if err != nil {
			return result.Result{}, err
		}
		rows[row.Phase] = append(rows[row.Phase], row)
	}
	res := result.Result{Kind: Kind, Service: Service, Engine: EngineNative, Run: head.Meta["run"]}
	if why := r.Warning(); why != "" {
		res.Warnings = append(res.Warnings, result.Warning{Code: "records_cut", Message: why})
	}
	var outcomes []phases.Outcome
	for _, spec := range phases.Order() {
		o := phases.Outcome{Phase: spec.Name, Status: phases.NotRun, Message: "no rows in the record file"}
		if list := rows[spec.Name]; len(list) > 0 {
			o.Rows = list
			o.Status, o.Message = phases.Fold(list)
			if want := head.Meta["procs"]; want != fmt.Sprint(len(list)) {
				o.Status, o.Message = phases.Failed, fmt.Sprintf("%d of %s ranks in the record file", len(list), want)
			}
		}
		outcomes = append(outcomes, o)
	}
	p := result.Point{Label: EngineNative}
	judgeNative(outcomes, head.Meta["fs_type"], head.Meta["direct"] == "true", result.Interrupted, &p)
	if start, err := time.Parse(time.RFC3339Nano, head.Meta["started"]); err == nil {
		p.Window.Start, p.Window.End = start, start
		for _, ph := range p.Phases {
			if end := start.Add(time.Duration(ph.EndS * 1e9)); end.After(p.Window.End) {
				p.Window.End = end
			}
		}
		p.Window.DurationS = p.Window.End.Sub(p.Window.Start).Seconds()
	} else {
		res.Warnings = append(res.Warnings, result.Warning{Code: "records_start", Message: "the record file does not say when it began: " + err.Error()})
	}
	// Phases without a row and without a failed one before them were lost.
	if p.Verdict.Status == result.Valid && p.Phases[len(p.Phases)-1].Status == phases.NotRun {
		p.Verdict.Add(result.Truncated, result.Reason{
			Rule: "records_incomplete", Severity: result.Serious,
			Message: "the record file ends before the last phase", Evidence: r.Warning(),
		})
	}
	res.Curve = []result.Point{p}
	res.Fold()
	return res, nil
}

func recomputeIO500(dir string) (result.Result, error) {
	home := filepath.Join(dir, "io500-results")
	if _, err := os.Stat(home); err != nil {
		return result.Result{}, fmt.Errorf("recompute %s: neither records.%s nor results of io500: %w", dir, phases.RecordKind, err)
	}
	folder, err := io500.Load(os.DirFS(home))
	if err != nil {
		return result.Result{}, fmt.Errorf("recompute %s: %w", dir, err)
	}
	res := result.Result{Kind: Kind, Service: Service, Engine: EngineIO500}
	p := result.Point{Label: EngineIO500}
	judgeFolder(folder, io500.Expect{}, nil, &p)
	res.Curve = []result.Point{p}
	res.Fold()
	return res, nil
}
