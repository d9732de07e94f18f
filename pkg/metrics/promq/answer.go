package promq

import (
	"encoding/json"
	"math"
	"sort"
	"strconv"

	"github.com/prometheus/common/model"
)

// Answer is what the server said, doubts included.
type Answer struct {
	Query string
	// Type is vector, matrix, scalar or string.
	Type  string
	Value model.Value
	// Warnings and Infos come from servers of version 3 and later; version 2
	// gives the same doubtful numbers in silence.
	Warnings []string
	Infos    []string
}

// Empty tells that the query matched no series: the common failure, which the
// server calls success.
func (a *Answer) Empty() bool {
	switch v := a.Value.(type) {
	case model.Vector:
		return len(v) == 0
	case model.Matrix:
		return len(v) == 0
	}
	return a.Value == nil
}

// Num is a number that may be NaN or infinite. JSON has no such numbers: they
// are written as the strings "NaN", "+Inf" and "-Inf", as Prometheus does.
type Num float64

// MarshalJSON writes finite values as numbers.
func (n Num) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return json.Marshal(n.String())
	}
	return json.Marshal(float64(n))
}

// String writes the value with all its digits.
func (n Num) String() string {
	switch f := float64(n); {
	case math.IsInf(f, 1):
		return "+Inf"
	default:
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
}

// Finite returns the value when it is one, nil and the word for it otherwise.
func (n Num) Finite() (*float64, string) {
	f := float64(n)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, n.String()
	}
	return &f, ""
}

// Point is one sample: a number, or the count and sum of a native histogram.
type Point struct {
	TimeS     float64    `json:"time_s"`
	Value     *Num       `json:"value"`
	Histogram *Histogram `json:"histogram,omitempty"`
}

// Histogram is a native histogram sample.
type Histogram struct {
	Count   Num      `json:"count"`
	Sum     Num      `json:"sum"`
	Buckets []Bucket `json:"buckets"`
}

// Bucket is one bucket of a native histogram.
type Bucket struct {
	Lower Num `json:"lower"`
	Upper Num `json:"upper"`
	Count Num `json:"count"`
}

// Series is one line of an answer.
type Series struct {
	Labels map[string]string `json:"labels"`
	Points []Point           `json:"points"`
}

// Document is the JSON form of an answer to a user's own query.
type Document struct {
	SchemaVersion int      `json:"schema_version"`
	Query         string   `json:"query"`
	Type          string   `json:"type"`
	Series        []Series `json:"series"`
	Text          string   `json:"text,omitempty"`
	Warnings      []string `json:"warnings"`
	Infos         []string `json:"infos"`
}

// Document converts the answer; series are sorted by their labels, so equal
// answers are equal bytes.
func (a *Answer) Document() Document {
	d := Document{SchemaVersion: 1, Query: a.Query, Type: a.Type, Series: []Series{}, Warnings: a.Warnings, Infos: a.Infos}
	if d.Warnings == nil {
		d.Warnings = []string{}
	}
	if d.Infos == nil {
		d.Infos = []string{}
	}
	switch v := a.Value.(type) {
	case model.Vector:
		for _, s := range v {
			d.Series = append(d.Series, Series{Labels: labels(s.Metric), Points: []Point{point(s.Timestamp, s.Value, s.Histogram)}})
		}
	case model.Matrix:
		for _, s := range v {
			line := Series{Labels: labels(s.Metric), Points: []Point{}}
			for _, p := range s.Values {
				line.Points = append(line.Points, point(p.Timestamp, p.Value, nil))
			}
			for _, p := range s.Histograms {
				line.Points = append(line.Points, point(p.Timestamp, 0, p.Histogram))
			}
			// A series can hold both kinds, each in its own list.
			sort.SliceStable(line.Points, func(i, j int) bool { return line.Points[i].TimeS < line.Points[j].TimeS })
			d.Series = append(d.Series, line)
		}
	case *model.Scalar:
		d.Series = append(d.Series, Series{Labels: map[string]string{}, Points: []Point{point(v.Timestamp, v.Value, nil)}})
	case *model.String:
		d.Text = v.Value
	}
	sort.SliceStable(d.Series, func(i, j int) bool { return key(d.Series[i].Labels) < key(d.Series[j].Labels) })
	return d
}

func point(t model.Time, v model.SampleValue, h *model.SampleHistogram) Point {
	p := Point{TimeS: float64(t) / 1000}
	if h == nil {
		n := Num(v)
		p.Value = &n
		return p
	}
	p.Histogram = &Histogram{Count: Num(h.Count), Sum: Num(h.Sum), Buckets: []Bucket{}}
	for _, b := range h.Buckets {
		if b != nil {
			p.Histogram.Buckets = append(p.Histogram.Buckets, Bucket{Lower: Num(b.Lower), Upper: Num(b.Upper), Count: Num(b.Count)})
		}
	}
	return p
}

func labels(m model.Metric) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[string(k)] = string(v)
	}
	return out
}

// key is the labels in sorted order as one string.
func key(l map[string]string) string {
	names := make([]string, 0, len(l))
	for k := range l {
		names = append(names, k)
	}
	sort.Strings(names)
	s := ""
	for _, k := range names {
		s += k + "\x00" + l[k] + "\x01"
	}
	return s
}
