package scenario

import "github.com/vswitch/vswitch/bench/rig"

// host is the path from the host's own programs to a container by its address.
func host() Scenario {
	return Scenario{
		Name:     "host",
		Title:    "host to container",
		Baseline: rig.Bridge,
		Loads:    bounds{}.loads(),
		ends: func(r *rig.Rig) (ends, error) {
			return ends{client: r.World.Host, server: r.B.Addr, serverNS: r.B.NS}, nil
		},
	}
}
