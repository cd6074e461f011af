package scenario

import "github.com/vswitch/vswitch/bench/rig"

// guards are two paths with the guards of both containers on, against the same
// with them off: what it costs to look at the source of each frame, beside
// bridging and beside NAT. The flow table is off on both sides: it would carry the
// flows of guarded containers only, and nothing looks at their frames then.
func guards() []Scenario {
	g := goal{docker: 0.9}
	list := []Scenario{containers(), masquerade()}
	for i := range list {
		s := &list[i]
		s.Name, s.Title = s.Name+", guards", s.Title+": guards on and off"
		s.Subject, s.Baseline, s.Others = rig.Userspace, rig.Unguarded, nil
		s.Loads = []Load{bulk(1, false, g, goal{}), frameRate(64, g)}
	}
	return list
}
