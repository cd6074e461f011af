package scenario

import (
	"context"
	"fmt"

	"github.com/vswitch/vswitch/bench/rig"
)

// crowdSize is how many containers connect to one at the same time.
const crowdSize = 100

// crowd is the path from many containers to one, each of which connects now and then.
func crowd() Scenario {
	return Scenario{
		Name: "crowd", Title: fmt.Sprintf("%d containers to one", crowdSize), Baseline: rig.Docker, Long: true,
		Loads: []Load{crowded(goal{docker: 1})},
		ends: func(r *rig.Rig) (ends, error) {
			e := ends{client: r.A.NS, server: r.B.Addr, serverNS: r.B.NS}
			all, err := r.Crowd(context.Background(), crowdSize)
			for _, c := range all {
				e.crowd = append(e.crowd, c.NS)
			}
			return e, err
		},
	}
}

// changingCrowd is crowd while others come and go.
func changingCrowd() Scenario {
	s := crowd()
	s.Name, s.Title = "changing crowd", s.Title+", beside 10 attaches and detaches a second"
	s.Around = visitedMeanwhile(s.Title)
	return s
}
