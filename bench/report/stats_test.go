package report

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var approximately = cmp.Options{cmpopts.EquateNaNs(), cmpopts.EquateApprox(0, 1e-12), cmpopts.EquateEmpty()}

func TestSummarize(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		in   []float64
		want Spread
	}{
		"none":                               {nil, Spread{nan, nan, nan}},
		"one":                                {[]float64{7}, Spread{7, 7, 7}},
		"odd":                                {[]float64{9, 1, 2}, Spread{2, 1, 9}},
		"even":                               {[]float64{4, 1, 3, 2}, Spread{2.5, 1, 4}},
		"an outlier moves the extremes only": {[]float64{1, 1, 1, 1, 1000}, Spread{1, 1, 1000}},
	} {
		t.Run(name, func(t *testing.T) {
			before := append([]float64(nil), c.in...)
			if diff := cmp.Diff(c.want, Summarize(c.in), approximately); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(before, c.in); diff != "" {
				t.Errorf("the samples were changed: %s", diff)
			}
		})
	}
}

func TestQuantile(t *testing.T) {
	s := []float64{50, 10, 40, 20, 30}
	for q, want := range map[float64]float64{0: 10, 0.25: 20, 0.5: 30, 0.9: 46, 0.99: 49.6, 1: 50} {
		if got := Quantile(s, q); math.Abs(got-want) > 1e-9 {
			t.Errorf("Quantile(%v): got %v, want %v", q, got, want)
		}
	}
	if got := Quantile(nil, 0.5); !math.IsNaN(got) {
		t.Errorf("of nothing: got %v, want NaN", got)
	}
}

// A machine that halves its speed in some rounds halves both systems; the ratio
// of such rounds is as good as any.
func TestRatiosAreFormedPerRound(t *testing.T) {
	baseline := []float64{100, 50, 100, 50, 100}
	subject := []float64{60, 30, 60, 30, 60}
	got := Summarize(Ratios(subject, baseline))
	if diff := cmp.Diff(Spread{0.6, 0.6, 0.6}, got, approximately); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// Here the two would differ: the median of the quotients is 0.5, the quotient
	// of the medians 1.
	got = Summarize(Ratios([]float64{100, 50, 10}, []float64{10, 100, 50}))
	if diff := cmp.Diff(Spread{0.5, 0.2, 10}, got, approximately); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRatiosLeaveOutFailedRounds(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct{ subject, baseline, want []float64 }{
		"subject failed":     {[]float64{nan, 3}, []float64{2, 2}, []float64{1.5}},
		"baseline failed":    {[]float64{1, 3}, []float64{nan, 2}, []float64{1.5}},
		"baseline zero":      {[]float64{1, 3}, []float64{0, 2}, []float64{1.5}},
		"interrupted":        {[]float64{3}, []float64{2, 2}, []float64{1.5}},
		"subject zero stays": {[]float64{0, 3}, []float64{2, 2}, []float64{0, 1.5}},
		"nothing":            {nil, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, Ratios(c.subject, c.baseline), approximately); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
