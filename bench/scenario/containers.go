package scenario

import (
	"net/netip"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
)

// containers is the path between two containers on one network.
func containers() Scenario {
	b := bounds{
		sameCPU: goal{1.12, 0.98}, twoCPUs: goal{1.05, 0.97}, free: goal{1, 0.97}, requests: goal{1.1, 1},
		bulk: goal{1, 0.98}, cpu: goal{1, 1}, spun: goal{1.05, 0},
	}
	return Scenario{
		Name:     "containers",
		Title:    "container to container",
		Baseline: rig.Docker,
		Others:   []string{rig.Bridge, rig.Userspace, rig.OVS, rig.VDE},
		Loads: append(b.loads(),
			withOthers(frameRate(64, goal{1.4, 1.1})), frameRate(512, goal{}), frameRate(1500, goal{}),
			lossless(64, goal{1.2, 1}), lossless(512, goal{}), lossless(1500, goal{}),
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
