package report

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// WriteTable writes r for a terminal.
func (r *Run) WriteTable(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.describe())
	if len(r.Compared) > 0 {
		b.WriteByte('\n')
		columns(&b, r.comparedRows(true))
	}
	if len(r.Alone) > 0 {
		b.WriteByte('\n')
		columns(&b, r.aloneRows())
	}
	if len(r.Curves) > 0 {
		b.WriteByte('\n')
		columns(&b, r.curveRows())
	}
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "\nnot measured: %s: %s", m.Scenario, m.Reason)
	}
	if len(r.Missing) > 0 {
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// WriteMarkdown writes r as a fragment for a larger document: no heading, one
// line of circumstances, the tables without details and curves.
func (r *Run) WriteMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", r.describe())
	if len(r.Compared) > 0 {
		b.WriteByte('\n')
		markdown(&b, r.comparedRows(false))
	}
	if len(r.Alone) > 0 {
		b.WriteByte('\n')
		markdown(&b, r.aloneRows())
	}
	for _, m := range r.Missing {
		fmt.Fprintf(&b, "\nNot measured: %s: %s.\n", m.Scenario, m.Reason)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Run) describe() string {
	rounds := "1 round"
	if r.Rounds != 1 {
		rounds = fmt.Sprintf("%d rounds", r.Rounds)
	}
	more := ""
	if r.Machine.Blind {
		more += "; without br_netfilter: Docker's rules see nothing between containers"
	}
	if r.Localhost != "" {
		more += "; localhost " + r.Localhost
	}
	return fmt.Sprintf("%s, %s, %d cores, Linux %s, %s; %s of %g s, interleaved; @s: client and server on one CPU, @x: on two; ratio: median (lowest-highest) over the rounds; %.2f cores busy and load %.1f at the start%s",
		r.Started.Format("2006-01-02"), r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go, rounds, r.Window, r.Machine.Busy, r.Machine.Load, more)
}

func (r *Run) comparedRows(details bool) [][]string {
	rows := [][]string{{"scenario", "measure", "against", "theirs", r.Subject, "ratio", "target", "", "carried by the kernel"}}
	for _, c := range r.Compared {
		if c.Measure.Detail && !details {
			continue
		}
		ratio := c.Ratio()
		rows = append(rows, []string{
			c.Title, c.Measure.Name, c.Baseline,
			c.Measure.Unit.Format(Summarize(c.BaselineSamples.Succeeded()).Median),
			c.Measure.Unit.Format(Summarize(c.SubjectSamples.Succeeded()).Median),
			ratio.String(),
			c.Measure.target(func(v float64) string { return fmt.Sprintf("%.2f", v) }),
			c.Measure.verdict(ratio.Median), c.Carried.String(),
		})
	}
	return rows
}

func (r *Run) aloneRows() [][]string {
	rows := [][]string{{"scenario", "measure", r.Subject, "target", "", "how"}}
	for _, f := range r.Alone {
		rows = append(rows, []string{
			f.Title, f.Measure.Name, f.Measure.Unit.Format(f.Value),
			f.Measure.target(f.Measure.Unit.Format), f.Measure.verdict(f.Value), f.Note,
		})
	}
	return rows
}

// curveRows has one row for each curve, its points side by side.
func (r *Run) curveRows() [][]string {
	rows := [][]string{{"grows", "measure", "system", "at: value"}}
	for _, c := range r.Curves {
		var points []string
		for _, p := range c.Points {
			points = append(points, fmt.Sprintf("%s: %s", count(p.X), c.Measure.Unit.Format(p.Value)))
		}
		rows = append(rows, []string{c.Axis, c.Measure.Name, c.System, strings.Join(points, "   ")})
	}
	return rows
}

// count writes a whole number with its thousands apart.
func count(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// String is median (min-max), with two decimals.
func (s Spread) String() string {
	if math.IsNaN(s.Median) {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", s.Median, s.Min, s.Max)
}

func (m Measure) target(format func(float64) string) string {
	switch {
	case m.Bound == 0:
		return ""
	case m.LowerIsBetter:
		return "≤ " + format(m.Bound)
	}
	return "≥ " + format(m.Bound)
}

func (m Measure) verdict(v float64) string {
	switch {
	case m.Bound == 0:
		return ""
	case m.Meets(v):
		return "met"
	}
	return "missed"
}

// columns aligns by runes, which text/tabwriter also does, but repeats no cell
// that equals the one above it in the first column: the eye finds the scenario.
func columns(b *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	above := ""
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			shown := cell
			if i == 0 && cell == above {
				shown = ""
			}
			line.WriteString(shown)
			line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(shown)+2))
		}
		above = row[0]
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
}

func markdown(b *strings.Builder, rows [][]string) {
	for i, row := range rows {
		b.WriteString("|")
		for _, cell := range row {
			b.WriteString(" " + strings.ReplaceAll(cell, "|", `\|`) + " |")
		}
		b.WriteByte('\n')
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
}
