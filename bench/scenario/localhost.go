package scenario

import (
	"net/netip"

	"github.com/vswitch/vswitch/bench/rig"
)

// localhost is the path from the host's own programs to a published port on
// the loopback address. The kernel's way is DNAT with route_localnet, which
// Docker takes when it is told to do without its proxy.
func localhost() Scenario {
	return Scenario{
		Name:     "localhost",
		Title:    "localhost to published port",
		Baseline: rig.Docker,
		Others:   []string{rig.DockerProxy, rig.Pasta, rig.Slirp},
		Loads: bounds{
			sameCPU: goal{docker: 1.08}, twoCPUs: goal{docker: 1.05}, free: goal{docker: 1}, requests: goal{docker: 1.1},
			bulk: goal{docker: 1}, cpu: goal{docker: 1}, spun: goal{docker: 1.05},
		}.loads(),
		ends: func(r *rig.Rig) (ends, error) {
			return ends{
				client: r.World.Host, server: netip.AddrFrom4([4]byte{127, 0, 0, 1}), serverNS: r.B.NS,
				offset: rig.PublishOffset,
			}, nil
		},
	}
}
