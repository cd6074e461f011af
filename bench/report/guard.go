package report

import (
	"errors"
	"fmt"
	"math"
)

// slack is the part of a ratio that is never called a regression: intervals
// from a handful of rounds are narrower than the truth.
const slack = 0.05

// Regression is a ratio that is worse than it was, beyond the noise.
type Regression struct {
	Now, Was Comparison
}

// String is one line for people.
func (r Regression) String() string {
	return fmt.Sprintf("%s: %s against %s: %v, was %v", r.Now.Title, r.Now.Measure.Name, r.Now.Baseline, r.Now.Ratio(), r.Was.Ratio())
}

// Regressions are the rows whose ratio to the kernel or another system is worse
// than in was: by more than slack in the median, and even the best round of now
// is worse than the worst of then. Noise is thus what the rounds of the two runs
// showed. Details, whose tails wander, and rows that only one of the runs has
// are left out; an error says that no row was left.
func (r *Run) Regressions(was *Run) ([]Regression, error) {
	before := map[string]Comparison{}
	for _, c := range was.Compared {
		before[c.key()] = c
	}
	var worse []Regression
	compared := 0
	for _, now := range r.Compared {
		then, ok := before[now.key()]
		if !ok || now.Measure.Detail || math.IsNaN(then.Ratio().Median) {
			continue
		}
		compared++
		if regressed(now.Ratio(), then.Ratio(), now.Measure.LowerIsBetter) {
			worse = append(worse, Regression{now, then})
		}
	}
	if compared == 0 {
		return nil, errors.New("the two runs have no row in common")
	}
	return worse, nil
}

// key is what makes two rows of different runs the same.
func (c Comparison) key() string {
	return c.Scenario + "\x00" + c.Measure.Name + "\x00" + c.Baseline
}

// regressed: a row that has no ratio any more is the worst of all.
func regressed(now, then Spread, lowerIsBetter bool) bool {
	switch {
	case math.IsNaN(now.Median):
		return true
	case lowerIsBetter:
		return now.Min > then.Max && now.Median > then.Median*(1+slack)
	}
	return now.Max < then.Min && now.Median < then.Median*(1-slack)
}
