package scenario

import (
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
)

// containers is the path between two containers on one network.
func containers() Scenario {
	b := bounds{bulk: 0.7, cpu: 2, requests: 1, p99: 1.5, connections: 0.9, frames64: 1.3}
	return Scenario{
		Name:     "containers",
		Title:    "container to container",
		Baseline: rig.Bridge,
		Others:   []string{rig.Userspace, rig.OVS, rig.VDE},
		Loads: append(b.loads(),
			withOthers(frameRate(64, b.frames64)), frameRate(512, 0), frameRate(1500, 0),
			lossless(64), lossless(512), lossless(1500),
			latency(false), latency(true),
			iperf(),
		),
		ends: func(r *rig.Rig) (ends, error) {
			return ends{
				client: r.A.NS, server: r.B.Addr, serverNS: r.B.NS,
				frames: &frameEnds{
					sender: r.A.NS, senderIfname: r.A.Ifname, src: r.A.MAC,
					receiver: r.B.NS, receiverIfname: r.B.Ifname, dst: r.B.MAC,
					from: netip.AddrPortFrom(r.A.Addr, framePort),
					to:   netip.AddrPortFrom(r.B.Addr, gen.DiscardPort),
				},
			}, nil
		},
	}
}
