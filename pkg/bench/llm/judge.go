package llm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"aifbench/pkg/metrics/result"
)

// judge applies the rules of a point. The server's failures come before the
// generator's limits, and warnings last.
func (t *tally) judge(v *result.Verdict, cfg Config, m meta, mk *marked) {
	v.Status = result.Valid
	serious := func(s result.Status, rule, message, evidence string) {
		v.Add(s, result.Reason{Rule: rule, Severity: result.Serious, Message: message, Evidence: evidence})
	}
	warn := func(rule, message, evidence string) {
		v.Add(result.Valid, result.Reason{Rule: rule, Severity: result.Warn, Message: message, Evidence: evidence})
	}
	stopped := ""
	switch {
	case mk == nil:
		serious(result.Interrupted, "records_cut", "the generator ended in the middle of this point", "the point has no end mark in records.llm_points")
	case mk.stopped == stopInterrupt:
		stopped = mk.stopped
		serious(result.Interrupted, "interrupted", "the run was interrupted: figures are of what was measured until then", fmt.Sprintf("%d requests sent", t.sent))
	case mk.stopped == stopTruncated:
		stopped = mk.stopped
		serious(result.Truncated, "time_limit", "the time limit ended the run: figures are of what was measured until then", fmt.Sprintf("%d requests sent", t.sent))
	case mk.stopped == stopFailing:
		serious(result.Failed, "server_failing", "requests failed one after the other, so the load was ended", t.evidence())
	}
	// Requests that our own end cut are not the server's failures.
	failed := t.failed
	if stopped != "" || mk == nil {
		failed -= t.errors[classUnfinished]
	}
	switch {
	case t.sent == 0:
		if stopped == "" && mk != nil {
			serious(result.Failed, "nothing_sent", "no request was sent in the window", fmt.Sprintf("%d requests in the warm-up; %s", t.rows, t.evidence()))
		}
	case t.ok == 0 && failed > 0:
		serious(result.Failed, "all_failed", "every request failed", t.evidence())
	case failed > 0 && float64(failed) > cfg.MaxErrorRatio*float64(t.sent):
		serious(result.Invalid, "error_ratio", fmt.Sprintf("more than %g %% of the requests failed, so the figures are of the lucky ones", 100*cfg.MaxErrorRatio), t.evidence())
	case failed > 0:
		warn("some_failed", "some requests failed", t.evidence())
	}
	if mk != nil {
		mk.account.Judge(v)
	}
	t.warnings(cfg, m, warn)
}

// warnings are findings that leave the status alone.
func (t *tally) warnings(cfg Config, m meta, warn func(rule, message, evidence string)) {
	if t.mismatch > 0 {
		warn("token_reconciliation", "events and the server's usage do not give the same number of tokens: gaps are between events, not tokens",
			fmt.Sprintf("%d of %d requests differ; %s", t.mismatch, t.compared, t.countedHow()))
	}
	if t.countedBy[byChunks] > 0 {
		warn("counted_by_events", "the server tells no usage, so events with text were counted for tokens", t.countedHow())
	}
	if t.wrongPrompt > 0 && m.server.Dialect.IDs {
		warn("prompt_length", "the server counted other prompt lengths than were sent",
			fmt.Sprintf("%d of %d requests differ from %d tokens", t.wrongPrompt, t.ok, cfg.InputLen))
	}
	if t.short > 0 {
		warn("output_clamped", "answers ended by length before the length asked for: the server clamps max_tokens",
			fmt.Sprintf("%d of %d requests", t.short, t.ok))
	}
	if t.cutByLength > 0 {
		warn("structured_truncated", "constrained answers were cut by their length: they count as neither finished nor valid",
			fmt.Sprintf("%d of %d at %d tokens", t.cutByLength, t.judged, cfg.OutputLen))
	}
	if t.judged > 0 && t.finished > t.valid {
		warn("structured_invalid", "constrained answers finished without following the constraint",
			fmt.Sprintf("%d finished, %d parse, %d are valid of %d", t.finished, t.parses, t.valid, t.judged))
	}
}

// evidence lists classes of failures with counts and one message each.
func (t *tally) evidence() string {
	errs, head := t.errors, fmt.Sprintf("%d of %d requests failed", t.failed, t.sent)
	if t.sent == 0 && t.warmFailed > 0 {
		errs, head = t.warmErrors, fmt.Sprintf("%d of %d requests of the warm-up failed", t.warmFailed, t.rows)
	}
	classes := make([]string, 0, len(errs))
	for c := range errs {
		classes = append(classes, c)
	}
	slices.SortFunc(classes, func(a, b string) int {
		if c := cmp.Compare(errs[b], errs[a]); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	parts := []string{head}
	for _, c := range classes {
		part := fmt.Sprintf("%s: %d", c, errs[c])
		if msg := t.example[c]; msg != "" {
			part += " (" + msg + ")"
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "; ")
}
