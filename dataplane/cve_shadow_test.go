package dataplane_test

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A container that sends from the port of a listener, published or the host's
// own, gets another outside port, and the listener keeps its clients.
func TestC24PortShadow(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	busy := new(dataplane.BusyPorts)
	busy.Set(header.ProtoUDP, 53)
	busy.Set(header.ProtoTCP, 22)
	l.Switch.SetBusyPorts(busy)
	for _, sport := range []uint16{8080, 53, 22, 68} {
		for i, f := range [][]byte{UDP("c2", sport, World+":4000", "x"), TCP("c2", sport, World+":4000", SYN, "")} {
			l.Send("c2", f)
			got := See(t, l.Expect("up"))
			if p := got.SrcPort; p == 8080 || i == 0 && p == 53 || i == 1 && p == 22 {
				t.Errorf("port %d left as port %d, a listener's", sport, p)
			}
		}
	}
	for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
		l.Send("up", Inbound(proto, World+":4000", HostAddr+":8080", SYN, "x"))
		if got := See(t, l.Expect("c1")); got.To() != "10.1.0.11:80" {
			t.Errorf("protocol %d: a client of the published port got to %s", proto, got.To())
		}
	}
	// Also where masquerade may use the range that they lie in, to its last port:
	// what is an endpoint's own by its hash, and what is found when that is taken.
	busy.Set(header.ProtoUDP, 8081)
	l.Config.MasqueradePorts = []dataplane.PortRange{{First: 8072, Last: 8087}}
	l.Install()
	for run := range 50 {
		l.Switch.FlushConns(func(dataplane.ConnInfo) bool { return true })
		for sport := range uint16(14) {
			l.Send("c2", UDP("c2", uint16(9000+100*run)+sport, World+":4000", "x"))
			if got := See(t, l.Expect("up")); got.SrcPort == 8080 || got.SrcPort == 8081 {
				t.Fatalf("a flow left as port %d, a listener's", got.SrcPort)
			}
		}
	}
}
