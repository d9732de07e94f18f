package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"aifbench/pkg/bench/fs"
	"aifbench/pkg/bench/llm"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/vector"
	"aifbench/pkg/metrics/result"
	runs "aifbench/pkg/services/run"
)

// generatorDrain bounds how long work in flight is waited for after a stop.
// Schedulers kill some seconds after they ask; the result must be on disk then.
const generatorDrain = 3 * time.Second

// generate is the load generator: it runs the bench in dir and leaves the
// records, the result and the sentinel. It is the same beside a service, in a
// job of its own and in this shell.
func (a *app) generate(ctx context.Context, dir runs.Dir, log *slog.Logger) (*result.Result, error) {
	sp, err := readSpec(dir)
	if err != nil {
		return nil, err
	}
	started := a.now().UTC()
	// Beside the supervisor's sentinel of the same host, not over it.
	sent := runs.Sentinel{Host: a.hostname + ".load", JobID: a.getenv("SLURM_JOB_ID"), PID: os.Getpid(), Phase: runs.SentinelStarted, Started: started, Updated: started}
	if err := dir.WriteSentinel(sent); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { a.watchAsk(ctx, dir, cancel) })
	res, err := a.measure(ctx, dir, sp, log)
	terminated := endedByTerm(ctx)
	cancel(nil)
	wg.Wait()
	ended := a.now().UTC()
	sent.Phase, sent.Updated, sent.Ended = runs.SentinelEnded, ended, &ended
	code := exitOK
	if err != nil {
		code, sent.Message = exitInternal, err.Error()
		sent.ExitCode = &code
		return nil, errors.Join(err, dir.WriteSentinel(sent))
	}
	if err := a.complete(dir, sp, res, terminated); err != nil {
		return nil, err
	}
	sent.Complete = res.Verdict.Status != result.Truncated && res.Verdict.Status != result.Interrupted
	if res.Verdict.Status == result.Truncated {
		sent.Phase = runs.SentinelTruncated
	}
	sent.ExitCode = &code
	return res, dir.WriteSentinel(sent)
}

func endedByTerm(ctx context.Context) bool {
	sig, ok := errors.AsType[*signalError](context.Cause(ctx))
	return ok && sig.sig == syscall.SIGTERM
}

// measure runs the engine of the service.
func (a *app) measure(ctx context.Context, dir runs.Dir, sp spec, log *slog.Logger) (*result.Result, error) {
	env := load.Env{
		Dir: dir.Path, Run: dir.ID(), Target: sp.Target, Engine: sp.Engine, Log: log, DrainLimit: generatorDrain, Progress: a.progressWriter(dir, log),
	}
	ctx = stopCause(ctx)
	var res result.Result
	switch sp.Service {
	case "vllm":
		cfg, err := llm.DecodeConfig(sp.Workload)
		if err != nil {
			return nil, err
		}
		if res, err = llm.Run(ctx, cfg, env); err != nil {
			return nil, err
		}
	case "chroma":
		cfg, err := vector.Decode(sp.Workload)
		if err != nil {
			return nil, err
		}
		if res, err = vector.Run(ctx, cfg, env); err != nil {
			return nil, err
		}
	case "lustre":
		cfg, err := fs.Decode(sp.Workload)
		if err != nil {
			return nil, err
		}
		if res, err = fs.Run(ctx, cfg.WithDefaults(), env, launcher{a}); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("bench of %s: no engine makes load for service %q", dir.ID(), sp.Service)
	}
	return &res, nil
}

// stopCause translates how this process was told to stop into the causes
// engines know.
func stopCause(parent context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(parent))
	context.AfterFunc(parent, func() {
		cause := context.Cause(parent)
		if !errors.Is(cause, load.ErrTimeLimit) {
			cause = fmt.Errorf("%w: %w", load.ErrInterrupted, cause)
		}
		cancel(cause)
	})
	return ctx
}

// complete adds what only this layer knows, judges the gates and stores the result.
func (a *app) complete(dir runs.Dir, sp spec, res *result.Result, terminated bool) error {
	gates, err := gateSpecs(sp.Gates)
	if err != nil {
		return err
	}
	if terminated && res.Verdict.Status == result.Interrupted {
		res.Verdict.Reasons = append(res.Verdict.Reasons, result.Reason{Rule: ruleTerminated, Severity: result.Info, Message: "ended by SIGTERM", Evidence: "signal"})
	}
	for _, w := range sp.Warnings {
		res.Warnings = append(res.Warnings, result.Warning{Code: "bench", Message: w})
	}
	if res.Environment == nil {
		res.Environment = map[string]any{}
	}
	res.Environment["where"] = sp.Where
	res.Environment["host"] = a.hostname
	res.Environment["aifbench_version"] = versionInfo().Version
	res.Environment["job_id"] = a.getenv("SLURM_JOB_ID")
	res.Gates = result.Evaluate(gates, res)
	res.Normalise()
	if err := result.Write(dir.File(runs.ResultFile), res); err != nil {
		return err
	}
	return dir.Append(a.now(), runs.Event{Kind: runs.EventEnded, State: stateDone, Message: string(res.Verdict.Status)})
}

// watchAsk cancels the run when another process asks for it through the file.
func (a *app) watchAsk(ctx context.Context, dir runs.Dir, cancel context.CancelCauseFunc) {
	for sleep(ctx, 250*time.Millisecond) == nil {
		raw, err := os.ReadFile(dir.File(askFile))
		if err != nil {
			continue
		}
		sig := syscall.SIGINT
		if string(raw) == "term\n" {
			sig = syscall.SIGTERM
		}
		cancel(&signalError{sig})
		return
	}
}

// progressWriter keeps progress.json fresh, twice a second at most.
func (a *app) progressWriter(dir runs.Dir, log *slog.Logger) func(load.Progress) {
	var mu sync.Mutex
	var last time.Time
	return func(p load.Progress) {
		mu.Lock()
		defer mu.Unlock()
		now := a.now()
		if now.Sub(last) < 500*time.Millisecond {
			return
		}
		last = now
		doc := progressDoc{1, now.UTC(), p.Point, p.Phase, p.Done, p.Failed, p.Total, p.Share}
		if err := runs.WriteJSON(dir.File(runs.ProgressFile), doc); err != nil {
			log.Warn("progress not written", "error", err)
		}
	}
}
