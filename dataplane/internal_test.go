package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestS79InternalNetworks: a container of an internal network reaches a port that another
// network has published where the outside does, from an address of the host, and no other
// way; nothing of the outside reaches it, in any mode.
func TestS79InternalNetworks(t *testing.T) {
	for _, mode := range []policy.GatewayMode{policy.GatewayNAT, policy.GatewayRouted} {
		EachFamily(t, func(t *testing.T, l *Lab, f Family) {
			l.Policy[2].Modes = [2]policy.GatewayMode{mode, mode}
			l.Policy[2].Filter, l.Policy[1].Filter = policy.FilterEIF, policy.FilterEIF
			l.Policy[2].Exempt = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
			l.PublishFamily(f, 8080, "c4", 80)
			at := func(host string, port uint16) { // published at one address of the host only
				a := netip.MustParseAddr(host)
				l.Config.Publish = append(l.Config.Publish, dataplane.PublishConfig{Proto: header.ProtoUDP, HostAddr: header.AddrFrom(a), HostFirst: port, HostLast: port, ContainerAddr: header.AddrFrom(netip.MustParseAddr(f.Addr("c4"))), ContainerFirst: 80})
				l.Install()
			}
			at(f.Host, 8083)
			at(f.Addr("host2"), 8085)
			at(f.Addr("host3"), 8086)
			for _, port := range []uint16{8080, 8083, 8084} {
				l.Send("up", inbound(header.ProtoUDP, f.At(f.World, 5000), f.At("up", port)))
				outside := len(l.Got("c4"))
				l.Send("c5", f.Flow(header.ProtoUDP, "c5", 5000, f.At("up", port)))
				inside := l.Got("c4")
				if len(inside) != outside {
					t.Errorf("port %d: %d datagrams of the outside arrive, %d of an internal network", port, outside, len(inside))
				}
				for _, b := range inside {
					s := See(t, b)
					if s.Src.NetIP() != netip.MustParseAddr(f.Host) {
						t.Errorf("port %d: arrives from %s, want the host's address", port, s.From())
					}
					l.Send("c4", f.From("c4", 80, s.From(), Packet{Proto: header.ProtoUDP, Payload: []byte("answer")}))
					if got := See(t, l.Expect("c5")); got.From() != f.At("up", port) {
						t.Errorf("port %d: answered by %s", port, got.From())
					}
				}
				l.Got("host3")
			}
			// Its own gateway has what is published at every address, no other gateway does.
			for i, tc := range []struct {
				dst     string
				arrives int
			}{{f.At("host3", 8080), 1}, {f.At("host2", 8080), 0}, {f.At("host2", 8085), 0}, {f.At("host3", 8086), 0}} {
				l.Send("c5", f.Flow(header.ProtoUDP, "c5", uint16(5010+i), tc.dst))
				if got := l.Got("c4"); len(got) != tc.arrives {
					t.Errorf("to %s: %d datagrams arrive, want %d", tc.dst, len(got), tc.arrives)
				}
				l.Send("c4", f.Flow(header.ProtoUDP, "c4", uint16(5020+i), tc.dst))
				if got := l.Got("c4"); len(got) != 1 {
					t.Errorf("to %s of a network with a way out: %d datagrams arrive", tc.dst, len(got))
				}
				l.Got("c5") // refusals
			}
			// A mapping of c4 that strangers may use is none for c5, nor is its own address.
			l.Send("c4", f.Flow(header.ProtoUDP, "c4", 7000, f.At(f.World, 53)))
			mapping := See(t, l.Expect("up")).From()
			for _, dst := range []string{mapping, f.At("c4", 80), f.At("c1", 80), f.At(f.World, 80), f.At("host2", 80)} {
				l.Send("c5", f.Flow(header.ProtoUDP, "c5", 5001, dst))
				l.Got("host3") // the host's own services
				for _, name := range everybody {
					if got := l.Got(name); len(got) > 0 && name != "c5" {
						t.Errorf("to %s: %s got %s", dst, name, Describe(got[0]))
					}
				}
			}
			for _, p := range []Packet{
				{Proto: header.ProtoUDP, Src: f.At(f.World, 53), Dst: f.At("c5", 80)}, {Proto: header.ProtoTCP, Flags: SYN, Src: f.At(f.World, 53), Dst: f.At("c5", 80)},
				{Proto: f.ICMP, Type: f.EchoRequest, ID: 1, Src: f.World, Dst: f.Addr("c5")},
			} {
				p.EthSrc, p.EthDst = NextHopMAC, MAC("up")
				l.Send("up", Bytes(p))
				for _, name := range everybody {
					if got := l.Got(name); len(got) > 0 {
						t.Errorf("%s to c5: %s got %s", p.Src, name, Describe(got[0]))
					}
				}
			}
		})
	}
}
