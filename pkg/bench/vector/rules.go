package vector

import (
	"fmt"
	"slices"
	"strings"

	"aifbench/pkg/metrics/result"
)

// maxErrorShare is the share of failures from which figures are invalid.
const maxErrorShare = 0.01

// share adds the rule of failures to v.
func share(v *result.Verdict, rule, what string, all, failed int64, errs map[string]int64, phase string) {
	if all == 0 || failed == 0 {
		return
	}
	why := result.Reason{Rule: rule, Severity: result.Serious, Evidence: classes(errs, phase)}
	switch {
	case failed == all:
		why.Message = "all " + what + " failed"
		v.Add(result.Failed, why)
	case float64(failed) > maxErrorShare*float64(all):
		why.Message = fmt.Sprintf("%d of %d %s failed, more than %g %%", failed, all, what, 100*maxErrorShare)
		v.Add(result.Invalid, why)
	default:
		why.Severity = result.Warn
		why.Message = fmt.Sprintf("%d of %d %s failed, not more than %g %%", failed, all, what, 100*maxErrorShare)
		v.Add(result.Valid, why)
	}
}

// judgeQueries adds the rules that samples alone decide about a query phase.
func judgeQueries(v *result.Verdict, samples []sample, errs map[string]int64) (ok, failed int64) {
	var invented int64
	for i := range samples {
		s := &samples[i]
		switch {
		case s.op != opQuery || s.phase != phaseQuery:
		case s.outcome == classOK:
			ok++
		default:
			failed++
			if s.outcome == WrongUnknownID || s.outcome == WrongDuplicate || s.outcome == WrongDistance {
				invented++
			}
		}
	}
	share(v, "query_errors", "queries", ok+failed, failed, errs, phaseQuery)
	if invented > 0 {
		v.Add(result.Invalid, result.Reason{
			Rule: "invented_answers", Severity: result.Serious, Evidence: fmt.Sprintf("%d of %d answers", invented, ok+failed),
			Message: "the server answered with ids or distances that do not belong to the stored vectors",
		})
	}
	return ok, failed
}

// judgeRows compares what was acknowledged with what the server counts.
func judgeRows(v *result.Verdict, acked, rows int64) {
	why := result.Reason{Rule: "rows", Severity: result.Serious, Evidence: fmt.Sprintf("%d acknowledged, %d counted", acked, rows)}
	switch {
	case rows < acked:
		why.Message = "the server acknowledged vectors that it does not hold"
	case rows > acked:
		why.Message = "the collection holds more vectors than were acknowledged: batches that failed were stored, or another client writes"
	default:
		return
	}
	v.Add(result.Invalid, why)
}

// classes lists the failures of one phase, most frequent first.
func classes(errs map[string]int64, phase string) string {
	var names []string
	for name := range errs {
		if strings.HasPrefix(name, phase+".") {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		if errs[a] != errs[b] {
			return int(errs[b] - errs[a])
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %d", strings.TrimPrefix(name, phase+"."), errs[name])
	}
	return strings.Join(parts, ", ")
}
