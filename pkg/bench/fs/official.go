package fs

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"aifbench/pkg/bench/fs/datadir"
	"aifbench/pkg/bench/fs/io500"
	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

// runIO500 runs the real benchmark in dir and fills the point.
func runIO500(ctx context.Context, cfg Config, env load.Env, l Launcher, dir *datadir.Dir, point *result.Point) error {
	if l == nil {
		return errors.New("run io500: no launcher was given")
	}
	job := io500.Job{
		Config: cfg.IO500, Procs: cfg.Procs, Stonewall: int(cfg.PhaseSeconds),
		Data: dir.Path(), Home: env.Dir,
		Progress: func(phase string) {
			env.Log.Info("phase", "name", phase)
			if env.Progress != nil {
				env.Progress(load.Progress{Point: EngineIO500, Phase: phase, Share: share(phase)})
			}
		},
	}
	out, err := job.Run(ctx, l)
	if err != nil {
		return err
	}
	want := io500.Expect{Procs: int64(cfg.Procs), Stonewall: cfg.IO500.RequiredStonewall()}
	if cfg.IO500.Launcher == io500.LauncherNone {
		want.Procs = 1
	}
	var more []result.Reason
	switch {
	case ctx.Err() != nil: // Run says why
	case out.Launch != nil:
		more = append(more, result.Reason{Rule: "io500_launch", Severity: result.Serious, Message: "io500 could not be run", Evidence: clean(out.Launch.Error(), 300)})
	case out.Code != 0:
		more = append(more, result.Reason{Rule: "io500_exit_code", Severity: result.Serious, Message: fmt.Sprintf("io500 ended with code %d", out.Code), Evidence: out.Stderr})
	}
	judgeFolder(out.Folder, want, more, point)
	point.Notes["exit_code"] = fmt.Sprint(out.Code)
	return nil
}

func share(phase string) float64 {
	for i, s := range phases.Order() {
		if s.Name == phase {
			return float64(i) / float64(len(phases.Order()))
		}
	}
	return 0
}

// judgeFolder fills a point from the files of the real IO500; more are failures
// of the launch. Rates of phases that ended are kept whatever the verdict; the
// score is only given when it holds.
func judgeFolder(f io500.Folder, want io500.Expect, more []result.Reason, p *result.Point) {
	p.Figures = figure.Set{}
	p.Errors = map[string]int64{}
	p.Notes = map[string]string{}
	p.Verdict = io500.Judge(f, want)
	for _, r := range more {
		p.Verdict.Add(result.Failed, r)
	}
	for _, spec := range phases.Order() {
		name := rateName(spec.Name, spec.Data)
		ph := result.Phase{Name: spec.Name, Status: phases.NotRun}
		v, ok := f.Value(spec.Name)
		if ok && v > 0 {
			p.Figures.Put(name, v, 1, "as io500 printed it")
			ph.Status = phases.Done
		} else {
			p.Figures.PutNull(name, "io500 left no value above zero", 0)
		}
		if spec.Name != phases.Find {
			for _, q := range []string{"_p50_ms", "_p99_ms"} {
				p.Figures.PutNull(stem(spec.Name)+q, "io500 keeps no latencies of single operations", 0)
			}
		}
		if f.Summary != nil {
			if s, ok := f.Summary.Phase(spec.Name); ok {
				ph.EndS = s.Seconds
				ph.Message = fmt.Sprintf("lasted %.3f s; io500 keeps no start on our clock", s.Seconds)
				if s.Invalid {
					ph.Message = "[INVALID], " + ph.Message
				}
			}
		}
		p.Phases = append(p.Phases, ph)
	}
	scores(f, p)
	for _, s := range f.Sides {
		if s.VerifyErrors > 0 {
			p.Errors["corrupt_data"] += s.VerifyErrors
		}
	}
	for i, w := range f.Warnings {
		if i == 20 {
			p.Notes["parser_more"] = fmt.Sprintf("%d further oddities", len(f.Warnings)-i)
			break
		}
		p.Notes[fmt.Sprintf("parser_%02d", i)] = fmt.Sprintf("%s:%d: %s: %s", w.File, w.Line, w.Code, w.Text)
	}
}

// scores puts the three totals, or why they are missing.
func scores(f io500.Folder, p *result.Point) {
	names := []string{"io500_score", "io500_bw_gib_per_s", "io500_md_kiops"}
	if p.Verdict.Status != result.Valid {
		var rules []string
		for _, r := range p.Verdict.Reasons {
			if r.Severity == result.Serious {
				rules = append(rules, r.Rule)
			}
		}
		for _, n := range names {
			p.Figures.PutNull(n, "the run is "+string(p.Verdict.Status)+": "+strings.Join(rules, ", "), 0)
		}
		return
	}
	t, _ := io500.Recompute(f.Value)
	p.Figures.Put("io500_score", t.Total, 12, "recomputed from the phases, equal to the printed one")
	p.Figures.Put("io500_bw_gib_per_s", t.BW, 4, "recomputed from the phases, equal to the printed one")
	p.Figures.Put("io500_md_kiops", t.MD, 8, "recomputed from the phases, equal to the printed one")
}
