package vector

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/vector/chroma"
	"aifbench/pkg/bench/vector/exact"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

// collection is one fresh collection and what is known about it.
type collection struct {
	name, prefix string
	index        int // into cfg.Vectors
	n            int
	col          chroma.Collection
	ours         bool // created by this run and found empty
	rows         int64
	samples      []sample
	phases       []result.Phase
	verdict      result.Verdict
	errors       map[string]int64
	first        map[string]string // first message of each class
	before       ledger
	after        ledger
	diskErr      error
}

// size measures one number of vectors: a fresh collection, then one query
// phase for each concurrency.
func (r *runner) size(ctx context.Context, index int) {
	n := r.cfg.Vectors[index]
	id := nonce()
	c := &collection{
		name: collectionName(r.env.Run, n, id), prefix: id[:4] + "-", index: index, n: n, rows: -1,
		errors: map[string]int64{}, first: map[string]string{}, verdict: result.Verdict{Status: result.Valid},
	}
	at := label(n, r.cfg.QueryConcurrency[0])
	ready := r.fill(ctx, c, at)
	r.step++
	shared := c.verdict
	var last *result.Point
	for i, conc := range r.cfg.QueryConcurrency {
		point := label(n, conc)
		p := result.Point{
			Label: point, Params: map[string]any{"vectors": n, "query_concurrency": conc},
			Errors: map[string]int64{}, Verdict: result.Verdict{Status: shared.Status, Reasons: slices.Clone(shared.Reasons)},
			Notes: map[string]string{"collection": c.name},
		}
		if i == 0 {
			p.Phases = slices.Clone(c.phases)
			for class, count := range c.errors {
				p.Errors[class] += count
			}
			for class, text := range c.first {
				p.Notes["first_"+class] = text
			}
		} else {
			p.Notes["insert"] = "create, insert and disk figures are those of the collection, measured once at point " + at
		}
		start := time.Now()
		var queries []sample
		if ready && ctx.Err() == nil {
			queries = r.query(ctx, c, &p, conc)
		} else {
			p.Window = result.Window{Start: start, End: start}
		}
		r.step++
		r.figures(&p, c, queries)
		r.res.Curve = append(r.res.Curve, p)
		last = &r.res.Curve[len(r.res.Curve)-1]
		if ctx.Err() != nil {
			break
		}
	}
	r.drop(ctx, c, last)
}

// figures completes the figures of a point whose query phase has put those
// of the generator's account.
func (r *runner) figures(p *result.Point, c *collection, queries []sample) {
	set := derive(c.samples, queries, r.facts[c.index])
	for name, f := range p.Figures {
		set[name] = f
	}
	if _, ok := set["achieved_rate_per_s"]; !ok {
		for _, name := range []string{"achieved_rate_per_s", "send_lateness_p50_ms", "send_lateness_p99_ms", "client_cpu_ratio"} {
			set.PutNull(name, "the query phase did not run", 0)
		}
	}
	t := r.truths[c.index]
	set.Put("recall_random_ratio", t.Random, int64(t.Examined), "count over all vectors")
	if r.cfg.Metric == exact.IP {
		set.PutNull("data_contrast_ratio", "not defined for ip", int64(t.Examined))
	} else {
		set.Put("data_contrast_ratio", t.Contrast, int64(t.Examined), "median over the queries examined")
	}
	putDisk(set, r.cfg.Target.PersistDir, c.before, c.after, c.diskErr, c.rows, int64(c.col.HNSW.SyncThreshold))
	p.Figures = set
}

// fill runs create, insert and settle. It returns whether queries make sense;
// otherwise the collection's verdict says why not.
func (r *runner) fill(ctx context.Context, c *collection, point string) bool {
	r.progress(point, phaseCreate)
	if !r.phase(ctx, c, point, phaseCreate, r.create) {
		return false
	}
	r.progress(point, phaseInsert)
	if !r.phase(ctx, c, point, phaseInsert, r.insert) {
		return false
	}
	r.progress(point, phaseSettle)
	return r.phase(ctx, c, point, phaseSettle, r.settle)
}

// phase times one phase of a collection and keeps its account.
func (r *runner) phase(ctx context.Context, c *collection, point, name string, do func(context.Context, *collection, string, *result.Phase) bool) bool {
	ph := result.Phase{Name: name, StartS: r.since(time.Now()).Seconds()}
	ok := do(ctx, c, point, &ph)
	ph.EndS = r.since(time.Now()).Seconds()
	ph.Status = "ok"
	switch {
	case ctx.Err() != nil:
		ph.Status = "interrupted"
		r.interrupted(ctx, &c.verdict, name)
	case !ok:
		ph.Status = "failed"
	}
	c.phases = append(c.phases, ph)
	return ok && ctx.Err() == nil
}

func (r *runner) interrupted(ctx context.Context, v *result.Verdict, phase string) {
	cause := context.Cause(ctx)
	v.Add(load.StopStatus(cause), result.Reason{
		Rule: "ended_early", Severity: result.Serious,
		Message: "the run was ended in phase " + phase + "; figures are those of the part before", Evidence: cause.Error(),
	})
}

// call keeps the sample of one call outside of the measured loops.
func (c *collection) call(r *runner, s sample, st chroma.Stamp, err error) {
	s.intended, s.start, s.header, s.end = r.since(st.Start), r.since(st.Start), -1, r.since(st.End)
	if !st.Header.IsZero() {
		s.header = r.since(st.Header)
	}
	s.sent, s.got = int64(st.Sent), int64(st.Got)
	s.fail(err)
	c.keep(r, s, err)
}

// keep stores a sample and counts its failure.
func (c *collection) keep(r *runner, s sample, err error) {
	if s.outcome != classOK {
		c.errors[s.phase+"."+s.outcome]++
		if _, seen := c.first[s.phase+"."+s.outcome]; !seen && err != nil {
			c.first[s.phase+"."+s.outcome] = err.Error()
		}
	}
	c.samples = append(c.samples, s)
	r.put(&s)
}

// count asks for the number of records and keeps the call as a sample.
func (r *runner) count(ctx context.Context, id string, s sample) (int64, sample, error) {
	ctx, cancel := r.limit(ctx)
	defer cancel()
	start := time.Now()
	n, err := r.client.Count(ctx, id)
	s.op, s.n = opCount, n
	s.start, s.end, s.header = r.since(start), r.since(time.Now()), -1
	s.intended = s.start
	s.fail(err)
	return n, s, err
}

func (r *runner) create(ctx context.Context, c *collection, point string, ph *result.Phase) bool {
	if dir := r.cfg.Target.PersistDir; dir != "" {
		c.before, c.diskErr = readLedger(dir)
	}
	want := chroma.HNSW{
		Space: string(r.cfg.Metric), MaxNeighbors: r.cfg.HNSW.MaxNeighbors, EfConstruction: r.cfg.HNSW.EfConstruction,
		EfSearch: r.cfg.HNSW.EfSearch, SyncThreshold: r.cfg.HNSW.SyncThreshold,
	}
	lctx, cancel := r.limit(ctx)
	defer cancel()
	col, st, err := r.client.Create(lctx, c.name, want)
	s := newSample(point, phaseCreate, opCreate)
	ph.Ops, ph.Bytes = 1, int64(st.Sent)
	c.call(r, s, st, err)
	if err != nil {
		ph.Failed = 1
		ph.Message = err.Error()
		c.fail(result.Failed, "create", "the collection could not be created", err.Error())
		return false
	}
	c.col = col
	if col.Name != c.name {
		c.fail(result.Invalid, "create", "the server answered with another collection than the one asked for", col.Name)
		return false
	}
	rows, cs, err := r.count(ctx, col.ID, newSample(point, phaseCreate, opCount))
	c.keep(r, cs, err)
	ph.Ops++
	switch {
	case err != nil:
		ph.Failed++
		c.ours = true
		c.fail(result.Failed, "create", "the records of the new collection could not be counted", err.Error())
		return false
	case rows != 0:
		// Not deleted afterwards either: what is in it is not ours.
		c.fail(result.Invalid, "fresh_collection", "the collection just created is not empty", fmt.Sprintf("%d records", rows))
		return false
	}
	c.ours = true
	if diff := echo(want, col.HNSW); diff != "" {
		c.fail(result.Invalid, "configuration_echo", "the server did not take the configuration asked for", diff)
		return false
	}
	return true
}

// echo names the first setting that came back otherwise than asked.
func echo(want, got chroma.HNSW) string {
	if want.Space != got.Space {
		return fmt.Sprintf("space: asked %s, got %s", want.Space, got.Space)
	}
	for _, f := range []struct {
		name      string
		want, got int
	}{
		{"max_neighbors", want.MaxNeighbors, got.MaxNeighbors},
		{"ef_construction", want.EfConstruction, got.EfConstruction},
		{"ef_search", want.EfSearch, got.EfSearch},
		{"sync_threshold", want.SyncThreshold, got.SyncThreshold},
	} {
		if f.want != 0 && f.want != f.got {
			return fmt.Sprintf("%s: asked %d, got %d", f.name, f.want, f.got)
		}
	}
	return ""
}

func (c *collection) fail(status result.Status, rule, message, evidence string) {
	c.verdict.Add(status, result.Reason{Rule: rule, Severity: result.Serious, Message: message, Evidence: evidence})
}

// drop deletes the collection this run made, also after an interruption.
func (r *runner) drop(ctx context.Context, c *collection, p *result.Point) {
	if !c.ours || r.cfg.KeepCollection || p == nil {
		if c.ours {
			r.warn("collection_kept", "collection %s stays on the server, as asked", c.name)
		}
		return
	}
	r.progress(p.Label, phaseCleanup)
	dctx, cancel := r.after(ctx)
	defer cancel()
	ph := result.Phase{Name: phaseCleanup, StartS: r.since(time.Now()).Seconds(), Ops: 1, Status: "ok"}
	st, err := r.client.Drop(dctx, c.name)
	s := newSample(p.Label, phaseCleanup, opDrop)
	c.call(r, s, st, err)
	ph.EndS = r.since(time.Now()).Seconds()
	if err != nil {
		ph.Failed, ph.Status, ph.Message = 1, "failed", err.Error()
		p.Errors[phaseCleanup+"."+string(chroma.ClassOf(err))]++
		r.warn("cleanup", "collection %s could not be deleted and may still be on the server: %v", c.name, err)
	}
	p.Phases = append(p.Phases, ph)
}

func newSample(point, phase, op string) sample {
	return sample{point: point, phase: phase, op: op, header: -1, tie: nan, id: nan}
}

// fail fills outcome and status from a call's error.
func (s *sample) fail(err error) {
	s.outcome = string(chroma.ClassOf(err))
	s.status = statusOf(err)
}

// lifeless tells whether a failed call met no server at all: only those count
// towards giving up, since a server that refuses is alive.
func lifeless(class string) bool {
	return class == string(chroma.ClassConnection) || class == string(chroma.ClassTimeout)
}

// patience is after how many lifeless calls in a row a load is given up.
func patience(concurrency int) int64 { return int64(5 + 2*concurrency) }

// watch wraps the environment of one load so that its progress carries the
// point, the phase and its own count of failures.
func (r *runner) watch(point, phase string, failed *atomic.Int64) load.Env {
	env := r.env
	if env.Progress == nil {
		return env
	}
	tell := env.Progress
	env.Progress = func(p load.Progress) {
		p.Point, p.Phase, p.Failed = point, phase, failed.Load()
		p.Share = (float64(r.step) + p.Share) / float64(max(r.steps, 1))
		tell(p)
	}
	return env
}

func supports(n int64, q float64) bool { return figure.Supports(n, q) }
func needed(q float64) int64           { return figure.Needed(q) }

// statusOf returns the HTTP status of a failed call, 0 when there was none.
func statusOf(err error) int64 {
	if e := asError(err); e != nil && e.Status != http.StatusOK {
		return int64(e.Status)
	}
	return 0
}
