package control

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS31ListenerWinsNewConnections: a program of the host listens at the TCP port of a
// container's connection, in a network whose mappings are open to strangers. What is new is the
// program's, by the hooks at once, by the list of sockets a moment later; the connection is the
// container's.
func TestS31ListenerWinsNewConnections(t *testing.T) {
	for _, cfg := range []daemonSpec{{Cgroup: "test"}, {}, {NoFlowTable: true}} {
		t.Run(fmt.Sprintf("hooks %v, no flow table %v", cfg.Cgroup != "", cfg.NoFlowTable), func(t *testing.T) {
			const port, to = 21020, 9020
			if cfg.Cgroup != "" {
				cfg.Cgroup = labtest.Cgroup(t)
			}
			b := newBorder(t, cfg, func(*border) {})
			eif := api.FilterEIF
			if _, err := b.UpdateNetwork(t.Context(), "dual", api.NetworkUpdate{Filter: &eif}); err != nil {
				t.Fatal(err)
			}
			for _, v6 := range []bool{false, true} {
				if got := b.flow("tcp", v6, port, to); got != port {
					t.Fatalf("the flow leaves from port %d", got)
				}
				b.send("a new one before IPv"+familyOf(v6), toContainer, v6, farAt[v6], header.ProtoTCP, tcpTo(to, port, 0x02))
				b.sent[len(b.sent)-1].nobody = true // the switch lets no stranger in so soon after its start
			}
			b.check()
			for _, v6 := range []bool{false, true} {
				b.hostBinds("tcp", v6, port)
			}
			if cfg.Cgroup == "" {
				time.Sleep(1500 * time.Millisecond) // the daemon looks once a second
			}
			for _, v6 := range []bool{false, true} {
				b.send("a new one IPv"+familyOf(v6), toHost, v6, farAt[v6], header.ProtoTCP, tcpTo(to+1, port, 0x02))
				b.send("one of the flow IPv"+familyOf(v6), toContainer, v6, remoteAt[v6], header.ProtoTCP, tcpTo(to, port, 0x10))
			}
			b.check()
		})
	}
}
