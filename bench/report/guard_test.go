package report

import (
	"math"
	"strings"
	"testing"
)

func TestRegressions(t *testing.T) {
	nan := math.NaN()
	for name, c := range map[string]struct {
		was, now Samples // of the subject; the baseline is 100 throughout
		lower    bool
		want     int
	}{
		"the same":                         {was: Samples{50, 60, 70}, now: Samples{50, 60, 70}},
		"worse within the noise":           {was: Samples{50, 60, 70}, now: Samples{40, 45, 55}},
		"worse beyond it":                  {was: Samples{50, 60, 70}, now: Samples{40, 45, 49}, want: 1},
		"better":                           {was: Samples{50, 60, 70}, now: Samples{80, 90, 99}},
		"worse by less than the slack":     {was: Samples{60, 60, 60}, now: Samples{59, 59, 59}},
		"times: longer beyond the noise":   {was: Samples{50, 60, 70}, now: Samples{71, 80, 90}, lower: true, want: 1},
		"times: longer within it":          {was: Samples{50, 60, 70}, now: Samples{69, 80, 90}, lower: true},
		"times: shorter":                   {was: Samples{50, 60, 70}, now: Samples{10, 20, 30}, lower: true},
		"nothing left":                     {was: Samples{50, 60, 70}, now: Samples{nan, nan, nan}, want: 1},
		"one failed round tells nothing":   {was: Samples{50, 60, 70}, now: Samples{nan, 60, 70}},
		"a baseline of one round is exact": {was: Samples{60}, now: Samples{50, 55, 56}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			run := func(s Samples) *Run {
				base := make(Samples, len(s))
				for i := range base {
					base[i] = 100
				}
				return &Run{Compared: []Comparison{{
					Scenario: "containers", Title: "container to container", Baseline: "bridge",
					Measure:         Measure{Name: "TCP bulk", LowerIsBetter: c.lower},
					BaselineSamples: base, SubjectSamples: s,
				}}}
			}
			got, err := run(c.now).Regressions(run(c.was))
			if err != nil || len(got) != c.want {
				t.Errorf("got %v, %v, want %d", got, err, c.want)
			}
		})
	}
}

func TestRegressionsNeedCommonRows(t *testing.T) {
	other := example()
	for i := range other.Compared {
		other.Compared[i].Baseline = "another"
	}
	if _, err := example().Regressions(other); err == nil {
		t.Error("two runs without a common row: got no error")
	}
	got, err := example().Regressions(example())
	if err != nil || len(got) != 0 {
		t.Errorf("a run and itself: got %v, %v", got, err)
	}
	worse := example()
	worse.Compared[0].SubjectSamples = Samples{1e9, 1e9, 1e9}
	got, err = worse.Regressions(example())
	if err != nil || len(got) != 1 || !strings.Contains(got[0].String(), "TCP bulk against bridge: 0.05") {
		t.Errorf("got %v, %v, want the bulk transfer", got, err)
	}
}
