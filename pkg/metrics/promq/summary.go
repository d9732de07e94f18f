package promq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"aifbench/pkg/metrics/figure"
)

// Querier evaluates one expression at an instant. *Client is one.
type Querier interface {
	Query(ctx context.Context, query string, at time.Time) (*Answer, error)
}

// Selector is the labels a service's series must carry, such as run.
type Selector map[string]string

// Row is one figure of a summary. Value is nil when there is none; Reason then
// says why.
type Row struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels,omitempty"`
	Value  *float64          `json:"value"`
	Unit   string            `json:"unit"`
	// N is how many observations a quantile rests on.
	N int64 `json:"n,omitempty"`
	// Lower and Upper are the bounds of the bucket a quantile lies in; Upper
	// is nil for the last, open one.
	Lower    *float64 `json:"bucket_lower,omitempty"`
	Upper    *float64 `json:"bucket_upper,omitempty"`
	How      string   `json:"how"`
	Reason   string   `json:"reason,omitempty"`
	Query    string   `json:"query"`
	Warnings []string `json:"warnings"`
}

// Summary is the document of the metrics verb.
type Summary struct {
	SchemaVersion int       `json:"schema_version"`
	Service       string    `json:"service"`
	Selector      Selector  `json:"selector"`
	Start         time.Time `json:"start"`
	End           time.Time `json:"end"`
	DurationS     float64   `json:"duration_s"`
	Rows          []Row     `json:"rows"`
}

// Services lists the services that have summaries.
func Services() []string { return []string{"vllm", "chroma", "lustre", "monitors"} }

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// Summarise asks for every summary of a service over the window from start to
// end. A question that the server refuses, or that matches nothing, is a row
// with its reason; a server that does not answer at all is an error.
func Summarise(ctx context.Context, q Querier, service string, sel Selector, start, end time.Time) (*Summary, error) {
	list := summariesOf(service)
	if list == nil {
		return nil, fmt.Errorf("summarise metrics: no summaries for service %q; use one of %s", service, strings.Join(Services(), ", "))
	}
	window := end.Sub(start).Truncate(time.Millisecond)
	if window < time.Second {
		return nil, fmt.Errorf("summarise metrics: window of %s is shorter than a second", end.Sub(start))
	}
	matchers, err := sel.matchers()
	if err != nil {
		return nil, err
	}
	out := &Summary{
		SchemaVersion: 1, Service: service, Selector: sel, Start: start.UTC(), End: end.UTC(),
		DurationS: window.Seconds(), Rows: []Row{},
	}
	if out.Selector == nil {
		out.Selector = Selector{}
	}
	ask := asker{q: q, matchers: matchers, window: window, end: end}
	for _, s := range list {
		rows, err := ask.rows(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("summarise metrics: %w", err)
		}
		out.Rows = append(out.Rows, rows...)
	}
	return out, nil
}

// matchers writes the selector as PromQL, values quoted.
func (s Selector) matchers() (string, error) {
	parts := make([]string, 0, len(s))
	for _, name := range slices.Sorted(maps.Keys(s)) {
		if !labelName.MatchString(name) {
			return "", fmt.Errorf("summarise metrics: %q is not a label name", name)
		}
		parts = append(parts, name+"="+strconv.Quote(s[name]))
	}
	return strings.Join(parts, ","), nil
}

type asker struct {
	q        Querier
	matchers string
	window   time.Duration
	end      time.Time
}

// expand fills in a query's placeholders.
func (a asker) expand(query string) string {
	step := max(time.Second, (a.window / 1000).Truncate(time.Second))
	out := strings.NewReplacer(
		"$seconds", strconv.FormatFloat(a.window.Seconds(), 'f', -1, 64),
		"$sel", a.matchers,
		"$step", millis(step),
		"$w", millis(a.window),
	).Replace(query)
	if a.matchers == "" {
		// Before a further matcher the empty selector leaves a comma behind.
		out = strings.ReplaceAll(out, "{,", "{")
	}
	return out
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) + "ms" }

// rows answers one summary. Errors are those that make further questions
// pointless.
func (a asker) rows(ctx context.Context, s summary) ([]Row, error) {
	def, ok := figure.Lookup(s.figure)
	if !ok {
		panic("promq: " + s.figure + " is not in the table of figures")
	}
	row := Row{Name: s.figure, Unit: def.Unit, Warnings: []string{}}
	for _, form := range s.queries {
		var found []Row
		var err error
		if s.method == fromZero {
			found, err = a.counted(ctx, s, form, row)
		} else {
			found, err = a.asked(ctx, s, form, row)
		}
		var qe *Error
		switch {
		case err == nil:
			return found, nil
		case errors.Is(err, ErrNoSeries):
			row.Query = found[0].Query
			row.Warnings = append(row.Warnings, found[0].Warnings...)
			continue
		case errors.As(err, &qe) && rowOnly(qe.Kind):
			row.Query, row.How, row.Reason = qe.Query, "prometheus", string(qe.Kind)+": "+qe.Message
			return []Row{row}, nil
		default:
			return nil, err
		}
	}
	row.How, row.Reason = "prometheus", s.hint
	return []Row{row}, nil
}

// rowOnly tells whether an error belongs to one question alone, so that the
// next one is worth asking.
func rowOnly(k Kind) bool {
	switch k {
	case BadData, Execution, Timeout, Canceled, TooLarge, Malformed:
		return true
	}
	return false
}

// asked evaluates one form of an instant or bucket summary.
func (a asker) asked(ctx context.Context, s summary, form string, row Row) ([]Row, error) {
	row.Query = a.expand(form)
	vector, err := a.vector(ctx, &row)
	if err != nil {
		return []Row{row}, err
	}
	if s.method == bucket {
		row.fromBuckets(s, vector)
		return []Row{row}, nil
	}
	row.How = "prometheus, over the window"
	if strings.Contains(form, "increase(") {
		row.How = "prometheus, counter increase extrapolated to the window"
	}
	out := make([]Row, 0, len(vector))
	for _, sample := range vector {
		r := row
		r.Warnings = slices.Clone(row.Warnings)
		for _, l := range s.by {
			if v, ok := sample.Metric[model.LabelName(l)]; ok {
				if r.Labels == nil {
					r.Labels = map[string]string{}
				}
				r.Labels[l] = string(v)
			}
		}
		if sample.Histogram != nil {
			r.Reason = "the series is a native histogram, not a number"
		} else {
			a.set(&r, s, float64(sample.Value))
		}
		out = append(out, r)
	}
	slices.SortFunc(out, func(x, y Row) int { return strings.Compare(key(x.Labels), key(y.Labels)) })
	return out, nil
}

// counted answers a fromZero summary for one metric name.
func (a asker) counted(ctx context.Context, s summary, metric string, row Row) ([]Row, error) {
	selector := metric + "{" + a.matchers + "}"
	row.Query = "sum(last_over_time(" + selector + "[" + millis(a.window) + "]))"
	row.How = "last value in the window minus last value before it"
	last, err := a.vector(ctx, &row)
	if err != nil {
		return []Row{row}, err
	}
	resets := Row{Query: "sum(resets(" + selector + "[" + millis(a.window) + "]))"}
	before := Row{Query: "sum(last_over_time(" + selector + "[1h] offset " + millis(a.window) + "))"}
	base := 0.0
	switch v, err := a.vector(ctx, &before); {
	case errors.Is(err, ErrNoSeries):
		row.Warnings = append(row.Warnings, "the series began inside the window; counted from 0")
	case err != nil:
		return []Row{row}, err
	default:
		base = float64(v[0].Value)
	}
	switch v, err := a.vector(ctx, &resets); {
	case err != nil && !errors.Is(err, ErrNoSeries):
		return []Row{row}, err
	case err == nil && v[0].Value > 0:
		row.Reason = "the counter was reset in the window"
		return []Row{row}, nil
	}
	row.Query += " - " + before.Query
	row.Warnings = append(row.Warnings, before.Warnings...)
	delta := float64(last[0].Value) - base
	if delta < 0 {
		row.Reason = "the counter is smaller than before the window"
		return []Row{row}, nil
	}
	a.set(&row, s, delta)
	return []Row{row}, nil
}

// vector evaluates row.Query, moves the server's doubts into the row and
// returns the series; none is ErrNoSeries.
func (a asker) vector(ctx context.Context, row *Row) (model.Vector, error) {
	ans, err := a.q.Query(ctx, row.Query, a.end)
	if err != nil {
		return nil, err
	}
	row.Warnings = append(row.Warnings, ans.Warnings...)
	row.Warnings = append(row.Warnings, ans.Infos...)
	v, ok := ans.Value.(model.Vector)
	switch {
	case !ok:
		return nil, &Error{Kind: Malformed, Query: row.Query, Message: "answer is a " + ans.Type + ", not a vector"}
	case len(v) == 0:
		return nil, ErrNoSeries
	}
	return v, nil
}

// set stores a number, scaled and normalised; NaN and infinities become null.
func (a asker) set(r *Row, s summary, v float64) {
	if s.scale != 0 {
		v *= s.scale
	}
	if s.perSecond {
		v /= a.window.Seconds()
		r.How += ", over its length"
	}
	value, word := Num(v).Finite()
	switch {
	case value != nil:
		r.Value = value
	case math.IsNaN(v):
		r.Reason = "the answer is NaN: nothing to divide by in the window"
	default:
		r.Reason = "the answer is " + word
	}
}

// fromBuckets makes a row of a histogram's buckets.
func (r *Row) fromBuckets(s summary, v model.Vector) {
	r.How = "linear in the bucket that holds the rank; the true value lies between its bounds"
	list, warning, err := edges(v)
	if err != nil {
		r.Reason = err.Error()
		return
	}
	if warning != "" {
		r.Warnings = append(r.Warnings, warning)
	}
	total := list[len(list)-1].count
	r.N = int64(math.Round(total))
	switch {
	case r.N <= 0:
		r.Reason = "nothing was observed in the window"
		return
	case !figure.Supports(r.N, s.q):
		r.Reason = fmt.Sprintf("%d observations, quantile %v needs %d", r.N, s.q, figure.Needed(s.q))
		return
	}
	value, lower, upper, above := quantile(list, s.q)
	lower, upper, value = lower*s.scale, upper*s.scale, value*s.scale
	if !math.IsInf(lower, 0) {
		r.Lower = &lower
	}
	if above {
		r.Reason = fmt.Sprintf("above the largest finite bucket bound, %v %s", lower, r.Unit)
		return
	}
	r.Value, r.Upper = &value, &upper
}
