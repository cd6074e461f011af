package report

import (
	"math"
	"slices"
)

// Spread is where a set of samples lies. An empty set is NaN throughout.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Summarize gives the spread of samples, which stay as they are.
func Summarize(samples []float64) Spread {
	if len(samples) == 0 {
		nan := math.NaN()
		return Spread{nan, nan, nan}
	}
	return Spread{Median: Quantile(samples, 0.5), Min: slices.Min(samples), Max: slices.Max(samples)}
}

// Quantile interpolates linearly between the two nearest samples (Hyndman and
// Fan's type 7, R's default). q is 0 to 1; no samples give NaN.
func Quantile(samples []float64, q float64) float64 {
	if len(samples) == 0 {
		return math.NaN()
	}
	s := slices.Clone(samples)
	slices.Sort(s)
	at := q * float64(len(s)-1)
	low := int(at)
	if low >= len(s)-1 {
		return s[len(s)-1]
	}
	return s[low] + (at-float64(low))*(s[low+1]-s[low])
}

// Ratios divides subject by baseline round by round. A round that lacks one of
// the two, or whose baseline is zero, has no ratio and is left out.
func Ratios(subject, baseline []float64) []float64 {
	n := min(len(subject), len(baseline))
	ratios := make([]float64, 0, n)
	for i := range n {
		r := subject[i] / baseline[i]
		if math.IsNaN(r) || math.IsInf(r, 0) {
			continue
		}
		ratios = append(ratios, r)
	}
	return ratios
}
