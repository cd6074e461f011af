package scenario

import "github.com/vswitch/vswitch/bench/rig"

// host is the path from the host's own programs to a container by its address.
func host() Scenario {
	return Scenario{
		Name:     "host",
		Title:    "host to container",
		Baseline: rig.Docker,
		Others:   []string{rig.Bridge},
		Loads: bounds{
			sameCPU: goal{1.08, 0.9}, twoCPUs: goal{1.05, 0}, free: goal{1, 0}, requests: goal{1.05, 0.9},
			bulk: goal{1, 0}, cpu: goal{1, 0}, spun: goal{1.05, 0},
		}.loads(),
		ends: func(r *rig.Rig) (ends, error) {
			return ends{client: r.World.Host, server: r.B.Addr, serverNS: r.B.NS}, nil
		},
	}
}
