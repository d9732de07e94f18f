package report

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"aifbench/pkg/metrics/figure"
	"aifbench/pkg/metrics/result"
	"aifbench/pkg/metrics/table"
)

// quantileName splits ttft_p99_ms into ttft, p99, ms.
var quantileName = regexp.MustCompile(`^(.+)_(p[0-9]+)_([a-z]+)$`)

// curves draws every figure that has a value at two points or more: quantiles
// of one quantity together, every rate alone. Points stand side by side, evenly,
// since between two settings nothing was measured.
func curves(r *result.Result) []chart {
	if len(r.Curve) < 2 {
		return nil
	}
	type group struct {
		title, unit string
		lines       []string
	}
	var groups []group
	for _, d := range figure.All() {
		have := 0
		for _, p := range r.Curve {
			if f, ok := p.Figures[d.Name]; ok && f.Value != nil {
				have++
			}
		}
		m := quantileName.FindStringSubmatch(d.Name)
		switch {
		case have < 2:
		case m != nil:
			title := m[1] + " by point"
			i := slices.IndexFunc(groups, func(g group) bool { return g.title == title && g.unit == d.Unit })
			if i < 0 {
				groups = append(groups, group{title: title, unit: d.Unit})
				i = len(groups) - 1
			}
			groups[i].lines = append(groups[i].lines, d.Name)
		case d.Direction == figure.Higher || strings.HasSuffix(d.Unit, "per_s") || strings.HasSuffix(d.Unit, "/s"):
			groups = append(groups, group{title: d.Name + " by point", unit: d.Unit, lines: []string{d.Name}})
		}
	}
	var out []chart
	for _, g := range groups {
		out = append(out, curve(r, g.title, g.unit, g.lines))
	}
	return out
}

func curve(r *result.Result, title, unit string, names []string) chart {
	c := newChart(title, unit, "point")
	xs := make([]float64, len(r.Curve))
	values := make([][]float64, len(names))
	hi, lo := 0.0, 0.0
	for i := range r.Curve {
		xs[i] = float64(i)
	}
	for n, name := range names {
		values[n] = make([]float64, len(r.Curve))
		for i, p := range r.Curve {
			values[n][i] = math.NaN()
			if f, ok := p.Figures[name]; ok && f.Value != nil && finite(*f.Value) {
				values[n][i] = *f.Value
				hi, lo = math.Max(hi, *f.Value), math.Min(lo, *f.Value)
			}
		}
	}
	f, ticks := newFrame(-0.5, float64(len(r.Curve))-0.5, lo, hi)
	c.YTicks = ticks
	// More labels than fit would cover each other.
	every := 1 + (len(r.Curve)-1)/10
	for i, p := range r.Curve {
		if i%every == 0 {
			c.XTicks = append(c.XTicks, tick{f.x(xs[i]), shorten(p.Label, 16)})
		}
	}
	for n, name := range names {
		l := line{Name: name, Colour: palette[n%len(palette)]}
		l.Segments, l.Dots = draw(f, xs, values[n], true, func(int) bool { return false })
		c.Lines = append(c.Lines, l)
	}
	return c
}

// telemetry draws series over time, in seconds from the window's start, which
// is shaded. Series of one chart and unit share a drawing.
func telemetry(series []Series, window result.Window) []chart {
	type groupKey struct{ chart, unit string }
	var order []groupKey
	groups := map[groupKey][]Series{}
	for _, s := range series {
		if !slices.ContainsFunc(s.Points, func(p Point) bool { return finite(p.Value) }) {
			continue
		}
		k := groupKey{s.Chart, s.Unit}
		if _, ok := groups[k]; !ok {
			order = append(order, k)
		}
		groups[k] = append(groups[k], s)
	}
	var out []chart
	for _, k := range order {
		out = append(out, overTime(k.chart, k.unit, groups[k], window))
	}
	return out
}

func overTime(title, unit string, group []Series, window result.Window) chart {
	c := newChart(title, unit, "seconds from the start of the window")
	zero := window.Start
	if zero.IsZero() {
		zero = group[0].Points[0].At
		for _, s := range group {
			for _, p := range s.Points {
				if p.At.Before(zero) {
					zero = p.At
				}
			}
		}
		c.XLabel = "seconds from the first sample"
	}
	x0, x1 := math.Inf(1), math.Inf(-1)
	lo, hi := 0.0, 0.0
	xs := make([][]float64, len(group))
	ys := make([][]float64, len(group))
	for i, s := range group {
		for _, p := range s.Points {
			x := p.At.Sub(zero).Seconds()
			xs[i], ys[i] = append(xs[i], x), append(ys[i], p.Value)
			x0, x1 = math.Min(x0, x), math.Max(x1, x)
			if finite(p.Value) {
				lo, hi = math.Min(lo, p.Value), math.Max(hi, p.Value)
			}
		}
	}
	f, ticks := newFrame(x0, x1, lo, hi)
	c.YTicks = ticks
	step := niceStep((f.x1 - f.x0) / 8)
	for v := math.Ceil(f.x0/step) * step; v <= f.x1+step*1e-9 && len(c.XTicks) < 12; v += step {
		c.XTicks = append(c.XTicks, tick{f.x(v), table.Number(math.Round(v*1e6) / 1e6)})
	}
	if !window.Start.IsZero() && window.End.After(window.Start) {
		a, b := math.Max(0, f.x0), math.Min(window.End.Sub(zero).Seconds(), f.x1)
		if b > a {
			c.Shaded, c.ShadeX, c.ShadeW = true, f.x(a), round(f.x(b)-f.x(a))
		}
	}
	for i, s := range group {
		gap := 3 * medianStep(xs[i])
		l := line{Name: s.Name, Colour: palette[i%len(palette)], Stats: stats(xs[i], ys[i], unit)}
		l.Segments, l.Dots = draw(f, xs[i], ys[i], false, func(j int) bool { return gap > 0 && xs[i][j]-xs[i][j-1] > gap })
		c.Lines = append(c.Lines, l)
	}
	return c
}

// medianStep is the usual distance of two samples; a line is broken where
// three of them are missing rather than drawn through what nobody saw.
func medianStep(xs []float64) float64 {
	if len(xs) < 3 {
		return 0
	}
	steps := make([]float64, 0, len(xs)-1)
	for i := 1; i < len(xs); i++ {
		steps = append(steps, xs[i]-xs[i-1])
	}
	slices.Sort(steps)
	return steps[len(steps)/2]
}

// stats says in words what a line shows: minimum, mean, maximum, and the slope
// by least squares, which is what "stable" means for a temperature.
func stats(xs, ys []float64, unit string) string {
	n, lo, hi, mean := 0, math.Inf(1), math.Inf(-1), 0.0
	var mx, sxx, sxy float64
	for i, y := range ys {
		if !finite(y) {
			continue
		}
		n++
		lo, hi = math.Min(lo, y), math.Max(hi, y)
		dx := xs[i] - mx
		dy := y - mean
		mx += dx / float64(n)
		mean += dy / float64(n)
		sxx += dx * (xs[i] - mx)
		sxy += dx * (y - mean)
	}
	if n == 0 {
		return ""
	}
	text := fmt.Sprintf("min %s, mean %s, max %s %s", table.Number(lo), table.Number(mean), table.Number(hi), unit)
	if n > 2 && sxx > 0 {
		text += fmt.Sprintf(", slope %s %s per minute", table.Number(sxy/sxx*60), unit)
	}
	return text + fmt.Sprintf(" (%d samples)", n)
}

func shorten(s string, limit int) string {
	if r := []rune(s); len(r) > limit {
		return string(r[:limit-1]) + "…"
	}
	return s
}
