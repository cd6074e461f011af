package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// linked is a dual-stack Lab with the routes that control adds: link-local destinations
// lead nowhere, cloud services by the default route.
func linked(t *testing.T) *Lab {
	t.Helper()
	l := New(t)
	l.DualStack()
	p := netip.MustParsePrefix
	l.Config.Routes = append(l.Config.Routes,
		dataplane.RouteConfig{Prefix: p("169.254.0.0/16")},
		dataplane.RouteConfig{Prefix: p("169.254.169.0/24"), Kind: dataplane.RouteUplink, Uplink: l.Port("up"), Via: netip.MustParseAddr(NextHop), Source: netip.MustParseAddr(HostAddr)},
	)
	l.Install()
	return l
}

// S-78 on the way: a container reaches no link-local address beyond its own link, by any
// protocol, and nobody comes in from one. Metadata is reached and answers; the host's own
// link-local address on the network is.
func TestS78LinkLocalStaysOnItsLink(t *testing.T) {
	udp := func(src, dst string) []byte {
		return Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: src, Dst: dst, Proto: header.ProtoUDP, Payload: []byte("x")})
	}
	ll, there := LinkLocal(MAC("c1")), "fe80::c4bf:44ff:fe00:7f04"
	for name, f := range map[string][]byte{
		"IPv6, global source":     udp("[fd00:1::11]:5000", "["+there+"]:80"),
		"IPv6, link-local source": udp("["+ll+"]:5000", "["+there+"]:80"),
		"IPv6 TCP":                Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: "[fd00:1::11]:5000", Dst: "[" + there + "]:80", Proto: header.ProtoTCP, Flags: SYN}),
		"IPv6, end of the prefix": udp("[fd00:1::11]:5000", "[febf::1]:80"),
		"IPv6, from there out":    udp("["+ll+"]:5000", "[2001:db8:9::9]:80"),
		"IPv4":                    udp("10.1.0.11:5000", "169.254.7.7:80"),
		"IPv4 ping":               Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: "10.1.0.11", Dst: "169.254.7.7", Proto: header.ProtoICMP, Type: 8, ID: 1}),
		"IPv4, from there out":    udp("169.254.7.7:5000", World+":80"),
		"GRE":                     Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: "10.1.0.11", Dst: "169.254.7.7", Proto: 47, Payload: []byte("xxxx")}),
	} {
		l := linked(t)
		l.Send("c1", f)
		for _, at := range everybody {
			if got := l.Got(at); at != "c1" && len(got) > 0 {
				t.Errorf("%s: %s got %s", name, at, Describe(got[0]))
			}
		}
	}
	t.Run("from outside", func(t *testing.T) {
		l := linked(t)
		l.Publish(8080, "c1", 80)
		l.PublishFamily(Families[1], 8080, "c1", 80)
		for i, src := range []string{"169.254.7.7:5000", "[" + there + "]:5000"} {
			dst := []string{HostAddr + ":8080", "[2001:db8::1]:8080"}[i]
			l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: src, Dst: dst, Proto: header.ProtoUDP, Payload: []byte("x")}))
			l.ExpectDrop("up", dataplane.DropMartian, uint64(i+1))
		}
	})
	t.Run("from a link that the host routes", func(t *testing.T) {
		l := linked(t)
		l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{
			Prefix: netip.MustParsePrefix("169.254.7.0/24"), Kind: dataplane.RouteUplink, Uplink: l.Port("up"), Source: netip.MustParseAddr(HostAddr)})
		l.Publish(8080, "c1", 80)
		l.Send("up", Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: "169.254.7.7:5000", Dst: HostAddr + ":8080", Proto: header.ProtoUDP, Payload: []byte("x")}))
		l.Expect("c1")
	})
	t.Run("metadata", func(t *testing.T) {
		l := linked(t)
		l.Send("c1", TCP("c1", 5000, "169.254.169.254:80", SYN, ""))
		out := See(t, l.Expect("up"))
		l.Send("up", Inbound(header.ProtoTCP, "169.254.169.254:80", out.From(), SYN|ACK, ""))
		l.Expect("c1")
	})
	t.Run("the host on the link", func(t *testing.T) {
		for _, src := range []string{ll, "fd00:1::11"} {
			l := linked(t)
			at := LinkLocal(MAC("host1"))
			l.Send("c1", udp(fmt.Sprintf("[%s]:5000", src), fmt.Sprintf("[%s]:53", at)))
			l.Expect("host1")
			l.Policy[0].NoHostAccess = true
			l.Install()
			l.Send("c1", udp(fmt.Sprintf("[%s]:5000", src), fmt.Sprintf("[%s]:53", at)))
			if got := l.Got("host1"); len(got) > 0 {
				t.Errorf("from %s without host access: the host got %s", src, Describe(got[0]))
			}
		}
	})
	t.Run("the host's other addresses from the link", func(t *testing.T) {
		for _, at := range []string{"fd00:1::1", "2001:db8::1"} {
			l := linked(t)
			l.PublishFamily(Families[1], 8080, "c2", 80)
			l.Send("c1", udp("["+ll+"]:5000", "["+at+"]:53"))
			l.Expect("host1")
			l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: "[" + ll + "]:5000", Dst: "[" + at + "]:8080", Proto: header.ProtoTCP, Flags: SYN}))
			l.ExpectDrop("c1", dataplane.DropMartian, 1)
			l.Policy[0].NoHostAccess = true
			l.Install()
			l.Send("c1", udp("["+ll+"]:5000", "["+at+"]:53"))
			if got := l.Got("host1"); len(got) > 0 {
				t.Errorf("to %s without host access: the host got %s", at, Describe(got[0]))
			}
		}
	})
	t.Run("neighbour discovery without host access", func(t *testing.T) {
		l := linked(t)
		l.Policy[0].NoHostAccess = true
		l.Install()
		for _, host := range []string{LinkLocal(MAC("host1")), "fd00:1::1"} {
			for _, ct := range []string{ll, "fd00:1::11"} { // the host's kernel asks whether a neighbour is still there
				l.Send("host1", ND(MAC("c1"), MAC("host1"), host, ct, header.ICMP6NeighborSolicit, ct, 1, MAC("host1")))
				if f := l.Expect("c1"); f[header.EthernetLen+7] != 255 {
					t.Errorf("from %s to %s: hop limit %d", host, ct, f[header.EthernetLen+7])
				}
				l.Send("c1", ND(MAC("host1"), MAC("c1"), ct, host, header.ICMP6NeighborAdvert, ct, 2, MAC("c1")))
				if f := l.Expect("host1"); f[header.EthernetLen+7] != 255 {
					t.Errorf("from %s to %s: hop limit %d", ct, host, f[header.EthernetLen+7])
				}
			}
		}
	})
}
