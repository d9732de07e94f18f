// Package figure owns the one table of named numbers: their names, units,
// directions and definitions, and the shape in which a measured value is
// reported. Results, gates, tables, reports and Prometheus series take their
// names from here and from nowhere else. It must not know where a figure is
// measured or shown.
package figure

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Direction tells whether a larger value is better.
type Direction string

// The three directions a figure can have.
const (
	Higher  Direction = "higher_is_better"
	Lower   Direction = "lower_is_better"
	Neutral Direction = "neutral"
)

// Def is one row of the table of figures.
type Def struct {
	// Name is snake_case and ends in the unit where there is one.
	Name string
	// Unit is the unit of Value: ms, s, per_s, bytes, ratio, count, GiB/s, kIOPS.
	Unit string
	// Direction tells which way is better.
	Direction Direction
	// Definition is one sentence a stranger can recompute the figure from.
	Definition string
	// Service is the service that reports it; empty for figures of every service.
	Service string
}

// Figure is a measured value. Value is nil when the figure could not be
// measured; Reason then says why, and it is never replaced by zero.
type Figure struct {
	Value  *float64    `json:"value"`
	Unit   string      `json:"unit"`
	N      int64       `json:"n"`
	How    string      `json:"how"`
	CI95   *[2]float64 `json:"ci95,omitempty"`
	Reason string      `json:"reason,omitempty"`
}

// Set is the figures of one result or of one point of a curve, by name.
// encoding/json writes the names in sorted order, so equal sets are equal bytes.
type Set map[string]Figure

// Tables lists the parts of the table of figures, one file a service.
func tables() [][]Def { return [][]Def{every, llm, vector, fs, node} }

// All returns every definition in a fixed order.
func All() []Def { return slices.Concat(tables()...) }

// Lookup returns the definition of name.
func Lookup(name string) (Def, bool) {
	for _, t := range tables() {
		for _, d := range t {
			if d.Name == name {
				return d, true
			}
		}
	}
	return Def{}, false
}

// Put records a measured value. A name that is not in the table is a
// programmer's error and panics; a value that is not finite becomes null with
// a reason, since JSON has no NaN and a reader must not see a made-up zero.
func (s Set) Put(name string, value float64, n int64, how string) {
	d := mustLookup(name)
	if math.IsNaN(value) || math.IsInf(value, 0) {
		s[name] = Figure{Unit: d.Unit, N: n, How: how, Reason: fmt.Sprintf("not a finite number (%v)", value)}
		return
	}
	s[name] = Figure{Value: &value, Unit: d.Unit, N: n, How: how}
}

// PutNull records that a figure is missing and why.
func (s Set) PutNull(name, reason string, n int64) {
	d := mustLookup(name)
	s[name] = Figure{Unit: d.Unit, N: n, How: "not measured", Reason: reason}
}

// WithCI adds a 95 % confidence interval to a figure that has a value.
func (s Set) WithCI(name string, lo, hi float64) {
	f, ok := s[name]
	if !ok || f.Value == nil || math.IsNaN(lo) || math.IsNaN(hi) {
		return
	}
	f.CI95 = &[2]float64{lo, hi}
	s[name] = f
}

// Names returns the names of the set in the order of the table.
func (s Set) Names() []string {
	out := make([]string, 0, len(s))
	for _, d := range All() {
		if _, ok := s[d.Name]; ok {
			out = append(out, d.Name)
		}
	}
	return out
}

func mustLookup(name string) Def {
	d, ok := Lookup(name)
	if !ok {
		panic("figure: " + strings.TrimSpace(name) + " is not in the table of figures")
	}
	return d
}
