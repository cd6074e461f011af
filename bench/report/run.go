package report

import (
	"encoding/json"
	"io"
	"math"
	"time"
)

// Run is everything one call of the benchmark found. It is also the JSON that
// later runs are compared with, so fields are added and never change meaning.
type Run struct {
	Started time.Time `json:"started"`
	Seconds float64   `json:"seconds"` // wall time of the whole run
	Version string    `json:"version"` // of the subject
	Subject string    `json:"subject"`
	Rounds  int       `json:"rounds"`
	Window  float64   `json:"window_seconds"` // length of one measurement
	Machine Machine   `json:"machine"`
	// Localhost says by which way the subject served the host's own connections to published ports.
	Localhost string `json:"localhost,omitempty"`

	Compared []Comparison `json:"compared"`
	Alone    []Figure     `json:"alone"`
	Curves   []Curve      `json:"curves,omitempty"`
	Missing  []Missing    `json:"missing"`
}

// Machine is where the run took place.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Memory uint64 `json:"memory_bytes"`
	Go     string `json:"go"`
	// Load is the one-minute load average when the run began: above zero, others
	// were using the cores too.
	Load float64 `json:"load"`
	// Busy is the number of cores at work in the second before the run began:
	// the load average looks back too far, and forward not at all.
	Busy float64 `json:"busy"`
	// Blind says that netfilter cannot see what the kernel's bridge passes (br_netfilter).
	Blind bool `json:"no_bridge_netfilter,omitempty"`
}

// Measure names one figure of a scenario.
type Measure struct {
	Name string `json:"name"` // "rate", "p99"
	Unit Unit   `json:"unit"`
	// LowerIsBetter for times and costs; a bound is then a ceiling.
	LowerIsBetter bool `json:"lower_is_better,omitempty"`
	// Bound is the target, 0 for none: of the ratio in a comparison, of the
	// figure itself otherwise.
	Bound float64 `json:"bound,omitempty"`
	// Detail is left out where there is room for the main figures only.
	Detail bool `json:"detail,omitempty"`
}

// Meets says whether v, a ratio or a figure as Bound is, reaches the bound.
// Without a bound everything does; NaN never does.
func (m Measure) Meets(v float64) bool {
	switch {
	case m.Bound == 0:
		return true
	case m.LowerIsBetter:
		return v <= m.Bound
	default:
		return v >= m.Bound
	}
}

// Comparison is one measure of a scenario on two systems: the subject, and the
// kernel or another program, whose name is Baseline. The slices hold one
// sample per round; a round that failed holds NaN.
type Comparison struct {
	Scenario string  `json:"scenario"`
	Title    string  `json:"title"`
	Measure  Measure `json:"measure"`
	Baseline string  `json:"baseline"`

	BaselineSamples Samples `json:"baseline_samples"`
	SubjectSamples  Samples `json:"subject_samples"`
	// Carried is of the subject, in the first row of a load.
	Carried Carried `json:"carried,omitzero"`
}

// Ratio is the spread over the rounds of subject divided by baseline.
func (c Comparison) Ratio() Spread {
	return Summarize(Ratios(c.SubjectSamples, c.BaselineSamples))
}

// MarshalJSON adds the ratio, so that readers need not form it; null when no
// round has one.
func (c Comparison) MarshalJSON() ([]byte, error) {
	type plain Comparison
	out := struct {
		plain
		Ratio *Spread `json:"ratio"`
	}{plain: plain(c)}
	if r := c.Ratio(); !math.IsNaN(r.Median) {
		out.Ratio = &r
	}
	return json.Marshal(out)
}

// Figure is a measure of the subject alone, where the other has no like: an
// idle daemon, an attach.
type Figure struct {
	Scenario string  `json:"scenario"`
	Title    string  `json:"title"`
	Measure  Measure `json:"measure"`
	Value    float64 `json:"value"`
	// Note says how many and under what circumstances: "100 ports, 10 s".
	Note string `json:"note,omitempty"`
}

// Curve is a cost, or a rate, of one system as something grows.
type Curve struct {
	Scenario string  `json:"scenario"`
	Title    string  `json:"title"`
	Axis     string  `json:"axis"` // what grows: "ports"
	System   string  `json:"system"`
	Measure  Measure `json:"measure"`
	Points   []Point `json:"points"` // in the order of X
}

// Point is one measurement of a curve.
type Point struct {
	X     float64 `json:"x"`
	Value float64 `json:"value"`
}

// Missing is a scenario, or a system of it, that was not measured, and why.
type Missing struct {
	Scenario string `json:"scenario"`
	Reason   string `json:"reason"`
}

// Samples are the values of one system, one per round; NaN is a round that
// failed, null in JSON.
type Samples []float64

// MarshalJSON writes NaN as null, which JSON has and NaN it has not.
func (s Samples) MarshalJSON() ([]byte, error) {
	out := make([]*float64, len(s))
	for i := range s {
		if !math.IsNaN(s[i]) && !math.IsInf(s[i], 0) {
			out[i] = &s[i]
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads null as NaN.
func (s *Samples) UnmarshalJSON(b []byte) error {
	var in []*float64
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	*s = make(Samples, len(in))
	for i, v := range in {
		if v == nil {
			(*s)[i] = math.NaN()
			continue
		}
		(*s)[i] = *v
	}
	return nil
}

// Succeeded is the samples without the rounds that failed.
func (s Samples) Succeeded() []float64 {
	out := make([]float64, 0, len(s))
	for _, v := range s {
		if !math.IsNaN(v) {
			out = append(out, v)
		}
	}
	return out
}

// WriteJSON writes r, indented.
func (r *Run) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// Missed counts the bounds that were not reached.
func (r *Run) Missed() int {
	n := 0
	for _, c := range r.Compared {
		if !c.Measure.Meets(c.Ratio().Median) {
			n++
		}
	}
	for _, f := range r.Alone {
		if !f.Measure.Meets(f.Value) {
			n++
		}
	}
	return n
}
