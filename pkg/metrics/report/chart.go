package report

import (
	"math"
	"strconv"
	"strings"

	"aifbench/pkg/metrics/table"
)

// The drawing area, in SVG units.
const (
	width, height            = 720, 260
	left, right, top, bottom = 64, 16, 12, 36
)

// palette has as many colours as lines keep their own one; it was chosen to
// stay apart for the colour-blind and in print.
var palette = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999"}

// chart is one drawing, everything already in SVG units.
type chart struct {
	Title, Unit, XLabel string
	Width, Height       int
	Left, Right         float64
	Top, Bottom         float64
	MidX                float64
	YTicks, XTicks      []tick
	ShadeX, ShadeW      float64
	Shaded              bool
	Lines               []line
}

type tick struct {
	At    float64
	Label string
}

type line struct {
	Name, Colour string
	Segments     []string
	Dots         []xy
	Stats        string
}

type xy struct{ X, Y float64 }

// frame maps values to the drawing area; the y axis begins at zero when all
// values are on one side of it, since cut axes exaggerate.
type frame struct{ x0, x1, y0, y1 float64 }

func newFrame(x0, x1, y0, y1 float64) (frame, []tick) {
	if !(x1 > x0) {
		x0, x1 = x0-1, x0+1
	}
	y0, y1 = math.Min(y0, 0), math.Max(y1, 0)
	step := niceStep((y1 - y0) / 5)
	y0, y1 = math.Floor(y0/step)*step, math.Ceil(y1/step)*step
	if !(y1 > y0) {
		y1 = y0 + step
	}
	f := frame{x0, x1, y0, y1}
	var ticks []tick
	// Counted, not summed: sums of 0.1 drift and a huge y0 would never move.
	for i := range int(math.Round((y1-y0)/step)) + 1 {
		v := y0 + float64(i)*step
		if math.Abs(v) < step*1e-9 {
			v = 0
		}
		ticks = append(ticks, tick{f.y(v), table.Number(v)})
	}
	return f, ticks
}

func (f frame) x(v float64) float64 {
	return round(left + (v-f.x0)/(f.x1-f.x0)*(width-left-right))
}

func (f frame) y(v float64) float64 {
	return round(height - bottom - (v-f.y0)/(f.y1-f.y0)*(height-top-bottom))
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// niceStep rounds up to 1, 2 or 5 times a power of ten.
func niceStep(raw float64) float64 {
	if !(raw > 0) || math.IsInf(raw, 0) {
		return 1
	}
	base := math.Pow(10, math.Floor(math.Log10(raw)))
	for _, m := range []float64{1, 2, 5} {
		if raw <= m*base*(1+1e-9) {
			return m * base
		}
	}
	return 10 * base
}

func newChart(title, unit, xlabel string) chart {
	return chart{
		Title: title, Unit: unit, XLabel: xlabel, Width: width, Height: height,
		Left: left, Right: width - right, Top: top, Bottom: height - bottom, MidX: (left + width - right) / 2,
	}
}

// draw turns points into polyline segments; breakAt tells where a line stops
// between two neighbours. A segment of one point is drawn as a dot alone.
func draw(f frame, xs, ys []float64, dots bool, breakAt func(i int) bool) (segments []string, marks []xy) {
	var current []string
	var last xy
	flush := func() {
		switch {
		case len(current) > 1:
			segments = append(segments, strings.Join(current, " "))
		case len(current) == 1 && !dots:
			marks = append(marks, last)
		}
		current = nil
	}
	for i := range xs {
		if !finite(ys[i]) {
			flush()
			continue
		}
		if len(current) > 0 && breakAt(i) {
			flush()
		}
		last = xy{f.x(xs[i]), f.y(ys[i])}
		current = append(current, coordinate(last.X)+","+coordinate(last.Y))
		if dots {
			marks = append(marks, last)
		}
	}
	flush()
	return segments, marks
}

func coordinate(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// finite tells whether a value can be drawn; near the end of the floating-point
// range the height of an axis would overflow.
func finite(v float64) bool { return math.Abs(v) < 1e300 }
