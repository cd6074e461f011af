package scenario

import (
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// published is the path from outside to a container's published port.
func published() Scenario {
	return Scenario{
		Name:     "published",
		Title:    "outside to published port",
		Baseline: rig.Docker,
		Others:   []string{rig.Userspace, rig.DockerProxy, rig.Pasta, rig.Slirp},
		Loads:    append(natBounds.loads(), frameRate(64, natFrames[0]), lossless(64, natFrames[1])),
		ends: func(r *rig.Rig) (ends, error) {
			e := ends{
				client: r.World.Outside, server: netip.MustParseAddr(netlab.HostAddr), serverNS: r.B.NS,
				offset: rig.PublishOffset,
			}
			src, err := r.World.Outside.MAC("eth0")
			if err != nil {
				return e, err
			}
			dst, err := r.World.Host.MAC("eth0")
			e.frames = &frameEnds{
				sender: r.World.Outside, senderIfname: "eth0", src: src, dst: dst,
				receiver: r.B.NS, receiverIfname: r.B.Ifname,
				from: netip.AddrPortFrom(netip.MustParseAddr(netlab.OutsideAddr), framePort),
				to:   e.target(gen.DiscardPort),
			}
			return e, err
		},
	}
}
