package llm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"aifbench/pkg/bench/load"
	"aifbench/pkg/bench/record"
	"aifbench/pkg/metrics/result"
)

// mark of a point as read back.
type marked struct {
	zero       time.Time
	start, end time.Duration
	stopped    string
	account    load.Account
}

// Recompute makes the result of a run directory again from its record files
// alone. Run itself ends with it, so the two are equal byte for byte. A record
// file that was cut gives a partial result that says so.
func Recompute(dir string) (result.Result, error) {
	rows, err := record.Open(record.Path(dir, recordKind))
	if err != nil {
		return result.Result{}, err
	}
	defer rows.Close()
	if _, err := rows.Header().Require(columns...); err != nil {
		return result.Result{}, err
	}
	if len(rows.Header().Columns) != len(columns) {
		return result.Result{}, fmt.Errorf("read records.llm: %d columns, want %d", len(rows.Header().Columns), len(columns))
	}
	m, err := decodeMeta(rows.Header().Meta)
	if err != nil {
		return result.Result{}, err
	}
	cfg, err := DecodeConfig(m.config)
	if err != nil {
		return result.Result{}, err
	}
	marks, warnings, err := readMarks(dir)
	if err != nil {
		return result.Result{}, err
	}
	points := cfg.points()
	tallies := make([]*tally, len(points))
	for i := range points {
		tallies[i] = newTally(marks[i])
	}
	var s sample
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return result.Result{}, err
		}
		s.read(row)
		if s.point < 0 || s.point >= int64(len(points)) {
			return result.Result{}, fmt.Errorf("read records.llm: point %d of %d", s.point, len(points))
		}
		tallies[s.point].add(&s)
	}
	if w := rows.Warning(); w != "" {
		warnings = append(warnings, result.Warning{Code: "records_cut", Message: w})
	}
	r := m.result()
	r.Warnings = append(r.Warnings, warnings...)
	last := result.Status("")
	for i, p := range points {
		if tallies[i].rows == 0 && marks[i] == nil {
			continue // never begun
		}
		pt := tallies[i].point(p, cfg, m, marks[i])
		last = pt.Verdict.Status
		r.Curve = append(r.Curve, pt)
	}
	judgeRun(&r, cfg, m, len(points), last)
	r.Fold()
	return r, nil
}

// judgeRun adds what concerns the run and no single point.
func judgeRun(r *result.Result, cfg Config, m meta, points int, last result.Status) {
	if missing := points - len(r.Curve); missing > 0 {
		status := result.Interrupted
		if last == result.Truncated {
			status = result.Truncated
		}
		r.Verdict.Add(status, result.Reason{
			Rule: "points_missing", Severity: result.Serious, Message: "the run ended before every point was measured",
			Evidence: fmt.Sprintf("%d of %d points were not begun", missing, points),
		})
	}
	if cfg.Structured != "" && m.server.Canary == "ignored" {
		r.Verdict.Add(result.Invalid, result.Reason{
			Rule: "constraint_ignored", Severity: result.Serious, Message: "the server accepts structured_outputs and does not follow it",
			Evidence: "an answer that only the constraint could give did not come (kind " + cfg.Structured + ")",
		})
	}
}

// readMarks reads the file of points; points that are missing there were cut.
func readMarks(dir string) (map[int]*marked, []result.Warning, error) {
	out := map[int]*marked{}
	r, err := record.Open(record.Path(dir, pointsKind))
	if err != nil {
		return nil, nil, err
	}
	defer r.Close()
	if _, err := r.Header().Require(pointColumns...); err != nil {
		return nil, nil, err
	}
	if len(r.Header().Columns) != len(pointColumns) {
		return nil, nil, fmt.Errorf("read records.llm_points: %d columns, want %d", len(r.Header().Columns), len(pointColumns))
	}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, nil, err
		}
		m := &marked{zero: time.Unix(0, row[1].Int).UTC(), start: time.Duration(row[2].Int), end: time.Duration(row[3].Int), stopped: row[4].Str}
		if err := json.Unmarshal([]byte(row[6].Str), &m.account); err != nil {
			return nil, nil, fmt.Errorf("read records.llm_points: account: %w", err)
		}
		out[int(row[0].Int)] = m
	}
	var warnings []result.Warning
	if w := r.Warning(); w != "" {
		warnings = append(warnings, result.Warning{Code: "records_cut", Message: w})
	}
	return out, warnings, nil
}
