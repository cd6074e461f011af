package scenario

import (
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// hairpin is the path from a container to its neighbour's published port by the
// host's address.
func hairpin() Scenario {
	return Scenario{
		Name:     "hairpin",
		Title:    "container to published port",
		Baseline: rig.Docker,
		Others:   []string{rig.Userspace, rig.DockerProxy},
		Loads:    append(natBounds.loads(), frameRate(64, natFrames[0])),
		ends: func(r *rig.Rig) (ends, error) {
			e := ends{
				client: r.A.NS, server: netip.MustParseAddr(netlab.HostAddr), serverNS: r.B.NS,
				offset: rig.PublishOffset,
			}
			mac, err := neighbor(r.A.NS, r.Gateway)
			e.frames = &frameEnds{
				sender: r.A.NS, senderIfname: r.A.Ifname, src: r.A.MAC, dst: mac,
				receiver: r.B.NS, receiverIfname: r.B.Ifname,
				from: netip.AddrPortFrom(r.A.Addr, framePort),
				to:   e.target(gen.DiscardPort),
			}
			return e, err
		},
	}
}
