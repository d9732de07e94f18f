package vector

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/vector/chroma"
	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
)

// query runs the warm and the query phase of one point and returns the
// samples of the latter.
func (r *runner) query(ctx context.Context, c *collection, p *result.Point, concurrency int) []sample {
	warm := load.Plan{
		Schedule: load.ClosedLoop{Concurrency: concurrency},
		// One call a worker opens its connection even where no time is given.
		Window:            load.Bound{Count: int64(concurrency)},
		StopAfterFailures: patience(concurrency),
	}
	if r.cfg.WarmUpS > 0 {
		warm.Window = load.Bound{Duration: seconds(r.cfg.WarmUpS)}
	}
	r.drive(ctx, c, p, phaseWarm, warm)
	if ctx.Err() != nil {
		r.interrupted(ctx, &p.Verdict, phaseWarm)
		return nil
	}
	plan := load.Plan{
		Schedule:          load.ClosedLoop{Concurrency: concurrency},
		Window:            load.Bound{Count: int64(r.cfg.Queries)},
		MaxInFlight:       concurrency,
		StopAfterFailures: patience(concurrency),
	}
	if r.cfg.DurationS > 0 {
		plan.Window = load.Bound{Duration: seconds(r.cfg.DurationS)}
	}
	switch {
	case r.cfg.RatePerS > 0 && r.cfg.Arrival == "poisson":
		plan.Schedule = load.Poisson{Rate: r.cfg.RatePerS, Seed: r.cfg.Data.Seed}
	case r.cfg.RatePerS > 0:
		plan.Schedule = load.Constant{Rate: r.cfg.RatePerS}
	}
	samples, out, ok := r.drive(ctx, c, p, phaseQuery, plan)
	if !ok {
		return samples
	}
	p.Window = result.Window{
		Start: out.Zero.Add(out.Start), End: out.Zero.Add(out.End), DurationS: (out.End - out.Start).Seconds(),
	}
	p.Figures = figure.Set{}
	out.Account.Put(p.Figures)
	r.judgePoint(ctx, c, p, samples, out)
	return samples
}

// drive runs one load of queries as a phase.
func (r *runner) drive(ctx context.Context, c *collection, p *result.Point, phase string, plan load.Plan) ([]sample, load.Outcome, bool) {
	r.progress(p.Label, phase)
	ph := result.Phase{Name: phase, StartS: r.since(time.Now()).Seconds()}
	target := r.client.QueryURL(c.col.ID)
	timeout := seconds(r.cfg.RequestTimeoutS)
	var failed atomic.Int64
	var recs []*recorder
	truth := r.truths[c.index]
	if c.rows != int64(c.n) {
		truth = nil // the exact neighbours are those of all vectors
	}
	out, err := load.Run(ctx, plan, r.watch(p.Label, phase, &failed), func(int) load.Do {
		rec := &recorder{}
		recs = append(recs, rec)
		var buf chroma.Buffer
		var answer chroma.Answer
		j := &judge{base: r.base.Head(c.n), queries: r.queries, truth: truth, metric: r.cfg.Metric, prefix: c.prefix, k: r.cfg.K, stored: c.rows}
		return func(ctx context.Context, clock load.Clock, op load.Op) bool {
			q := int(op.Index % int64(len(r.bodies)))
			octx, cancel := context.WithTimeout(ctx, timeout)
			st, err := r.client.Query(octx, target, r.bodies[q], &buf, &answer)
			cancel()
			s := newSample(p.Label, phase, opQuery)
			s.item = int64(q)
			s.stamp(r, clock, op, st)
			s.fail(err)
			if err == nil {
				v := j.answer(q, &answer)
				s.outcome, s.tie, s.id = v.class, v.tie, v.id
				s.n = int64(len(v.rows))
				s.rows, s.distances = integers(v.rows), distanceBits(&answer)
			}
			r.put(&s)
			s.rows, s.distances = nil, nil
			rec.samples = append(rec.samples, s)
			if s.outcome != classOK {
				failed.Add(1)
				rec.note(s.outcome, err)
			}
			return !lifeless(s.outcome)
		}
	})
	ph.EndS = r.since(time.Now()).Seconds()
	if err != nil {
		ph.Status, ph.Message = "failed", err.Error()
		p.Phases = append(p.Phases, ph)
		p.Verdict.Add(result.Failed, result.Reason{Rule: phase, Severity: result.Serious, Message: "the query load could not be run", Evidence: err.Error()})
		return nil, out, false
	}
	var samples []sample
	for _, rec := range recs {
		for i := range rec.samples {
			s := &rec.samples[i]
			ph.Ops++
			ph.Bytes += s.sent + s.got
			if s.outcome == classOK {
				ph.Verified++
				continue
			}
			ph.Failed++
			p.Errors[phase+"."+s.outcome]++
		}
		samples = append(samples, rec.samples...)
		for class, text := range rec.first {
			if _, seen := p.Notes["first_"+phase+"."+class]; !seen {
				p.Notes["first_"+phase+"."+class] = text
			}
		}
	}
	w := r.windowSample(p.Label, phase, out)
	r.put(&w)
	samples = append(samples, w)
	switch {
	case errors.Is(out.Stopped, load.ErrFailing):
		ph.Status, ph.Message = "failed", "given up: the server stopped answering"
	case out.Stopped != nil:
		ph.Status = "interrupted"
	default:
		ph.Status = "ok"
	}
	p.Phases = append(p.Phases, ph)
	return samples, out, true
}

// judgePoint adds the rules that speak about a query phase.
func (r *runner) judgePoint(ctx context.Context, c *collection, p *result.Point, samples []sample, out load.Outcome) {
	var answers result.Verdict
	ok, failed := judgeQueries(&answers, samples, p.Errors)
	switch {
	case errors.Is(out.Stopped, load.ErrFailing):
		p.Verdict.Add(result.Failed, result.Reason{
			Rule: "server_lost", Severity: result.Serious, Message: "the server stopped answering during the query phase",
			Evidence: fmt.Sprintf("%d answers, %d failures, the last ones in a row", ok, failed),
		})
	case out.Stopped != nil:
		r.interrupted(ctx, &p.Verdict, phaseQuery)
	case ok+failed == 0:
		p.Verdict.Add(result.Failed, result.Reason{Rule: "no_queries", Severity: result.Serious, Message: "no query was sent in the window", Evidence: out.Account.Schedule})
	}
	for _, why := range answers.Reasons {
		p.Verdict.Add(answers.Status, why)
	}
	out.Account.Judge(&p.Verdict)
	if ctx.Err() != nil || errors.Is(out.Stopped, load.ErrFailing) {
		return
	}
	rows, s, err := r.count(ctx, c.col.ID, newSample(p.Label, phaseQuery, opCount))
	r.put(&s)
	switch {
	case err != nil:
		p.Errors[phaseQuery+"."+s.outcome]++
		p.Verdict.Add(result.Invalid, result.Reason{Rule: "rows", Severity: result.Serious, Message: "the server did not count its records after the queries", Evidence: err.Error()})
	case rows != c.rows:
		p.Verdict.Add(result.Invalid, result.Reason{Rule: "rows", Severity: result.Serious, Message: "the number of records changed during the queries", Evidence: fmt.Sprintf("%d, then %d", c.rows, rows)})
	}
}

func integers(rows []int32) []int64 {
	out := make([]int64, len(rows))
	for i, r := range rows {
		out[i] = int64(r)
	}
	return out
}

func distanceBits(a *chroma.Answer) []int64 {
	if a.Rows() != 1 || a.Distances(0) == nil {
		return nil
	}
	dist := a.Distances(0)
	out := make([]int64, len(dist))
	for i, d := range dist {
		out[i] = int64(math.Float32bits(float32(d)))
	}
	return out
}
