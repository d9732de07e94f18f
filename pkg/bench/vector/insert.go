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
	"aifbench/pkg/bench/vector/exact"
	"aifbench/pkg/metrics/result"
)

var nan = math.NaN()

func asError(err error) *chroma.Error {
	var e *chroma.Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// recorder is one worker's own samples and the first message of each class.
type recorder struct {
	samples []sample
	first   map[string]string
}

func (rec *recorder) note(class string, err error) {
	if err == nil {
		return
	}
	if rec.first == nil {
		rec.first = map[string]string{}
	}
	if _, seen := rec.first[class]; !seen {
		rec.first[class] = err.Error()
	}
}

// insert sends every vector once, in batches, without repeating one that
// failed: a repeat would hide the failure and blur the rate.
func (r *runner) insert(ctx context.Context, c *collection, point string, ph *result.Phase) bool {
	batches := (c.n + r.cfg.BatchSize - 1) / r.cfg.BatchSize
	target := r.client.AddURL(c.col.ID)
	timeout := seconds(r.cfg.RequestTimeoutS)
	var failed atomic.Int64
	var recs []*recorder
	plan := load.Plan{
		Schedule: load.ClosedLoop{Concurrency: min(r.cfg.InsertConcurrency, batches)},
		Window:   load.Bound{Count: int64(batches)}, StopAfterFailures: patience(r.cfg.InsertConcurrency),
	}
	out, err := load.Run(ctx, plan, r.watch(point, phaseInsert, &failed), func(int) load.Do {
		rec := &recorder{}
		recs = append(recs, rec)
		var buf chroma.Buffer
		var body []byte
		return func(ctx context.Context, clock load.Clock, op load.Op) bool {
			lo := int(op.Index) * r.cfg.BatchSize
			hi := min(lo+r.cfg.BatchSize, c.n)
			var err error
			body, err = chroma.AppendAdd(body[:0], r.base.Flat[lo*r.base.Dim:hi*r.base.Dim], r.base.Dim, r.cfg.Encoding,
				func(dst []byte, i int) []byte { return appendID(dst, c.prefix, lo+i) })
			var st chroma.Stamp
			if err == nil {
				octx, cancel := context.WithTimeout(ctx, timeout)
				st, err = r.client.Add(octx, target, body, &buf)
				cancel()
			}
			s := newSample(point, phaseInsert, opAdd)
			s.item, s.n = op.Index, int64(hi-lo)
			s.stamp(r, clock, op, st)
			s.fail(err)
			rec.samples = append(rec.samples, s)
			r.put(&s)
			if err != nil {
				failed.Add(1)
				rec.note(s.outcome, err)
			}
			return !lifeless(s.outcome)
		}
	})
	if err != nil {
		c.fail(result.Failed, "insert", "the insert load could not be run", err.Error())
		return false
	}
	var acked int64
	for _, rec := range recs {
		for _, s := range rec.samples {
			ph.Ops++
			if s.outcome == classOK {
				acked += s.n
				ph.Bytes += s.sent
				continue
			}
			ph.Failed++
			c.errors[phaseInsert+"."+s.outcome]++
		}
		c.samples = append(c.samples, rec.samples...)
		for class, text := range rec.first {
			if _, seen := c.first[phaseInsert+"."+class]; !seen {
				c.first[phaseInsert+"."+class] = text
			}
		}
	}
	r.window(c, point, phaseInsert, out)
	return r.verify(ctx, c, point, ph, out, acked, int64(batches))
}

// window keeps the measured interval of a load as a sample.
func (r *runner) window(c *collection, point, phase string, out load.Outcome) {
	s := r.windowSample(point, phase, out)
	c.samples = append(c.samples, s)
	r.put(&s)
}

func (r *runner) windowSample(point, phase string, out load.Outcome) sample {
	s := newSample(point, phase, opWindow)
	zero := r.since(out.Zero)
	s.intended, s.start, s.end, s.n, s.outcome = zero, zero+out.Start, zero+out.End, out.Sent, classOK
	return s
}

// verify compares what was acknowledged with what the server counts.
func (r *runner) verify(ctx context.Context, c *collection, point string, ph *result.Phase, out load.Outcome, acked, batches int64) bool {
	vctx, cancel := r.after(ctx) // a partial result deserves its count too
	defer cancel()
	rows, s, err := r.count(vctx, c.col.ID, newSample(point, phaseInsert, opCount))
	c.keep(r, s, err)
	if err == nil {
		c.rows, ph.Verified = rows, rows
	}
	if dir := r.cfg.Target.PersistDir; dir != "" && c.diskErr == nil {
		c.after, c.diskErr = readLedger(dir)
	}
	if errors.Is(out.Stopped, load.ErrFailing) {
		ph.Message = "given up: the server stopped answering"
		c.fail(result.Failed, "server_lost", "the server stopped answering during the insert phase",
			fmt.Sprintf("%d of %d batches sent, %d failed, the last ones in a row", ph.Ops, batches, ph.Failed))
		return false
	}
	if ctx.Err() != nil {
		return false
	}
	share(&c.verdict, "insert_errors", "batches", ph.Ops, ph.Failed, c.errors, phaseInsert)
	if err != nil {
		c.fail(result.Failed, "rows", "the server did not count its records after the insert phase", err.Error())
		return false
	}
	judgeRows(&c.verdict, acked, rows)
	return acked > 0
}

// stamp fills the times of a sample of a load.
func (s *sample) stamp(r *runner, clock load.Clock, op load.Op, st chroma.Stamp) {
	s.intended = r.since(clock.Zero().Add(op.Intended))
	now := time.Now()
	if st.Start.IsZero() {
		st.Start = now
	}
	if st.End.IsZero() {
		st.End = now
	}
	s.start, s.end = r.since(st.Start), r.since(st.End)
	if !st.Header.IsZero() {
		s.header = r.since(st.Header)
	}
	s.sent, s.got = int64(st.Sent), int64(st.Got)
}

// settle waits, counts once more and reads back a few vectors.
func (r *runner) settle(ctx context.Context, c *collection, point string, ph *result.Phase) bool {
	if r.cfg.SettleS > 0 {
		t := time.NewTimer(seconds(r.cfg.SettleS))
		defer t.Stop()
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
		}
	}
	rows, s, err := r.count(ctx, c.col.ID, newSample(point, phaseSettle, opCount))
	c.keep(r, s, err)
	ph.Ops = 1
	if err != nil {
		ph.Failed = 1
		c.fail(result.Failed, "rows", "the server did not count its records before the queries", err.Error())
		return false
	}
	if rows != c.rows {
		c.fail(result.Invalid, "rows", "the number of records changed though nothing was written", fmt.Sprintf("%d, then %d", c.rows, rows))
		c.rows = rows
	}
	if rows != int64(c.n) {
		return true // which vectors are missing is not known: nothing to compare
	}
	return r.readBack(ctx, c, ph)
}

// readBack compares stored vectors with those sent: bit for bit, but for the
// cosine metric up to a scale, since the server normalises.
func (r *runner) readBack(ctx context.Context, c *collection, ph *result.Phase) bool {
	const most = 16
	var ids []string
	var rows []int
	for i := range min(most, c.n) {
		row := i * c.n / min(most, c.n)
		rows = append(rows, row)
		ids = append(ids, string(appendID(nil, c.prefix, row)))
	}
	lctx, cancel := r.limit(ctx)
	defer cancel()
	got, err := r.client.Vectors(lctx, c.col.ID, ids)
	ph.Ops++
	if err != nil {
		ph.Failed++
		c.errors[phaseSettle+"."+string(chroma.ClassOf(err))]++
		c.fail(result.Invalid, "read_back", "stored vectors could not be read back", err.Error())
		return ctx.Err() == nil
	}
	for i, id := range ids {
		if !r.sameVector(r.base.Row(rows[i]), got[id]) {
			c.fail(result.Invalid, "read_back", "a stored vector is not the one that was sent", fmt.Sprintf("row %d of %d", rows[i], c.n))
			return true
		}
		ph.Verified++
	}
	return true
}

func (r *runner) sameVector(sent, got []float32) bool {
	if len(sent) != len(got) {
		return false
	}
	if r.cfg.Metric == exact.Cosine {
		return math.Abs(exact.Distance(exact.Cosine, sent, got)) <= exact.Tolerance(exact.Cosine, sent, got, 0)
	}
	for i := range sent {
		if math.Float32bits(sent[i]) != math.Float32bits(got[i]) && sent[i] != got[i] {
			return false
		}
	}
	return true
}
