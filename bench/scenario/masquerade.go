package scenario

import (
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// natBounds are the targets for what the kernel needs NAT for.
var natBounds = bounds{
	sameCPU: goal{docker: 1.15}, twoCPUs: goal{docker: 1.05}, free: goal{docker: 1}, requests: goal{docker: 1.1},
	bulk: goal{docker: 1}, cpu: goal{docker: 1}, spun: goal{docker: 1.05},
}

// natFrames are those for 64-byte frames, under overload and without loss.
var natFrames = [2]goal{{docker: 1.4}, {docker: 1.2}}

// masquerade is the path from a container to an address behind the host's
// router.
func masquerade() Scenario {
	return Scenario{
		Name:     "masquerade",
		Title:    "container to outside",
		Baseline: rig.Docker,
		Others:   []string{rig.Userspace, rig.Pasta, rig.Slirp},
		Loads:    append(natBounds.loads(), frameRate(64, natFrames[0]), lossless(64, natFrames[1])),
		ends: func(r *rig.Rig) (ends, error) {
			e := ends{client: r.A.NS, server: netip.MustParseAddr(netlab.FarAddr), serverNS: r.World.Outside}
			if !r.Gateway.IsValid() {
				return e, nil
			}
			mac, err := neighbor(r.A.NS, r.Gateway)
			e.frames = &frameEnds{
				sender: r.A.NS, senderIfname: r.A.Ifname, src: r.A.MAC, dst: mac,
				receiver: r.World.Outside, receiverIfname: "eth0",
				from: netip.AddrPortFrom(r.A.Addr, framePort),
				to:   netip.AddrPortFrom(e.server, gen.DiscardPort),
			}
			return e, err
		},
	}
}
