package main

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/bench/report"
)

// progress says what is going on: on a terminal in a line that is written over
// after each round, elsewhere with a line for each finished load.
type progress struct {
	to       *os.File
	terminal bool
	lines    []string
	step     int // loads that are done, of steps
	steps    int
}

func newProgress(to *os.File) *progress {
	_, err := unix.IoctlGetTermios(int(to.Fd()), unix.TCGETS)
	return &progress{to: to, terminal: err == nil}
}

func (p *progress) begin(title string) { fmt.Fprintf(p.to, "%s\n", title) }

// round shows what is known of a load: rows is its main measure against the
// kernel and then against the others, among further ones.
func (p *progress) round(rows []report.Comparison, round, rounds int) {
	p.lines = p.lines[:0]
	main := rows[0].Measure
	for _, c := range rows {
		if c.Measure.Name != main.Name {
			continue
		}
		name := main.Name
		if len(p.lines) > 0 {
			name = "  against " + c.Baseline
		}
		unit := main.Unit
		p.lines = append(p.lines, fmt.Sprintf("  %-36s %14s %14s   %s", name,
			unit.Format(report.Summarize(c.BaselineSamples.Succeeded()).Median),
			unit.Format(report.Summarize(c.SubjectSamples.Succeeded()).Median), c.Ratio()))
	}
	if p.terminal {
		fmt.Fprintf(p.to, "\r\x1b[K%s   load %d of %d, round %d of %d", p.lines[0], p.step+1, p.steps, round, rounds)
	}
}

// done ends the line of a load.
func (p *progress) done() {
	p.step++
	if p.terminal {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
	for _, line := range p.lines {
		fmt.Fprintln(p.to, line)
	}
}

func (p *progress) curve(c report.Curve) {
	if len(c.Points) == 0 {
		return
	}
	first, last := c.Points[0], c.Points[len(c.Points)-1]
	fmt.Fprintf(p.to, "  %-36s %14s %14s   %g to %g %s\n", c.Measure.Name+", "+c.System,
		c.Measure.Unit.Format(first.Value), c.Measure.Unit.Format(last.Value), first.X, last.X, c.Axis)
}

func (p *progress) figure(f report.Figure) {
	fmt.Fprintf(p.to, "  %-36s %14s\n", f.Title+" "+f.Measure.Name, f.Measure.Unit.Format(f.Value))
}

func (p *progress) miss(what, reason string) {
	if p.terminal {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
	fmt.Fprintf(p.to, "  not measured: %s: %s\n", what, reason)
}
