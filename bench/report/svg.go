package report

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// svg builds one picture. Colours are classes of the page's style sheet.
type svg struct{ b strings.Builder }

func (s *svg) open(width, height float64, label string) {
	fmt.Fprintf(&s.b, `<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, width, height, html.EscapeString(label))
}

func (s *svg) line(class string, x1, y1, x2, y2 float64) {
	fmt.Fprintf(&s.b, `<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>`, class, x1, y1, x2, y2)
}

func (s *svg) text(class, anchor string, x, y float64, text string) {
	fmt.Fprintf(&s.b, `<text class="%s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`, class, anchor, x, y, html.EscapeString(text))
}

// dot has a ring in the page's colour, so that it stays apart from what it lies
// on, and says title when pointed at.
func (s *svg) dot(class string, x, y float64, title string) {
	fmt.Fprintf(&s.b, `<circle class="%s ring" cx="%.1f" cy="%.1f" r="5"><title>%s</title></circle>`, class, x, y, html.EscapeString(title))
}

func (s *svg) path(class string, points [][2]float64) {
	s.b.WriteString(`<polyline class="` + class + `" points="`)
	for _, p := range points {
		fmt.Fprintf(&s.b, "%.1f,%.1f ", p[0], p[1])
	}
	s.b.WriteString(`"/>`)
}

func (s *svg) close() string { return s.b.String() + "</svg>" }

// ratioPlot draws the main ratios of one scenario on a logarithmic axis, a row
// each, those against the same system together.
func ratioPlot(rows []Comparison) string {
	const width, left, right, step, top = 900.0, 230.0, 200.0, 24.0, 26.0
	var shown []Comparison
	low, high := 0.5, 2.0
	for _, c := range rows {
		r := c.advantage()
		if c.Measure.Detail || math.IsNaN(r.Median) {
			continue
		}
		shown = append(shown, c)
		low, high = min(low, max(r.Min, 1.0/64)), max(high, min(r.Max, 64))
	}
	if len(shown) == 0 {
		return ""
	}
	low, high = math.Exp2(math.Floor(math.Log2(low))), math.Exp2(math.Ceil(math.Log2(high)))
	at := func(v float64) float64 {
		v = min(max(v, low), high)
		return left + (width-left-right)*math.Log2(v/low)/math.Log2(high/low)
	}
	height, system := top, ""
	for _, c := range shown {
		if c.Baseline != system {
			height, system = height+step, c.Baseline
		}
		height += step
	}

	var s svg
	s.open(width, height+8, "ratios: "+shown[0].Title)
	for v := low; v <= high; v *= 2 {
		class := "grid"
		if v == 1 {
			class = "one"
		}
		s.line(class, at(v), top-8, at(v), height)
		s.text("", "middle", at(v), top-13, fmt.Sprintf("%g", v))
	}
	y := top
	system = ""
	for _, c := range shown {
		if c.Baseline != system {
			system = c.Baseline
			s.text("head", "start", 0, y+16, "against "+system)
			y += step
		}
		s.ratioRow(c, y+step/2, at)
		s.text("label", "end", left-14, y+step/2+4, c.Measure.Name)
		s.text("", "start", width-right+14, y+step/2+4, fmt.Sprintf("%s : %s",
			c.Measure.Unit.Format(Summarize(c.SubjectSamples.Succeeded()).Median),
			c.Measure.Unit.Format(Summarize(c.BaselineSamples.Succeeded()).Median)))
		y += step
	}
	return s.close()
}

func (s *svg) ratioRow(c Comparison, y float64, at func(float64) float64) {
	r, class := c.advantage(), "s0"
	if !c.Measure.Meets(c.Ratio().Median) {
		class = "bad"
	}
	s.line(class+" range", at(r.Min), y, at(r.Max), y)
	if b := c.Measure.Bound; b != 0 {
		if c.Measure.LowerIsBetter {
			b = 1 / b
		}
		s.line("target", at(b), y-8, at(b), y+8)
	}
	s.dot(class, at(r.Median), y, fmt.Sprintf("%s against %s: %v", c.Measure.Name, c.Baseline, c.Ratio()))
}

// advantage is the ratio, upside down where lower is better.
func (c Comparison) advantage() Spread {
	r := c.Ratio()
	if !c.Measure.LowerIsBetter {
		return r
	}
	return Spread{Median: 1 / r.Median, Min: 1 / r.Max, Max: 1 / r.Min}
}

// curvePlot draws one measure of several systems over a logarithmic axis of
// what grows; values start at zero.
// The subject has its colour from the ratios.
func curvePlot(curves []Curve, subject string) string {
	const width, height, left, right, top, bottom = 480.0, 260.0, 74.0, 36.0, 48.0, 40.0
	first, last, high := math.Inf(1), math.Inf(-1), 0.0
	for _, c := range curves {
		for _, p := range c.Points {
			first, last, high = min(first, p.X), max(last, p.X), max(high, p.Value)
		}
	}
	if high == 0 {
		return ""
	}
	x := func(v float64) float64 {
		if last == first {
			return left
		}
		return left + (width-left-right)*math.Log(v/first)/math.Log(last/first)
	}
	tick := nice(high / 4)
	high = tick * math.Ceil(high/tick)
	y := func(v float64) float64 { return height - bottom - (height-top-bottom)*v/high }

	var s svg
	m := curves[0].Measure
	s.open(width, height, m.Name+" by "+curves[0].Axis)
	s.text("head", "start", 0, 14, m.Name)
	for v := 0.0; v <= high*1.001; v += tick {
		s.line("grid", left, y(v), width-right, y(v))
		s.text("", "end", left-8, y(v)+4, m.Unit.Format(v))
	}
	for v := math.Pow(10, math.Ceil(math.Log10(first))); v <= last; v *= 10 {
		s.text("", "middle", x(v), height-bottom+18, count(v))
	}
	s.text("", "end", width-right, height-4, curves[0].Axis)
	legend := left
	others := 0
	for _, c := range curves {
		class := "s0"
		if c.System != subject {
			others++
			class = fmt.Sprintf("s%d", others%4)
		}
		s.dot(class, legend, 30, c.System)
		s.text("label", "start", legend+10, 34, c.System)
		legend += 30 + 7.5*float64(len(c.System))
		var points [][2]float64
		for _, p := range c.Points {
			points = append(points, [2]float64{x(p.X), y(p.Value)})
		}
		s.path(class+" line", points)
		for k, p := range points {
			s.dot(class, p[0], p[1], fmt.Sprintf("%s, %s %s: %s", c.System, count(c.Points[k].X), c.Axis, m.Unit.Format(c.Points[k].Value)))
		}
	}
	return s.close()
}

// nice is 1, 2 or 5 times a power of ten, at least v.
func nice(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, f := range []float64{1, 2, 5} {
		if f*unit >= v {
			return f * unit
		}
	}
	return 10 * unit
}
