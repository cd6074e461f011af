package dataplane_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// ourAddresses are those that nobody beyond an uplink speaks from: of a container, of nobody
// in a network's subnet, of a gateway and of the uplink itself.
func ourAddresses(f Family) []string {
	nobody := "10.2.0.77"
	if f.ICMP == header.ProtoICMPv6 {
		nobody = "fd00:2::77"
	}
	return []string{f.Addr("c2"), f.Addr("c5"), nobody, f.Addr("host1"), f.Host}
}

// TestS36ForgedSource: a packet by an uplink whose source address is ours enters no flow, no
// published port and no network, whole or in pieces, and quotes nothing; each is counted and
// told as what it is.
func TestS36ForgedSource(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		l.Policy[0].Modes = [2]policy.GatewayMode{policy.GatewayRouted, policy.GatewayRouted}
		l.PublishFamily(f, 8080, "c1", 80)
		l.Send("c4", f.Flow(header.ProtoUDP, "c4", 5000, f.At(f.World, 443)))
		flow := See(t, l.Expect("up"))
		n := uint64(0)
		send := func(p Packet) {
			p.EthSrc, p.EthDst = NextHopMAC, MAC("up")
			b := Bytes(p)
			l.Send("up", b)
			n++
			if f.ICMP == header.ProtoICMP && p.Proto == header.ProtoUDP {
				for _, piece := range Fragment(b, 8) {
					l.Send("up", piece)
					n++
				}
			}
		}
		for _, src := range ourAddresses(f) {
			for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
				for _, to := range []string{f.At(f.Host, 8080), f.At("c1", 80), flow.From()} {
					send(Packet{Src: f.At(src, 443), Dst: to, Proto: proto, Flags: SYN, Payload: []byte("forged datagram")})
				}
			}
			quoted := Bytes(Packet{EthSrc: MAC("up"), EthDst: NextHopMAC, Src: flow.From(), Dst: flow.To(), Proto: header.ProtoUDP, Payload: []byte("hello")})
			send(Packet{Src: src, Dst: f.Host, Proto: f.ICMP, Type: map[uint8]uint8{header.ProtoICMP: 3, header.ProtoICMPv6: 1}[f.ICMP], Code: 0, Payload: quoted[header.EthernetLen:]})
			send(Packet{Src: src, Dst: f.Addr("c1"), Proto: f.ICMP, Type: f.EchoRequest})
		}
		l.ExpectNothing()
		l.ExpectDrop("up", dataplane.DropForgedSource, n)
		l.Advance(time.Second)
		if got := kinds(l); !slices.Equal(got, []string{"forged-source"}) {
			t.Errorf("events %q, want one forged-source", got)
		}
		l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: flow.To(), Dst: flow.From(), Proto: header.ProtoUDP, Payload: []byte("answer")}))
		l.Expect("c4")
	})
}

// TestS36AddressThatBecameOurs: the far end of a flow becomes an address of the host; from
// then on what comes from it by an uplink is forged, also in this flow, also where the kernel
// carries it.
func TestS36AddressThatBecameOurs(t *testing.T) {
	EachFamily(t, func(t *testing.T, _ *Lab, f Family) {
		l, k := NewWithKernel(t, 64, 64)
		l.DualStack()
		l.Interfaces()
		l.Send("c4", f.Flow(header.ProtoUDP, "c4", 5000, f.At(f.World, 443)))
		flow := See(t, l.Expect("up"))
		answer := Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: flow.To(), Dst: flow.From(), Proto: header.ProtoUDP, Payload: []byte("answer")})
		for range 30 {
			l.Send("c4", f.Flow(header.ProtoUDP, "c4", 5000, f.At(f.World, 443)))
			l.Send("up", answer)
		}
		l.Switch.StepFlows()
		if len(k.Keys) == 0 {
			t.Fatal("the kernel does not carry the flow")
		}
		for _, name := range everybody {
			l.Got(name)
		}
		ours := netip.MustParseAddr(f.World)
		l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.PrefixFrom(ours, ours.BitLen()), Kind: dataplane.RouteLocal})
		l.Install()
		for key := range k.Keys {
			if key.Side == 0 {
				t.Errorf("the kernel still carries what comes from %v", key.Src)
			}
		}
		l.Send("up", answer)
		l.ExpectNothing()
		l.ExpectDrop("up", dataplane.DropForgedSource, 1)
	})
}
