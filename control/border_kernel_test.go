package control

import (
	"fmt"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS31KernelBindsAPort: the kernel itself binds the UDP port of a container's flow, for a tunnel
// of the host. The kernel tells of the link, and from then on what comes is the host's.
func TestS31KernelBindsAPort(t *testing.T) {
	for _, cfg := range []daemonSpec{{Cgroup: "test"}, {}, {NoFlowTable: true}} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("hooks %v, no flow table %v, IPv%s", cfg.Cgroup != "", cfg.NoFlowTable, familyOf(v6)), func(t *testing.T) {
				const port, to = 21010, 9010
				cfg := cfg
				if cfg.Cgroup != "" {
					cfg.Cgroup = labtest.Cgroup(t)
				}
				b := newBorder(t, cfg, func(*border) {})
				if got := b.flow("udp", v6, port, to); got != port {
					t.Fatalf("the flow leaves from port %d", got)
				}
				stream := func() {
					var list [][]byte
					for range 100 {
						list = append(list, b.packet(v6, remoteAt[v6], hostAt[v6], header.ProtoUDP, udpTo(to, port)(10)))
					}
					inject(t, b.world.Outside, "eth0", list...)
				}
				if stream(); !cfg.NoFlowTable {
					eventually(t, "the kernel carries what comes in", func() bool {
						had := b.stats().Flows.Frames
						stream()
						return b.stats().Flows.Frames > had+50
					})
				}
				if out, err := b.world.Host.Command("ip", "link", "add", "vx0", "type", "vxlan", "id", "7", "dstport", fmt.Sprint(port), "local", hostAt[v6], "remote", farAt[v6], "dev", "eth0").CombinedOutput(); err != nil {
					labtest.Skip(t, "this kernel has no vxlan: "+string(out))
				}
				command(t, b.world.Host, "ip", "link", "set", "vx0", "up")
				eventually(t, "the flow of the container ends", func() bool { return !b.leavesFrom(port) })
				for i := range 5 {
					b.send(fmt.Sprintf("udp number %d", i+1), toHost, v6, remoteAt[v6], header.ProtoUDP, udpTo(to, port))
				}
				b.sendPieces("udp", toHost, v6, remoteAt[v6], header.ProtoUDP, udpTo(to, port))
				b.check()
			})
		}
	}
}

// leavesFrom reports whether a UDP flow of a container leaves from a port of the host.
func (b *border) leavesFrom(port int) bool {
	b.t.Helper()
	list, err := b.NAT(b.t.Context(), api.NATQuery{})
	if err != nil {
		b.t.Fatal(err)
	}
	for _, f := range list {
		if f.Proto == "udp" && strings.HasSuffix(f.NATSource, fmt.Sprintf(":%d", port)) {
			return true
		}
	}
	return false
}
