package vector

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/record"
	"aifbench/pkg/bench/vector/chroma"
	"aifbench/pkg/bench/vector/data"
	"aifbench/pkg/bench/vector/exact"
	"aifbench/pkg/metrics/result"
)

// Kind and Service name the results of this engine.
const (
	Kind    = "bench"
	Service = "chroma"
)

// EngineSim is the engine of every result measured against the built-in
// store, whatever a caller believes to have started.
const EngineSim = "sim"

const simWarning = "measured against the built-in exact store, which is not Chroma: its figures say nothing about Chroma"

// engineUnknown is the engine of a server that no run started.
const engineUnknown = "external"

// Run measures the target as cfg says and returns the result; the raw samples
// go to env.Dir. The error is non-nil only when there is no result to speak
// of: a wrong configuration or a run directory that cannot be written. A
// server that fails, or a context that ends, is a result with a verdict.
func Run(ctx context.Context, cfg Config, env load.Env) (result.Result, error) {
	if err := cfg.Validate(); err != nil {
		return result.Result{}, err
	}
	doc, err := json.Marshal(cfg)
	if err != nil {
		return result.Result{}, fmt.Errorf("encode vector configuration: %w", err)
	}
	token, err := readKey(cfg.Target.KeyFile)
	if err != nil {
		return result.Result{}, err
	}
	client, err := chroma.New(cfg.Target.URL, chroma.Options{
		Tenant: cfg.Target.Tenant, Database: cfg.Target.Database, Token: token,
		Connections: max(cfg.InsertConcurrency, slices.Max(cfg.QueryConcurrency)) + 1,
	})
	if err != nil {
		return result.Result{}, err
	}
	defer client.Close()
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	r := &runner{cfg: cfg, env: env, client: client, zero: time.Now()}
	r.res = result.Result{
		Kind: Kind, Service: Service, Engine: env.Engine, Run: env.Run, Target: env.Target,
		Config: doc, Environment: map[string]any{},
	}
	if r.res.Engine == "" {
		r.res.Engine = engineUnknown
	}
	start := time.Now()
	err = r.all(ctx)
	if len(r.res.Curve) == 0 {
		r.res.Window = result.Window{Start: start, End: time.Now(), DurationS: time.Since(start).Seconds()}
	}
	top := r.res.Window
	r.res.Fold()
	if len(r.res.Curve) == 0 {
		r.res.Window = top
	}
	return r.res, err
}

// readKey reads the token of a key file, which must be the user's alone.
func readKey(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("read key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("read key file: %s is readable by others; run chmod 600 on it", path)
	}
	if info.Size() > 64<<10 {
		return "", fmt.Errorf("read key file: %s is larger than a key", path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read key file: %w", err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line), nil
}

// runner is one Run.
type runner struct {
	cfg    Config
	env    load.Env
	client *chroma.Client
	zero   time.Time // all offsets count from here
	server chroma.Identity
	res    result.Result

	base, queries data.Set
	bodies        [][]byte       // query bodies
	truths        []*exact.Truth // by index into cfg.Vectors
	facts         []facts
	queue         *record.Queue
	step, steps   int // of progress
}

func (r *runner) since(t time.Time) time.Duration { return t.Sub(r.zero) }

func (r *runner) put(s *sample) { r.queue.Put(s.row()) }

func (r *runner) warn(code, format string, args ...any) {
	w := result.Warning{Code: code, Message: fmt.Sprintf(format, args...)}
	if slices.Contains(r.res.Warnings, w) {
		return
	}
	r.res.Warnings = append(r.res.Warnings, w)
	r.env.Log.Warn(w.Message, "code", code)
}

func (r *runner) progress(point, phase string) {
	if r.env.Progress != nil {
		r.env.Progress(load.Progress{Point: point, Phase: phase, Share: float64(r.step) / float64(max(r.steps, 1))})
	}
}

// limit is the context of one call outside of the measured loops.
func (r *runner) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, seconds(r.cfg.RequestTimeoutS))
}

// after is the context of a call that still makes sense once ctx has ended:
// counting what was stored, deleting what was made.
func (r *runner) after(ctx context.Context) (context.Context, context.CancelFunc) {
	wait := seconds(r.cfg.RequestTimeoutS)
	if ctx.Err() != nil {
		wait = min(wait, max(r.env.DrainLimit, 2*time.Second))
	}
	return context.WithTimeout(context.WithoutCancel(ctx), wait)
}

func (r *runner) all(ctx context.Context) error {
	if err := r.identify(ctx); err != nil {
		r.fail(ctx, "server", "the server did not answer as Chroma does", err)
		return nil
	}
	for _, text := range r.cfg.Unsupported() {
		r.warn("few_samples", "%s", text)
	}
	if err := r.prepare(ctx); err != nil {
		if ctx.Err() == nil {
			return err
		}
		r.fail(ctx, "", "", nil)
		return nil
	}
	if err := r.open(); err != nil {
		return err
	}
	defer func() {
		if cerr := r.queue.Close(); cerr != nil {
			// What was measured is worth keeping; what cannot be recomputed is not
			// valid.
			r.res.Verdict.Add(result.Invalid, result.Reason{
				Rule: "records", Severity: result.Serious, Message: "the raw samples could not be written", Evidence: cerr.Error(),
			})
		}
	}()
	r.steps = len(r.cfg.Vectors) * (1 + len(r.cfg.QueryConcurrency))
	for i := range r.cfg.Vectors {
		r.size(ctx, i)
		if ctx.Err() != nil {
			return nil
		}
	}
	return nil
}

// fail ends a run that has no point.
func (r *runner) fail(ctx context.Context, rule, message string, err error) {
	status := result.Failed
	if ctx.Err() != nil {
		status = load.StopStatus(context.Cause(ctx))
		rule, message, err = "ended_early", "the run was ended before anything was measured", context.Cause(ctx)
	}
	r.res.Verdict.Add(status, result.Reason{Rule: rule, Severity: result.Serious, Message: message, Evidence: err.Error()})
}

func (r *runner) identify(ctx context.Context) error {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	id, err := r.client.Identify(ctx)
	if err != nil {
		return err
	}
	if err := r.client.Ready(ctx); err != nil {
		return err
	}
	r.server = id
	r.res.Environment["server"] = map[string]any{
		"version_answered": id.Version, "max_batch_size": id.MaxBatchSize, "base64": id.Base64, "sim": id.Sim,
	}
	switch {
	case id.Sim:
		r.res.Engine = EngineSim
		r.warn("sim_engine", simWarning)
	case r.env.Engine == EngineSim:
		r.res.Engine = engineUnknown
		r.warn("engine_mismatch", "the run says engine sim, but the server is not the built-in store")
	}
	if r.cfg.Encoding == chroma.Base64 && !id.Base64 {
		return errors.New("the server does not take base64 embeddings; set encoding to json")
	}
	if id.MaxBatchSize > 0 && r.cfg.BatchSize > id.MaxBatchSize {
		r.warn("batch_size", "batch_size %d is above the %d that the server advises; it may refuse", r.cfg.BatchSize, id.MaxBatchSize)
	}
	return nil
}

// prepare makes everything that must not be made inside a window: data, exact
// neighbours, request bodies of queries.
func (r *runner) prepare(ctx context.Context) error {
	r.progress("", "data")
	largest := slices.Max(r.cfg.Vectors)
	var err error
	if r.base, r.queries, err = data.Generate(r.cfg.Data, r.cfg.Dimension, largest, r.cfg.Queries); err != nil {
		return err
	}
	r.bodies = make([][]byte, r.cfg.Queries)
	for i := range r.bodies {
		if r.bodies[i], err = chroma.AppendQuery(nil, r.queries.Row(i), r.cfg.K); err != nil {
			return fmt.Errorf("encode query %d: %w", i, err)
		}
	}
	began := time.Now()
	for _, n := range r.cfg.Vectors {
		r.progress("", "exact neighbours")
		t, err := exact.Find(ctx, r.base.Head(n), r.queries, r.cfg.K, r.cfg.Metric, runtime.GOMAXPROCS(0))
		if err != nil {
			return err
		}
		f := facts{Vectors: n, Refused: t.Indifferent()}
		for q := range r.cfg.Queries {
			if t.Tied(q) {
				f.Tied = append(f.Tied, q)
			}
		}
		r.truths, r.facts = append(r.truths, t), append(r.facts, f)
	}
	r.res.Environment["data"] = map[string]any{
		"kind": r.cfg.Data.Kind, "seed": r.cfg.Data.Seed, "base_sha256": r.base.Hash(), "queries_sha256": r.queries.Hash(),
		"exact_neighbours_s": time.Since(began).Seconds(),
	}
	return nil
}

// open creates the record file; its header carries what Recompute needs.
func (r *runner) open() error {
	meta, err := json.Marshal(r.facts)
	if err != nil {
		return fmt.Errorf("encode facts: %w", err)
	}
	w, err := record.Create(record.Path(r.env.Dir, recordKind), record.Header{
		Kind: recordKind, Columns: columns(),
		Meta: map[string]string{
			"config": string(r.res.Config), "facts": string(meta), "zero": r.zero.UTC().Format(time.RFC3339Nano),
			"engine": r.res.Engine, "run": r.env.Run, "target": r.env.Target,
		},
	})
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w; raw samples are never overwritten: give a fresh run directory", err)
	}
	if err != nil {
		return err
	}
	r.queue = record.NewQueue(w, 4096)
	return nil
}

// nonce returns eight random hexadecimal digits.
func nonce() string {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// collectionName returns a name that Chroma takes and nobody else uses.
func collectionName(run string, vectors int, nonce string) string {
	clean := strings.Map(func(c rune) rune {
		if c < 128 && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("._-", c)) {
			return c
		}
		return '-'
	}, run)
	return fmt.Sprintf("aifbench-%.80s-%d-%s", clean, vectors, nonce)
}

// Unsupported lists the quantiles that a run of this configuration cannot
// report, so that a user learns it before the run and not after.
func (c Config) Unsupported() []string {
	var out []string
	say := func(what string, n int64) {
		for _, q := range []float64{0.5, 0.95, 0.99} {
			if !supports(n, q) {
				out = append(out, fmt.Sprintf("%s: at most %d samples, p%g needs %d", what, n, 100*q, needed(q)))
				return
			}
		}
	}
	for _, n := range c.Vectors {
		say(fmt.Sprintf("insert of %d vectors in batches of %d", n, c.BatchSize), int64((n+c.BatchSize-1)/max(c.BatchSize, 1)))
	}
	switch {
	case c.DurationS == 0:
		say("query", int64(c.Queries))
	case c.RatePerS > 0:
		say("query", int64(c.RatePerS*c.DurationS))
	}
	return out
}
