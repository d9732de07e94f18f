package vector

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/quantile"
)

// facts are what the figures of a point depend on besides its samples; they
// travel in the header of the record file.
type facts struct {
	// Vectors is how many the collection must hold.
	Vectors int `json:"vectors"`
	// Refused is why recall is not reported, "" when it is.
	Refused string `json:"recall_refused,omitempty"`
	// Tied holds the queries whose k-th place is tied.
	Tied []int `json:"tied_queries,omitempty"`
}

// derive computes the figures of one point from its samples: its own query
// phase and the create and insert phases of its collection, which several
// points may share.
func derive(collection, queries []sample, f facts) figure.Set {
	set := figure.Set{}
	slices.SortStableFunc(queries, func(a, b sample) int { return cmp.Compare(a.start, b.start) })
	rows := deriveCollection(set, collection)
	if f.Refused == "" && rows != int64(f.Vectors) {
		f.Refused = fmt.Sprintf("the exact neighbours are those of %d vectors, the collection holds %s", f.Vectors, counted(rows))
	}
	deriveQueries(set, queries)
	deriveRecall(set, queries, f)
	return set
}

func counted(rows int64) string {
	if rows < 0 {
		return "an unknown number"
	}
	return strconv.FormatInt(rows, 10)
}

// deriveCollection returns the server's count of records, -1 when there is none.
func deriveCollection(set figure.Set, samples []sample) int64 {
	var service []float64
	var acked, batches, failed, sent int64
	rows := int64(-1)
	var window *sample
	set.PutNull("create_ms", "the collection was not created", 0)
	for i := range samples {
		s := &samples[i]
		ok := s.outcome == classOK
		switch {
		case s.op == opCreate && ok:
			set.Put("create_ms", ms(s.end-s.start), 1, "one call")
		case s.op == opWindow && s.phase == phaseInsert:
			window = s
		case s.op == opCount && s.phase == phaseInsert && ok:
			rows = s.n
		case s.op == opAdd && ok:
			service = append(service, ms(s.end-s.start))
			acked += s.n
			batches++
			sent += s.sent
		case s.op == opAdd:
			failed++
		}
	}
	if batches+failed > 0 {
		set.Put("insert_failed_count", float64(failed), batches+failed, "count")
	} else {
		set.PutNull("insert_failed_count", "no batch was sent", 0)
	}
	if rows >= 0 {
		set.Put("rows_count", float64(rows), 1, "GET count after the insert phase")
	} else {
		set.PutNull("rows_count", "the server did not count its records", 0)
	}
	reason := ""
	switch {
	case batches == 0:
		reason = "no batch was acknowledged"
	case window == nil || window.end <= window.start:
		reason = "the insert phase has no window"
	case rows < 0:
		reason = "what was acknowledged could not be verified: the server did not count its records"
	case rows < acked:
		reason = fmt.Sprintf("the server acknowledged %d vectors and counts %d", acked, rows)
	}
	rates := []struct {
		name  string
		value float64
	}{{"insert_vectors_per_s", float64(acked)}, {"insert_per_s", float64(batches)}, {"insert_mb_per_s", float64(sent) / 1e6}}
	for _, r := range rates {
		if reason != "" {
			set.PutNull(r.name, reason, batches)
			continue
		}
		set.Put(r.name, r.value/(window.end-window.start).Seconds(), batches, "acknowledged batches over the insert window, verified by the server's count")
	}
	figure.PutQuantiles(set, "insert", "ms", quantile.Of(service), 1, 0.5, 0.95, 0.99)
	return rows
}

func deriveQueries(set figure.Set, samples []sample) {
	var service, response []float64
	var ok, failed, inWindow, bytes, refused, wrong int64
	var window *sample
	for i := range samples {
		if s := &samples[i]; s.op == opWindow && s.phase == phaseQuery {
			window = s
		}
	}
	for i := range samples {
		s := &samples[i]
		if s.phase != phaseQuery || s.op != opQuery {
			continue
		}
		if s.outcome != classOK {
			failed++
			if s.outcome == "refused_429" {
				refused++
			}
			if isWrong(s.outcome) {
				wrong++
			}
			continue
		}
		ok++
		service = append(service, ms(s.end-s.start))
		response = append(response, ms(s.end-s.intended))
		if window != nil && s.end <= window.end {
			inWindow++
			bytes += s.sent + s.got
		}
	}
	all := ok + failed
	for name, v := range map[string]int64{
		"operations_ok_count": ok, "operations_failed_count": failed,
		"query_refused_count": refused, "query_wrong_count": wrong,
	} {
		if all == 0 {
			set.PutNull(name, "no query was sent", 0)
			continue
		}
		set.Put(name, float64(v), all, "count over the query phase")
	}
	figure.PutRatio(set, "error_ratio", failed, all, quantile.Wilson)
	switch {
	case ok == 0:
		set.PutNull("query_per_s", "no answer was validated", all)
		set.PutNull("query_mb_per_s", "no answer was validated", all)
	case window == nil || window.end <= window.start:
		set.PutNull("query_per_s", "the query phase has no window", all)
		set.PutNull("query_mb_per_s", "the query phase has no window", all)
	default:
		const how = "validated answers that ended in the query window over its length"
		length := (window.end - window.start).Seconds()
		set.Put("query_per_s", float64(inWindow)/length, inWindow, how)
		set.Put("query_mb_per_s", float64(bytes)/1e6/length, inWindow, how)
	}
	figure.PutQuantiles(set, "query", "ms", quantile.Of(service), 1, 0.5, 0.95, 0.99)
	figure.PutQuantiles(set, "query_response", "ms", quantile.Of(response), 1, 0.5, 0.95, 0.99)
}

func deriveRecall(set figure.Set, samples []sample, f facts) {
	type mean struct {
		tie, id float64
		n       int
	}
	by := map[int64]*mean{}
	for i := range samples {
		s := &samples[i]
		if s.phase != phaseQuery || s.op != opQuery || s.outcome != classOK || math.IsNaN(s.tie) {
			continue
		}
		m := by[s.item]
		if m == nil {
			m = &mean{}
			by[s.item] = m
		}
		m.tie += s.tie
		m.id += s.id
		m.n++
	}
	ties, ids := make([]float64, 0, len(by)), make([]float64, 0, len(by))
	for _, m := range by {
		ties = append(ties, m.tie/float64(m.n))
		ids = append(ids, m.id/float64(m.n))
	}
	reason := f.Refused
	if reason == "" && len(by) == 0 {
		reason = "no validated answer"
	}
	putRecall(set, "recall", ties, reason)
	putRecall(set, "recall_id", ids, reason)
	if reason != "" {
		set.PutNull("recall_tied_count", reason, 0)
		return
	}
	tied := 0
	for _, q := range f.Tied {
		if by[int64(q)] != nil {
			tied++
		}
	}
	set.Put("recall_tied_count", float64(tied), int64(len(by)), "count")
}

func putRecall(set figure.Set, prefix string, values []float64, reason string) {
	if reason != "" {
		for _, name := range []string{"_mean_ratio", "_p10_ratio", "_min_ratio", "_zero_count"} {
			set.PutNull(prefix+name, reason, int64(len(values)))
		}
		return
	}
	d := quantile.Of(values)
	set.Put(prefix+"_mean_ratio", d.Mean(), d.N(), "mean over distinct queries")
	if lo, hi, ok := d.MeanCI(); ok && lo < hi { // equal values would promise certainty
		// Queries are drawn independently of each other, so a t interval holds.
		set.WithCI(prefix+"_mean_ratio", max(lo, 0), min(hi, 1))
	}
	// The tenth percentile needs ten samples below it as p90 needs ten above.
	if figure.Supports(d.N(), 0.9) {
		set.Put(prefix+"_p10_ratio", d.Quantile(0.1), d.N(), d.How())
	} else {
		set.PutNull(prefix+"_p10_ratio", fmt.Sprintf("%d distinct queries, quantile 0.1 needs %d", d.N(), figure.Needed(0.9)), d.N())
	}
	set.Put(prefix+"_min_ratio", d.Min(), d.N(), "smallest over distinct queries")
	zero := 0
	for _, v := range values {
		if v == 0 {
			zero++
		}
	}
	set.Put(prefix+"_zero_count", float64(zero), d.N(), "count")
}

func isWrong(class string) bool {
	return slices.Contains([]string{WrongRows, WrongUnknownID, WrongDuplicate, WrongCount, WrongOrder, WrongDistance}, class)
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }
