package scenario

import (
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// natBounds are the targets for what the kernel needs NAT for.
var natBounds = bounds{bulk: 0.7, requests: 1, connections: 0.95, frames64: 1.2}

// masquerade is the path from a container to an address behind the host's
// router.
func masquerade() Scenario {
	return Scenario{
		Name:     "masquerade",
		Title:    "container to outside",
		Baseline: rig.BridgeNFT,
		Others:   []string{rig.Userspace, rig.Pasta, rig.Slirp},
		Loads:    append(natBounds.loads(), frameRate(64, natBounds.frames64), lossless(64)),
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
