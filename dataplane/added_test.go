package dataplane_test

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// A container without the guard goes out with an address that it has added, and gets the answers;
// with the guard it does not, and no address of another network's or of a neighbour's leaves so.
func TestAddedAddressGoesOut(t *testing.T) {
	const vip = "10.1.0.200"
	for _, proto := range portProtos {
		l := New(t)
		from := func(src string) []byte {
			p := From("c1", web, Packet{Src: src + ":4000", Proto: proto, Flags: SYN})
			return Bytes(p)
		}
		l.Send("c1", from(vip))
		out := See(t, l.Expect("up"))
		if out.Src.NetIP().String() != HostAddr {
			t.Fatalf("it left as %s", out.From())
		}
		l.Send("up", Inbound(proto, web, out.From(), SYN|ACK, ""))
		if got := See(t, l.Expect("c1")); got.To() != vip+":4000" {
			t.Errorf("the answer goes to %s", got.To())
		}
		l.Config.Revision++
		l.Install()
		l.Send("up", Inbound(proto, web, out.From(), ACK, ""))
		l.Expect("c1") // after a snapshot, too
		l.Send("c1", from("10.2.0.200"))
		l.ExpectNothing()
		for i := range l.Config.Ports {
			l.Config.Ports[i].Guarded = l.Config.Ports[i].Kind == dataplane.PortContainer
		}
		l.Install()
		l.Send("c1", from(vip))
		l.ExpectDrop("c1", dataplane.DropSpoofedIP, 1)
		l.Send("up", Inbound(proto, web, out.From(), ACK, ""))
		l.ExpectNothing()
	}
	_ = header.ProtoTCP
}
