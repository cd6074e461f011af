package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A flow that a container has opened to a published port of another ends with that one: its
// address may be the next container's, which publishes nothing. Flows to others go on.
func TestHairpinEndsWithItsTarget(t *testing.T) {
	for _, f := range Families {
		l := New(t)
		l.DualStack()
		l.PublishFamily(f, 8080, "c2", 80)
		l.PublishFamily(f, 9090, "c3", 80)
		for i, port := range []uint16{8080, 9090} {
			for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
				l.Send("c1", f.From("c1", 5000, f.At("up", port), Packet{Proto: proto, Flags: SYN, Payload: nil}))
				l.Expect([]string{"c2", "c3"}[i])
			}
		}
		gone := conntrack.Selector{Ports: []frame.PortID{frame.NoPort}, Targets: []netip.Addr{netip.MustParseAddr(f.Addr("c2"))}}
		if n := l.Switch.FlushConns(gone); n != 2 {
			t.Errorf("%s: %d flows ended with c2, want the 2 that were opened to it", f.Name, n)
		}
		if n := l.Switch.FlushConns(conntrack.Selector{}); n != 2 {
			t.Errorf("%s: %d flows are left, want 2", f.Name, n)
		}
	}
}
