package dataplane_test

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A container that sends from the port of a listener, published or the host's
// own, gets another outside port, and the listener keeps its clients.
func TestC24PortShadow(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	busy := new(conntrack.BusyPorts)
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
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 8072, Last: 8087}}
	l.Install()
	for run := range 50 {
		l.Switch.FlushConns(conntrack.Selector{})
		for sport := range uint16(14) {
			l.Send("c2", UDP("c2", uint16(9000+100*run)+sport, World+":4000", "x"))
			if got := See(t, l.Expect("up")); got.SrcPort == 8080 || got.SrcPort == 8081 {
				t.Fatalf("a flow left as port %d, a listener's", got.SrcPort)
			}
		}
	}
}

// TestOvertakenPort: a program of the host binds the UDP port that an endpoint leaves from.
// Every flow of the endpoint ends, or the next one would keep the port; what other
// endpoints have goes on.
func TestOvertakenPort(t *testing.T) {
	for _, f := range Families {
		l := New(t)
		l.DualStack()
		l.PublishFamily(f, 8080, "c2", 80)
		send := func(c, to string) uint16 {
			l.Send(c, f.From(c, 5000, to, Packet{Proto: header.ProtoUDP, Payload: []byte("x")}))
			at := "up"
			if to == f.At(f.Host, 8080) {
				at = "c2"
			}
			return See(t, l.Expect(at)).SrcPort
		}
		port := send("c1", f.At(f.World, 53))
		if got := send("c1", f.At(f.Host, 8080)); got != port {
			t.Fatalf("%s: a hairpin flow leaves from port %d, a masqueraded one from %d", f.Name, got, port)
		}
		other := send("c3", f.At(f.World, 53))
		busy := new(conntrack.BusyPorts)
		busy.Set(header.ProtoUDP, port)
		busy.Set(header.ProtoUDP, other)
		busy.Reach(header.ProtoUDP, port)
		l.Switch.SetBusyPorts(busy)
		if n := len(l.Switch.Conns()); n != 1 {
			t.Errorf("%s: %d flows are left, want that of the other endpoint", f.Name, n)
		}
		for _, to := range []string{f.At(f.Host, 8080), f.At(f.World, 53)} {
			if got := send("c1", to); got == port {
				t.Errorf("%s: the flow to %s still leaves from the port of the host", f.Name, to)
			}
		}
		if got := send("c3", f.At(f.World, 53)); got != other {
			t.Errorf("%s: the other endpoint leaves from %d, was %d", f.Name, got, other)
		}
	}
}
