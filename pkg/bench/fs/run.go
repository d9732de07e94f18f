package fs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"runtime"
	"time"

	"aifbench/pkg/bench/fs/datadir"
	"aifbench/pkg/bench/fs/phases"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/metrics/result"
)

// Kind is the kind of the results of this package.
const Kind = "bench"

// Service is the service whose benchmark this is.
const Service = "lustre"

// Run benchmarks a directory by the engine of cfg and returns the judged
// result, also of a run that failed, filled the device or was interrupted: then
// with everything that had finished. The error is non-nil only when nothing
// was measured: a configuration that cannot be (ErrConfig), a directory of
// somebody else (datadir.ErrForeign), a file that cannot be written.
func Run(ctx context.Context, cfg Config, env load.Env, l Launcher) (result.Result, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return result.Result{}, err
	}
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Seed == 0 {
		h := fnv.New32a()
		_, _ = io.WriteString(h, env.Run) // a hash takes everything
		cfg.Seed = h.Sum32()&(1<<31-1) | 1
	}
	doc, err := json.Marshal(cfg)
	if err != nil {
		return result.Result{}, fmt.Errorf("encode configuration: %w", err)
	}
	dir, err := datadir.Open(cfg.DataDir, cfg.Nonce, env.Run, phases.Ours)
	if err != nil {
		return result.Result{}, err
	}
	layout, err := Describe(ctx, dir.Path(), l)
	if err != nil {
		_, rerr := dir.Remove(phases.Ours)
		return result.Result{}, errors.Join(err, rerr)
	}
	res := result.Result{
		Kind: Kind, Service: Service, Engine: cfg.Engine, Run: env.Run, Target: env.Target, Config: doc,
		Environment: environment(cfg, layout),
	}
	point := result.Point{
		Label:  cfg.Engine,
		Params: map[string]any{"procs": cfg.Procs, "phase_seconds": cfg.PhaseSeconds},
		Window: result.Window{Start: time.Now()},
	}
	if cfg.Engine == EngineNative && layout.FreeBytes < cfg.MaxBytes {
		res.Warnings = append(res.Warnings, result.Warning{
			Code:    "space_short",
			Message: fmt.Sprintf("%d bytes are free, the run may write %d", layout.FreeBytes, cfg.MaxBytes),
		})
	}
	stuck := false
	if cfg.Engine == EngineIO500 {
		err = runIO500(ctx, cfg, env, l, dir, &point)
	} else {
		stuck, err = runNative(ctx, cfg, env, dir, layout, &point)
	}
	point.Window.End = time.Now()
	point.Window.DurationS = point.Window.End.Sub(point.Window.Start).Seconds()
	res.Warnings = append(res.Warnings, finish(cfg, dir, stuck, env.Log)...)
	if err != nil {
		return result.Result{}, err
	}
	if ctx.Err() != nil {
		point.Verdict.Add(load.StopStatus(context.Cause(ctx)), result.Reason{
			Rule: "stopped_early", Severity: result.Serious,
			Message:  "the run was ended before its last phase; what had finished is kept",
			Evidence: context.Cause(ctx).Error(),
		})
	}
	res.Curve = []result.Point{point}
	res.Fold()
	return res, nil
}

// finish removes the data or leaves it, and says what is left behind.
func finish(cfg Config, dir *datadir.Dir, stuck bool, log *slog.Logger) []result.Warning {
	warn := func(code, format string, a ...any) []result.Warning {
		return []result.Warning{{Code: code, Message: fmt.Sprintf(format, a...)}}
	}
	switch {
	case stuck:
		// Ranks still write; their files are not to be removed under them.
		return warn("data_left", "ranks are stuck in the kernel; the data in %s stays", dir.Path())
	case cfg.KeepData:
		if err := dir.Close(); err != nil {
			return warn("data_close", "close %s: %v", dir.Path(), err)
		}
		return warn("data_kept", "the data in %s was kept as asked", dir.Path())
	}
	path := dir.Path()
	rep, err := dir.Remove(phases.Ours)
	log.Info("data removed", "dir", path, "files", rep.Files, "dirs", rep.Dirs, "left", rep.LeftCount)
	var out []result.Warning
	if err != nil {
		out = warn("data_left", "remove the data in %s: %v", path, err)
	}
	if rep.LeftCount > 0 {
		out = append(out, warn("foreign_left", "%d entries in %s were not made by the benchmark and stay: %v", rep.LeftCount, path, rep.Left)...)
	}
	return out
}

// environment is what a reader needs to know of where the numbers are from.
func environment(cfg Config, layout Layout) map[string]any {
	return map[string]any{
		"file_system": layout,
		"gomaxprocs":  runtime.GOMAXPROCS(0),
		"cpus":        runtime.NumCPU(),
		"go":          runtime.Version(),
		"arch":        runtime.GOARCH,
		"nodes":       1,
		"ranks":       cfg.Procs,
	}
}
