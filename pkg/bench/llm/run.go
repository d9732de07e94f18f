package llm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"aifbench/pkg/bench/llm/constraint"
	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/record"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

// queueDepth is how many finished requests may wait for the disk.
const queueDepth = 4096

// meta is what the record file carries besides samples: all that is needed to
// make the result again.
type meta struct {
	config   json.RawMessage
	run      string
	target   string
	engine   string
	server   server
	env      map[string]any
	warnings []result.Warning
}

// Run measures every point of the configuration and returns the result made
// from the record files it wrote to env.Dir. A failing server, an early end or
// a generator that could not keep up is in the result's verdict; the error is
// for a configuration, a key or a directory that cannot be used. When ctx ends
// the requests in flight are drained and the result is partial and says so.
func Run(ctx context.Context, cfg Config, env load.Env) (result.Result, error) {
	if err := cfg.Validate(); err != nil {
		return result.Result{}, err
	}
	if env.Dir == "" {
		return result.Result{}, errors.New("bench llm: no run directory")
	}
	c, err := newCaller(cfg)
	if err != nil {
		return result.Result{}, err
	}
	defer c.http.CloseIdleConnections()
	w, err := newWriter(cfg)
	if err != nil {
		return result.Result{}, err
	}
	m, err := newMeta(cfg, env)
	if err != nil {
		return result.Result{}, err
	}
	for _, warn := range m.warnings {
		if env.Log != nil {
			env.Log.Warn(warn.Message, "code", warn.Code)
		}
	}
	m.server, err = c.discover(ctx, cfg, salt(env.Run))
	var refused *refusedError
	switch {
	case errors.As(err, &refused):
		return failedBefore(ctx, m, refused), nil
	case err != nil:
		return result.Result{}, err
	}
	w.model, w.dialect, w.pool, w.perWord = m.server.Model, m.server.Dialect, m.server.pool, m.server.PerWord
	f, err := create(env.Dir, m)
	if err != nil {
		return result.Result{}, err
	}
	lost := measure(ctx, cfg, env, c, w, f)
	r, err := Recompute(env.Dir)
	if err != nil {
		return result.Result{}, errors.Join(lost, err)
	}
	if lost != nil {
		// What was written before, on a disk that is full now, still counts.
		r.Verdict.Add(result.Invalid, result.Reason{
			Rule: "samples_lost", Severity: result.Serious, Message: "samples could not be written: the figures lack them", Evidence: printable(lost.Error()),
		})
	}
	return r, nil
}

func newWriter(cfg Config) (*writer, error) {
	w := &writer{cfg: cfg}
	if cfg.Dataset != Random {
		lines, err := readDataset(cfg.Dataset, cfg.API)
		if err != nil {
			return nil, err
		}
		w.lines = lines
	}
	if cfg.Structured != "" {
		work, err := constraint.For(cfg.Structured)
		if err != nil {
			return nil, err
		}
		w.work = &work
	}
	return w, nil
}

// salt is the run's own part of a prefix cache, of the characters vLLM takes.
func salt(run string) string {
	if run == "" {
		run = fmt.Sprintf("aifbench-%x", time.Now().UnixNano())
	}
	run = strings.Map(func(r rune) rune {
		if r > ' ' && r < 0x7f && !strings.ContainsRune(`@/\`, r) {
			return r
		}
		return '-'
	}, run)
	return run[:min(len(run), 128)]
}

func newMeta(cfg Config, env load.Env) (meta, error) {
	doc, err := json.Marshal(cfg)
	if err != nil {
		return meta{}, fmt.Errorf("encode llm configuration: %w", err)
	}
	m := meta{config: doc, run: env.Run, target: env.Target, engine: env.Engine, warnings: foretell(cfg)}
	m.env = map[string]any{
		"client": map[string]any{
			"go_version": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "cpus_allowed": load.AllowedCPUs(),
			"http": "HTTP/1.1, keep-alive, no proxy, no compression", "arrival_stamp": "user space, at the return of the read, before parsing",
		},
	}
	return m, nil
}

// Unsupported lists what the figures of a run of this configuration will lack,
// so that a user learns it before the run and not after.
func (c Config) Unsupported() []string {
	var out []string
	for _, w := range foretell(c) {
		out = append(out, w.Message)
	}
	return out
}

// foretell says before the start which quantiles the number of requests cannot
// support.
func foretell(cfg Config) []result.Warning {
	var out []result.Warning
	if cfg.Requests > 0 {
		var missing []string
		for _, q := range quantiles {
			if !figure.Supports(cfg.Requests, q) {
				missing = append(missing, fmt.Sprintf("p%g needs %d", 100*q, figure.Needed(q)))
			}
		}
		if len(missing) > 0 {
			out = append(out, result.Warning{Code: "quantile_unsupported", Message: fmt.Sprintf(
				"%d requests a point are too few for some quantiles, which will be null: %s", cfg.Requests, strings.Join(missing, ", "))})
		}
	} else {
		out = append(out, result.Warning{Code: "quantile_unknown", Message: fmt.Sprintf(
			"the load is bounded by time, so the number of requests is not known before: p99 needs %d a point, p95 %d", figure.Needed(0.99), figure.Needed(0.95))})
	}
	if cfg.WarmupRequests == 0 && cfg.WarmupS == 0 {
		out = append(out, result.Warning{Code: "no_warmup", Message: "there is no warm-up: connecting and first-use costs of the server are part of the figures"})
	}
	return out
}

// files are the two record files of a run.
type files struct{ rows, marks *record.Writer }

// create makes the record files; samples that are there are never replaced.
func create(dir string, m meta) (files, error) {
	head, err := m.encode()
	if err != nil {
		return files{}, err
	}
	rows, err := record.Create(record.Path(dir, recordKind), record.Header{Kind: recordKind, Columns: columns, Meta: head})
	if err != nil {
		return files{}, err
	}
	marks, err := record.Create(record.Path(dir, pointsKind), record.Header{Kind: pointsKind, Columns: pointColumns})
	if err != nil {
		return files{}, errors.Join(err, rows.Close())
	}
	return files{rows, marks}, nil
}

// measure runs the points and writes the record files. Its error is about the
// files.
func measure(ctx context.Context, cfg Config, env load.Env, c *caller, w *writer, f files) error {
	queue := record.NewQueue(f.rows, queueDepth)
	prefix := salt(env.Run)
	points := cfg.points()
	var failure error
	for i, p := range points {
		if ctx.Err() != nil {
			break
		}
		out, err := load.Run(ctx, cfg.plan(p, env.DrainLimit), observe(env, p.label, i, len(points)), func(int) load.Do {
			return func(ctx context.Context, clock load.Clock, op load.Op) bool {
				s := &sample{point: int64(i), seq: op.Index, warm: op.Warm, intended: op.Intended}
				c.ask(ctx, clock, w.question(prefix, int64(i), op.Index), s)
				ok := s.class == ""
				queue.Put(s.row())
				return ok
			}
		})
		if err != nil {
			failure = err
			break
		}
		if failure = mark(f.marks, i, out); failure != nil {
			break
		}
	}
	return errors.Join(failure, queue.Close(), f.marks.Close())
}

// observe passes progress on with the point's name and its share of the whole.
func observe(env load.Env, label string, i, n int) load.Env {
	tell := env.Progress
	if tell == nil {
		return env
	}
	env.Progress = func(p load.Progress) {
		p.Point = label
		p.Share = (float64(i) + p.Share) / float64(n)
		tell(p)
	}
	return env
}

func mark(w *record.Writer, i int, out load.Outcome) error {
	account, err := json.Marshal(out.Account)
	if err != nil {
		return fmt.Errorf("encode account: %w", err)
	}
	row := record.Row{
		record.Int(int64(i)), record.Int(out.Zero.UnixNano()), record.Int(int64(out.Start)), record.Int(int64(out.End)),
		text(stopWord(out.Stopped)), record.Int(out.Cut), record.Str(string(account)),
	}
	if err := w.Append(row); err != nil {
		return err
	}
	return w.Flush()
}

// Words of the column stopped.
const (
	stopFailing   = "failing"
	stopTruncated = "truncated"
	stopInterrupt = "interrupted"
)

func stopWord(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, load.ErrFailing):
		return stopFailing
	case load.StopStatus(err) == result.Truncated:
		return stopTruncated
	}
	return stopInterrupt
}

// encode and decode carry meta through the header of a record file.
func (m meta) encode() (map[string]string, error) {
	out := map[string]string{"config": string(m.config), "run": m.run, "target": m.target, "engine": m.engine}
	for k, v := range map[string]any{"server": m.server, "environment": m.env, "warnings": m.warnings} {
		b, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", k, err)
		}
		out[k] = string(b)
	}
	return out, nil
}

func decodeMeta(in map[string]string) (meta, error) {
	m := meta{config: json.RawMessage(in["config"]), run: in["run"], target: in["target"], engine: in["engine"]}
	for k, v := range map[string]any{"server": &m.server, "environment": &m.env, "warnings": &m.warnings} {
		if err := json.Unmarshal([]byte(in[k]), v); err != nil {
			return meta{}, fmt.Errorf("read records.llm: %s: %w", k, err)
		}
	}
	return m, nil
}

// failedBefore is the result of a run whose first request was refused.
func failedBefore(ctx context.Context, m meta, why *refusedError) result.Result {
	r := m.result()
	status := result.Failed
	if ctx.Err() != nil {
		status = load.StopStatus(context.Cause(ctx))
	}
	r.Verdict.Add(status, result.Reason{
		Rule: "preflight", Severity: result.Serious, Message: "the server failed before the load began: no request was measured",
		Evidence: why.Error(),
	})
	r.Normalise()
	return r
}

// result starts the document that all results share.
func (m meta) result() result.Result {
	r := result.Result{
		SchemaVersion: result.SchemaVersion, Kind: "bench", Service: "vllm", Engine: m.engine, Run: m.run, Target: m.target,
		Warnings: append([]result.Warning{}, m.warnings...), Environment: map[string]any{}, Config: m.config,
	}
	for k, v := range m.env {
		r.Environment[k] = v
	}
	if m.server.Model != "" {
		r.Environment["server"] = m.server
	}
	if m.server.Simulator {
		r.Engine = "sim"
		r.Warnings = append(r.Warnings, result.Warning{Code: "simulator", Message: "the server is aifbench's built-in simulator: its latencies are set, not measured"})
	}
	return r
}
