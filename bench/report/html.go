package report

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed page.html
var pageSource string

var page = template.Must(template.New("page").Parse(pageSource))

// section is one scenario of the page.
type section struct {
	Title string
	Plot  template.HTML
	Plots []template.HTML
	Rows  [][]string
}

// WriteHTML writes r as a page that needs nothing beside itself: plots are SVG
// within it, and it follows the reader's choice of light or dark.
func (r *Run) WriteHTML(w io.Writer) error {
	data := struct {
		*Run
		Memory    string
		Scenarios []section
		AloneRows [][]string
		Grown     []section
	}{Run: r, Memory: Bytes.Format(float64(r.Machine.Memory)), Scenarios: r.scenarios(), Grown: r.grown()}
	if len(r.Alone) > 0 {
		data.AloneRows = r.aloneRows()
	}
	return page.Execute(w, data)
}

func (r *Run) scenarios() []section {
	var out []section
	for i := 0; i < len(r.Compared); {
		n := i
		for n < len(r.Compared) && r.Compared[n].Scenario == r.Compared[i].Scenario {
			n++
		}
		one := Run{Subject: r.Subject, Compared: r.Compared[i:n]}
		out = append(out, section{
			Title: r.Compared[i].Title,
			Plot:  template.HTML(ratioPlot(r.Compared[i:n])), // all text in it is escaped
			Rows:  one.comparedRows(true),
		})
		i = n
	}
	return out
}

// grown groups curves by scenario, and within one by measure: systems share a
// plot.
func (r *Run) grown() []section {
	var out []section
	for i := 0; i < len(r.Curves); {
		n := i
		for n < len(r.Curves) && r.Curves[n].Scenario == r.Curves[i].Scenario {
			n++
		}
		one := Run{Curves: r.Curves[i:n]}
		s := section{Title: r.Curves[i].Title, Rows: one.curveRows()}
		done := map[Measure]bool{}
		for _, c := range one.Curves {
			if done[c.Measure] {
				continue
			}
			done[c.Measure] = true
			var same []Curve
			for _, d := range one.Curves {
				if d.Measure == c.Measure {
					same = append(same, d)
				}
			}
			s.Plots = append(s.Plots, template.HTML(curvePlot(same, r.Subject)))
		}
		out = append(out, s)
		i = n
	}
	return out
}
