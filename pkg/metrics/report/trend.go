package report

import (
	"math"
	"time"

	"aifbench/pkg/metrics/promq"
)

// FromTrends makes series of what Prometheus answered; a native histogram has
// no one value and breaks the line.
func FromTrends(lines []promq.Line) []Series {
	out := make([]Series, 0, len(lines))
	for _, l := range lines {
		s := Series{Chart: l.Chart, Name: l.Name, Unit: l.Unit}
		for _, p := range l.Points {
			v := math.NaN()
			if p.Value != nil {
				v = float64(*p.Value)
			}
			s.Points = append(s.Points, Point{At: time.UnixMilli(int64(math.Round(p.TimeS * 1000))).UTC(), Value: v})
		}
		out = append(out, s)
	}
	return out
}
