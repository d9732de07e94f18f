// Package result owns the versioned document that a benchmark or a judgement
// leaves in its run directory: verdict, figures, curve, warnings, window,
// environment. It must not know how a figure was measured or how it is shown.
package result

import (
	"encoding/json"
	"time"

	"aifbench/pkg/metrics/figure"
)

// SchemaVersion is the version of every document of this package. Additions
// keep it; a change of meaning raises it.
const SchemaVersion = 1

// Status is the one-word judgement of a result.
type Status string

// The statuses a verdict can have, from best to worst.
const (
	Valid         Status = "valid"
	ClientLimited Status = "client_limited"
	Truncated     Status = "truncated"
	Invalid       Status = "invalid"
	Failed        Status = "failed"
	Interrupted   Status = "interrupted"
)

// Severity says how much a reason weighs.
type Severity string

// Severities of a reason.
const (
	Info    Severity = "info"
	Warn    Severity = "warning"
	Serious Severity = "error"
)

// Reason is one rule that spoke, with its evidence.
type Reason struct {
	Rule     string   `json:"rule"`
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
	Evidence string   `json:"evidence"`
}

// Verdict is the judgement of a result and the reasons for it.
type Verdict struct {
	Status  Status   `json:"status"`
	Reasons []Reason `json:"reasons"`
}

// Window is the measured interval by the generator's clock.
type Window struct {
	Start     time.Time `json:"start"`
	End       time.Time `json:"end"`
	DurationS float64   `json:"duration_s"`
}

// Warning is something a reader should know that does not decide validity.
type Warning struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Point is one setting of a curve: the parameters that differ from the other
// points, its own window, figures and verdict.
type Point struct {
	Label   string            `json:"label"`
	Params  map[string]any    `json:"params"`
	Window  Window            `json:"window"`
	Figures figure.Set        `json:"figures"`
	Errors  map[string]int64  `json:"errors"`
	Verdict Verdict           `json:"verdict"`
	Phases  []Phase           `json:"phases,omitempty"`
	Notes   map[string]string `json:"notes,omitempty"`
}

// Phase is one timed part of a point, in the order it ran.
type Phase struct {
	Name     string  `json:"name"`
	StartS   float64 `json:"start_s"`
	EndS     float64 `json:"end_s"`
	Ops      int64   `json:"ops"`
	Failed   int64   `json:"failed"`
	Bytes    int64   `json:"bytes"`
	Verified int64   `json:"verified,omitempty"`
	Status   string  `json:"status"`
	Message  string  `json:"message,omitempty"`
}

// Gate is one condition of the user and how it came out. Value is nil when
// the figure is missing; Passed is then false.
type Gate struct {
	Expr    string   `json:"expr"`
	Figure  string   `json:"figure"`
	Point   string   `json:"point,omitempty"`
	Op      string   `json:"op"`
	Limit   float64  `json:"limit"`
	Value   *float64 `json:"value"`
	Passed  bool     `json:"passed"`
	Message string   `json:"message"`
}

// Result is the document result.json.
type Result struct {
	SchemaVersion int             `json:"schema_version"`
	Kind          string          `json:"kind"`
	Service       string          `json:"service"`
	Engine        string          `json:"engine"`
	Run           string          `json:"run"`
	Target        string          `json:"target,omitempty"`
	Verdict       Verdict         `json:"verdict"`
	Window        Window          `json:"window"`
	Figures       figure.Set      `json:"figures"`
	Curve         []Point         `json:"curve"`
	Gates         []Gate          `json:"gates"`
	Warnings      []Warning       `json:"warnings"`
	Environment   map[string]any  `json:"environment"`
	Config        json.RawMessage `json:"config"`
}

// rank orders statuses so that the worst point decides a curve.
var rank = map[Status]int{Valid: 0, ClientLimited: 1, Truncated: 2, Invalid: 3, Failed: 4, Interrupted: 5}

// Worst returns the worse of two statuses; an unknown status is invalid.
func Worst(a, b Status) Status {
	ra, ok := rank[a]
	if !ok {
		return Invalid
	}
	rb, ok := rank[b]
	if !ok {
		return Invalid
	}
	if rb > ra {
		return b
	}
	return a
}

// Add appends a reason and worsens the status to at least s.
func (v *Verdict) Add(s Status, r Reason) {
	if v.Status == "" {
		v.Status = Valid
	}
	v.Status = Worst(v.Status, s)
	v.Reasons = append(v.Reasons, r)
}

// normalise makes a verdict that nobody gave an invalid one, which says so: an
// unjudged result must not be lost, nor pass for a judged one.
func (v *Verdict) normalise() {
	if v.Status == "" {
		v.Add(Invalid, Reason{Rule: "verdict_missing", Severity: Serious, Message: "nothing judged this result", Evidence: "empty status"})
		v.Status = Invalid
	}
	if v.Reasons == nil {
		v.Reasons = []Reason{}
	}
}

// Fold copies the verdicts of all points into the result's own, naming the
// point of each reason, and copies the figures of a single point to the top.
func (r *Result) Fold() {
	if r.Verdict.Status == "" {
		r.Verdict.Status = Valid
	}
	for _, p := range r.Curve {
		r.Verdict.Status = Worst(r.Verdict.Status, p.Verdict.Status)
		for _, why := range p.Verdict.Reasons {
			if len(r.Curve) > 1 {
				why.Message = p.Label + ": " + why.Message
			}
			r.Verdict.Reasons = append(r.Verdict.Reasons, why)
		}
	}
	if len(r.Curve) == 1 {
		r.Figures = r.Curve[0].Figures
	}
	if len(r.Curve) > 0 {
		r.Window = Window{Start: r.Curve[0].Window.Start, End: r.Curve[len(r.Curve)-1].Window.End}
		r.Window.DurationS = r.Window.End.Sub(r.Window.Start).Seconds()
	}
	r.Normalise()
}

// Normalise replaces nil lists and maps by empty ones, so that a reader of the
// JSON never meets null where a list is promised.
func (r *Result) Normalise() {
	r.SchemaVersion = SchemaVersion
	if r.Figures == nil {
		r.Figures = figure.Set{}
	}
	if r.Curve == nil {
		r.Curve = []Point{}
	}
	if r.Gates == nil {
		r.Gates = []Gate{}
	}
	if r.Warnings == nil {
		r.Warnings = []Warning{}
	}
	if r.Environment == nil {
		r.Environment = map[string]any{}
	}
	r.Verdict.normalise()
	for i := range r.Curve {
		p := &r.Curve[i]
		p.Verdict.normalise()
		if p.Figures == nil {
			p.Figures = figure.Set{}
		}
		if p.Errors == nil {
			p.Errors = map[string]int64{}
		}
		if p.Params == nil {
			p.Params = map[string]any{}
		}
	}
	if len(r.Config) == 0 {
		r.Config = json.RawMessage("{}")
	}
}
