package llm

import (
	"fmt"
	"math"
	"time"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/quantile"
	"aifbench/pkg/metrics/result"
)

// quantiles of every latency.
var quantiles = []float64{0.5, 0.95, 0.99}

// rawGaps is how many gaps are kept as they are; more go into a histogram, so
// that memory stays flat.
const rawGaps = 1 << 20

// tally adds up the samples of one point. Latencies are of good requests sent
// in the window; rates count what arrived in the window, whoever sent it when.
type tally struct {
	start, end time.Duration // the window
	open       bool          // its end is not known: the file was cut

	rows, sent, ok, failed   int64
	errors, warmErrors       map[string]int64
	warmFailed               int64
	example                  map[string]string
	ttft, tpot, e2e          []float64 // s
	ttftResponse, e2eRespone []float64
	gaps                     []float64
	gapHist                  *quantile.Histogram
	gapCount                 int64

	windowTokens, windowPrompt, windowDone int64
	output, prompt                         int64 // of good requests sent in the window
	promptKnown                            bool
	chunks, short, wrongPrompt             int64
	countedBy                              map[string]int64
	mismatch, compared                     int64
	finished, parses, valid, judged        int64
	cutByLength                            int64
	lastSeen                               time.Duration
	firstSeen                              time.Duration
}

func newTally(m *marked) *tally {
	t := &tally{errors: map[string]int64{}, warmErrors: map[string]int64{}, example: map[string]string{}, countedBy: map[string]int64{}, promptKnown: true, firstSeen: math.MaxInt64}
	if m == nil {
		t.open, t.end = true, math.MaxInt64
		return t
	}
	t.start, t.end = m.start, m.end
	return t
}

func (t *tally) in(at time.Duration) bool { return at != never && at >= t.start && at <= t.end }

// add takes one sample.
func (t *tally) add(s *sample) {
	t.rows++
	if s.class == "" {
		t.arrivals(s)
	}
	if s.warm {
		if s.class != "" {
			t.warmFailed++
			t.fail(s, t.warmErrors)
		}
		return
	}
	t.sent++
	t.firstSeen = min(t.firstSeen, s.start)
	t.lastSeen = max(t.lastSeen, s.end)
	if s.class != "" {
		t.failed++
		t.fail(s, t.errors)
		return
	}
	t.ok++
	t.ttft = append(t.ttft, (s.firstToken - s.start).Seconds())
	t.e2e = append(t.e2e, (s.lastToken - s.start).Seconds())
	t.ttftResponse = append(t.ttftResponse, (s.firstToken - s.intended).Seconds())
	t.e2eRespone = append(t.e2eRespone, (s.lastToken - s.intended).Seconds())
	if s.output > 1 {
		t.tpot = append(t.tpot, (s.lastToken-s.firstToken).Seconds()/float64(s.output-1))
	}
	for _, g := range s.gaps {
		t.gap(float64(g) / 1e9)
	}
	t.count(s)
}

func (t *tally) fail(s *sample, by map[string]int64) {
	by[s.class]++
	if t.example[s.class] == "" {
		t.example[s.class] = s.message
	}
}

// count keeps the books of tokens and constraints.
func (t *tally) count(s *sample) {
	t.output += max(s.output, 0)
	t.chunks += s.chunks
	t.countedBy[s.countedBy]++
	if s.prompt < 0 {
		t.promptKnown = false
	} else {
		t.prompt += s.prompt
		if s.asked > 0 && s.prompt != s.asked {
			t.wrongPrompt++
		}
	}
	if s.output < s.maxTokens && s.finish == "length" && s.countedBy != byChunks {
		t.short++
	}
	if s.usage >= 0 {
		t.compared++
		if tokensSeen(s) != s.usage {
			t.mismatch++
		}
	}
	if s.valid >= 0 {
		t.judged++
		if s.finish == "length" {
			t.cutByLength++
		} else {
			t.finished++
		}
		t.parses += int64(s.parses)
		t.valid += int64(s.valid)
	}
}

// tokensSeen is the number of tokens that arrived, as far as events tell.
func tokensSeen(s *sample) int64 {
	if s.counts == nil {
		return s.chunks
	}
	var n int64
	for _, c := range s.counts {
		n += c
	}
	return n
}

// arrivals counts what of a good request arrived in the window.
func (t *tally) arrivals(s *sample) {
	if t.in(s.lastToken) {
		t.windowDone++
	}
	if t.in(s.firstToken) {
		t.windowPrompt += max(s.prompt, 0)
	}
	at := s.firstToken
	for i := int64(0); i < s.chunks; i++ {
		if i > 0 {
			at += time.Duration(s.gaps[i-1])
		}
		if !t.in(at) {
			continue
		}
		if s.counts != nil {
			t.windowTokens += s.counts[i]
		} else {
			t.windowTokens++
		}
	}
	// Tokens without an event of their own (an end mark, byte pieces where the
	// server tells nothing between) count where the answer ended.
	if extra := s.output - tokensSeen(s); extra > 0 && t.in(s.lastToken) {
		t.windowTokens += extra
	}
}

func (t *tally) gap(s float64) {
	t.gapCount++
	if t.gapHist != nil {
		t.gapHist.Record(s)
		return
	}
	t.gaps = append(t.gaps, s)
	if len(t.gaps) < rawGaps {
		return
	}
	h, err := quantile.NewHistogram(1e-6, 3600, 3)
	if err != nil {
		return // constants: cannot happen; the raw values stay
	}
	for _, g := range t.gaps {
		h.Record(g)
	}
	t.gapHist, t.gaps = h, nil
}

func (t *tally) gapDistribution() figure.Distribution {
	if t.gapHist != nil {
		return t.gapHist
	}
	return quantile.Of(t.gaps)
}

// point turns the tally into a point of the curve.
func (t *tally) point(p point, cfg Config, m meta, mk *marked) result.Point {
	out := result.Point{Label: p.label, Params: p.params, Figures: figure.Set{}, Errors: t.errors, Notes: map[string]string{}}
	start, end := t.start, t.end
	if t.open {
		start, end = min(t.firstSeen, t.lastSeen), t.lastSeen
	}
	length := (end - start).Seconds()
	if mk != nil {
		out.Window = result.Window{Start: mk.zero.Add(start), End: mk.zero.Add(end), DurationS: length}
	} else {
		out.Window = result.Window{DurationS: length}
	}
	t.figures(out.Figures, cfg, length)
	if mk != nil {
		mk.account.Put(out.Figures)
	}
	for class, msg := range t.example {
		if msg != "" {
			out.Notes["error."+class] = msg
		}
	}
	if len(out.Notes) == 0 {
		out.Notes = nil
	}
	t.judge(&out.Verdict, cfg, m, mk)
	return out
}

func (t *tally) figures(s figure.Set, cfg Config, length float64) {
	for _, d := range []struct {
		name   string
		values figure.Distribution
	}{
		{"ttft", quantile.Of(t.ttft)},
		{"itl", t.gapDistribution()},
		{"tpot", quantile.Of(t.tpot)},
		{"e2e", quantile.Of(t.e2e)},
		{"ttft_response", quantile.Of(t.ttftResponse)},
		{"e2e_response", quantile.Of(t.e2eRespone)},
	} {
		figure.PutQuantiles(s, d.name, "ms", d.values, 1000, quantiles...)
		figure.PutMean(s, d.name, "ms", d.values, 1000)
	}
	how := t.countedHow()
	rate := func(name string, n int64, what string) {
		switch {
		case t.ok == 0:
			s.PutNull(name, "no request ended well", 0)
		case !(length > 0):
			s.PutNull(name, "the window has no length", n)
		default:
			s.Put(name, float64(n)/length, n, what)
		}
	}
	rate("output_tokens_per_s", t.windowTokens, "tokens that arrived in the window over its length; "+how)
	rate("requests_per_s", t.windowDone, "good requests whose last token arrived in the window over its length")
	if t.promptKnown {
		rate("input_tokens_per_s", t.windowPrompt, "prompt tokens by the server's usage, of good requests whose first token arrived in the window, over its length")
		rate("total_tokens_per_s", t.windowPrompt+t.windowTokens, "input and output tokens of the window over its length; "+how)
	} else {
		s.PutNull("input_tokens_per_s", "the server does not tell prompt tokens", t.ok)
		s.PutNull("total_tokens_per_s", "the server does not tell prompt tokens", t.ok)
	}
	if t.ok > 0 {
		s.Put("output_tokens_count", float64(t.output), t.ok, how)
		s.Put("output_tokens_per_request", float64(t.output)/float64(t.ok), t.ok, how)
		if t.chunks > 0 {
			s.Put("tokens_per_event", float64(t.output)/float64(t.chunks), t.chunks, "output tokens over events that carried tokens")
		}
		if t.promptKnown {
			s.Put("input_tokens_count", float64(t.prompt), t.ok, "usage.prompt_tokens of good requests sent in the window")
		} else {
			s.PutNull("input_tokens_count", "the server does not tell prompt tokens", t.ok)
		}
	}
	s.Put("operations_ok_count", float64(t.ok), t.sent, "count")
	s.Put("operations_failed_count", float64(t.failed), t.sent, "count")
	figure.PutRatio(s, "error_ratio", t.failed, t.sent, quantile.Wilson)
	if cfg.Structured != "" {
		figure.PutRatio(s, "structured_finished_ratio", t.finished, t.judged, quantile.Wilson)
		figure.PutRatio(s, "structured_parses_ratio", t.parses, t.judged, quantile.Wilson)
		figure.PutRatio(s, "structured_valid_ratio", t.valid, t.judged, quantile.Wilson)
	}
}

// countedHow says how output tokens were counted, the commonest way first.
func (t *tally) countedHow() string {
	out := ""
	for _, by := range []string{byContinuous, byUsage, byIDs, byChunks} {
		if n := t.countedBy[by]; n > 0 {
			if out != "" {
				out += ", "
			}
			out += fmt.Sprintf("%d by %s", n, by)
		}
	}
	if out == "" {
		return "no tokens were counted"
	}
	return "tokens of requests counted: " + out
}
