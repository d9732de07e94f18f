package vector

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"aifbench/pkg/metrics/result"
)

// Recompute makes the result of a run directory again from its raw samples
// alone: the figures that samples can tell, the counts of failures, and the
// rules that follow from both. What no sample holds is absent: the generator's
// own account, disk use, and how well the data tell apart. A record file that
// was cut gives a partial result that says so.
func Recompute(dir string) (result.Result, error) {
	samples, meta, warning, err := readSamples(dir)
	if err != nil {
		return result.Result{}, err
	}
	cfg, err := Decode([]byte(meta["config"]))
	if err != nil {
		return result.Result{}, fmt.Errorf("recompute figures: %w", err)
	}
	var all []facts
	if err := json.Unmarshal([]byte(meta["facts"]), &all); err != nil || len(all) != len(cfg.Vectors) {
		return result.Result{}, fmt.Errorf("recompute figures: the header holds no facts of the %d sizes", len(cfg.Vectors))
	}
	if len(cfg.QueryConcurrency) == 0 {
		return result.Result{}, fmt.Errorf("recompute figures: the configuration in the header has no query_concurrency")
	}
	zero, err := time.Parse(time.RFC3339Nano, meta["zero"])
	if err != nil {
		return result.Result{}, fmt.Errorf("recompute figures: %w", err)
	}
	res := result.Result{
		Kind: Kind, Service: Service, Engine: meta["engine"], Run: meta["run"], Target: meta["target"],
		Config: json.RawMessage(meta["config"]),
	}
	if res.Engine == EngineSim {
		res.Warnings = append(res.Warnings, result.Warning{Code: "sim_engine", Message: simWarning})
	}
	if warning != "" {
		res.Warnings = append(res.Warnings, result.Warning{Code: "records_cut", Message: warning})
	}
	by := map[string][]sample{}
	for _, s := range samples {
		by[s.point] = append(by[s.point], s)
	}
	for i, n := range cfg.Vectors {
		first := label(n, cfg.QueryConcurrency[0])
		for _, conc := range cfg.QueryConcurrency {
			at := label(n, conc)
			if len(by[first]) == 0 || len(by[at]) == 0 {
				continue
			}
			res.Curve = append(res.Curve, rebuild(at, n, conc, by[first], by[at], all[i], zero))
		}
	}
	res.Fold()
	return res, nil
}

// rebuild makes one point from its own samples and those of the first point
// of its collection.
func rebuild(at string, vectors, conc int, first, own []sample, f facts, zero time.Time) result.Point {
	p := result.Point{
		Label: at, Params: map[string]any{"vectors": vectors, "query_concurrency": conc},
		Errors: map[string]int64{}, Verdict: result.Verdict{Status: result.Valid},
	}
	var coll, queries []sample
	for _, s := range first {
		if slices.Contains([]string{phaseCreate, phaseInsert, phaseSettle}, s.phase) {
			coll = append(coll, s)
		}
	}
	measured := false
	for _, s := range own {
		if s.outcome != classOK {
			p.Errors[s.phase+"."+s.outcome]++
		}
		if s.phase != phaseQuery {
			continue
		}
		queries = append(queries, s)
		if s.op == opWindow {
			measured = true
			p.Window = result.Window{Start: zero.Add(s.start), End: zero.Add(s.end), DurationS: (s.end - s.start).Seconds()}
		}
	}
	var batches, failed, acked int64
	rows := int64(-1)
	for _, s := range coll {
		switch {
		case s.op == opAdd && s.outcome == classOK:
			batches++
			acked += s.n
		case s.op == opAdd:
			failed++
		case s.op == opCount && s.phase == phaseInsert && s.outcome == classOK:
			rows = s.n
		}
	}
	share(&p.Verdict, "insert_errors", "batches", batches+failed, failed, p.Errors, phaseInsert)
	if rows >= 0 {
		judgeRows(&p.Verdict, acked, rows)
	}
	judgeQueries(&p.Verdict, queries, p.Errors)
	if !measured {
		p.Verdict.Add(result.Truncated, result.Reason{
			Rule: "records_incomplete", Severity: result.Serious,
			Message: "the record file ends before the query window of this point did", Evidence: fmt.Sprintf("%d samples", len(own)),
		})
	}
	p.Figures = derive(coll, queries, f)
	return p
}
