package dataplane_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// guarded is a Lab whose containers are held to their addresses.
func guarded(t testing.TB) *Lab {
	t.Helper()
	l := New(t)
	l.Guard()
	return l
}

// A guarded port has its pinned station and no other: a frame of another source
// is dropped, never learned, and told of.
func TestL04L06PinnedMAC(t *testing.T) {
	for _, tc := range []struct {
		name string
		src  header.MAC
		dst  header.MAC
		kind dataplane.EventKind
	}{
		{"a stranger's", stranger, MAC("c3"), dataplane.EventSpoof},
		{"another container's", MAC("c1"), MAC("c3"), dataplane.EventSpoof},
		{"another container's, broadcast", MAC("c1"), header.Broadcast, dataplane.EventSpoof},
		{"the gateway's", MAC("host1"), MAC("c3"), dataplane.EventSpoof},
		{"the gateway's, broadcast", MAC("host1"), header.Broadcast, dataplane.EventSpoof},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := guarded(t)
			before := len(l.Switch.FDB())
			for range 100 {
				l.Send("c2", l2(tc.dst, tc.src, "spoof"))
			}
			l.ExpectDrop("c2", dataplane.DropSpoofedMAC, 100)
			l.Advance(time.Second)
			if after := len(l.Switch.FDB()); after != before {
				t.Errorf("FDB has %d entries, want %d as before", after, before)
			}
			if len(l.Events) != 1 || l.Events[0].Kind != tc.kind || l.Events[0].Port != l.Port("c2") || l.Events[0].MAC != tc.src {
				t.Errorf("events %+v, want one %v", l.Events, tc.kind)
			}
			if tc.src == MAC("c1") && l.Events[0].Other != l.Port("c1") {
				t.Errorf("the event names port %d as the owner's, want %d", l.Events[0].Other, l.Port("c1"))
			}
			l.Send("c3", l2(MAC("c1"), MAC("c3"), "still there"))
			l.Expect("c1")
		})
	}
}

// The event comes again after ten seconds, not with every frame.
func TestL06EventsAreBounded(t *testing.T) {
	l := guarded(t)
	for range 35 {
		l.Send("c2", l2(MAC("c3"), stranger, "spoof"))
		l.Advance(time.Second)
	}
	if len(l.Events) != 4 {
		t.Errorf("%d events in 35 s, want 4", len(l.Events))
	}
}

// Only ARP that speaks for the sender's own address, or a probe, passes.
func TestL10ARPGuard(t *testing.T) {
	c1, c2, c3 := MAC("c1"), MAC("c2"), MAC("c3")
	for _, tc := range []struct {
		name string
		f    []byte
		want dataplane.DropReason
	}{
		{"reply for another", ARP(c3, c2, 2, c2, "10.1.0.11", c3, "10.1.0.13"), dataplane.DropSpoofedARP},
		{"reply for the gateway", ARP(c3, c2, 2, c2, "10.1.0.1", c3, "10.1.0.13"), dataplane.DropSpoofedARP},
		{"reply with another sender MAC", ARP(c3, c2, 2, c1, "10.1.0.12", c3, "10.1.0.13"), dataplane.DropSpoofedARP},
		{"announcement for another", ARP(header.Broadcast, c2, 1, c2, "10.1.0.11", header.MAC{}, "10.1.0.11"), dataplane.DropSpoofedARP},
		{"gratuitous reply for another", ARP(header.Broadcast, c2, 2, c2, "10.1.0.11", header.Broadcast, "10.1.0.11"), dataplane.DropSpoofedARP},
		{"request as the gateway", ARP(header.Broadcast, c2, 1, c2, "10.1.0.1", header.MAC{}, "10.1.0.13"), dataplane.DropSpoofedARP},
		{"reply from nobody", ARP(c3, c2, 2, c2, "0.0.0.0", c3, "10.1.0.13"), dataplane.DropSpoofedARP},
		{"of other hardware", Ethernet(c3, c2, header.TypeARP, append([]byte{0, 6, 8, 0, 6, 4, 0, 2}, make([]byte, 20)...)), dataplane.DropUnreadable},
		{"probe", ARP(header.Broadcast, c2, 1, c2, "0.0.0.0", header.MAC{}, "10.1.0.99"), dataplane.NotDropped},
		{"own announcement", ARP(header.Broadcast, c2, 1, c2, "10.1.0.12", header.MAC{}, "10.1.0.12"), dataplane.NotDropped},
		{"own reply", ARP(c3, c2, 2, c2, "10.1.0.12", c3, "10.1.0.13"), dataplane.NotDropped},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := guarded(t)
			l.Send("c2", tc.f)
			if tc.want != dataplane.NotDropped {
				l.ExpectDrop("c2", tc.want, 1)
			} else if len(l.Got("c3")) != 1 {
				t.Errorf("c3 got nothing; drops %s", l.Drops())
			}
		})
	}
}

// Neighbour discovery speaks for the sender's own addresses only.
func TestL11NDGuard(t *testing.T) {
	c1, c2 := MAC("c1"), MAC("c2")
	const all = "ff02::1"
	na := func(src, dst, target string, mac header.MAC) []byte {
		return ND(GroupMAC(all), c2, src, dst, header.ICMP6NeighborAdvert, target, 2, mac)
	}
	ns := func(src, target string, mac header.MAC) []byte {
		return ND(GroupMAC("ff02::1:ff00:99"), c2, src, "ff02::1:ff00:99", header.ICMP6NeighborSolicit, target, 1, mac)
	}
	ll := LinkLocal(c2)
	hops := na(IPv6("c2"), all, IPv6("c2"), c2)
	hops[header.EthernetLen+7] = 64
	for _, tc := range []struct {
		name string
		f    []byte
		want dataplane.DropReason
	}{
		{"override for another", na(IPv6("c2"), all, IPv6("c1"), c2), dataplane.DropSpoofedND},
		{"override for the gateway", na(IPv6("c2"), all, IPv6("host1"), c2), dataplane.DropSpoofedND},
		{"another's link-local address", na(ll, all, LinkLocal(c1), c2), dataplane.DropSpoofedND},
		{"answer to everybody's DAD", na(ll, all, "fd00:1::77", c2), dataplane.DropSpoofedND},
		{"own address at another MAC", na(ll, all, IPv6("c2"), c1), dataplane.DropSpoofedND},
		{"from another's address", na(IPv6("c1"), all, IPv6("c2"), c2), dataplane.DropSpoofedIP},
		{"spoofed SLLAO", ns(IPv6("c2"), "fd00:1::99", c1), dataplane.DropSpoofedND},
		{"DAD for another's address", ns("::", IPv6("c1"), header.MAC{}), dataplane.DropSpoofedND},
		{"DAD with a link address", ns("::", IPv6("c2"), c2), dataplane.DropSpoofedND},
		{"router solicitation with another's MAC", ND(GroupMAC("ff02::2"), c2, ll, "ff02::2", header.ICMP6RouterSolicit, "", 1, c1), dataplane.DropSpoofedND},
		{"not from this link", hops, dataplane.DropSpoofedND},
		{"own advertisement", na(IPv6("c2"), all, IPv6("c2"), c2), dataplane.NotDropped},
		{"own link-local address", na(ll, all, ll, c2), dataplane.NotDropped},
		{"own DAD", ns("::", IPv6("c2"), header.MAC{}), dataplane.NotDropped},
		{"own DAD, link-local", ns("::", ll, header.MAC{}), dataplane.NotDropped},
		{"question for an unknown one", ns(IPv6("c2"), "fd00:1::99", c2), dataplane.NotDropped},
		{"router solicitation", ND(GroupMAC("ff02::2"), c2, ll, "ff02::2", header.ICMP6RouterSolicit, "", 1, c2), dataplane.NotDropped},
		{"router solicitation of an unready station", ND(GroupMAC("ff02::2"), c2, "::", "ff02::2", header.ICMP6RouterSolicit, "", 0, header.MAC{}), dataplane.NotDropped},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := guarded(t)
			l.Send("c2", tc.f)
			if tc.want != dataplane.NotDropped {
				l.ExpectDrop("c2", tc.want, 1)
			} else if len(l.Got("c3")) != 1 {
				t.Errorf("c3 got nothing; drops %s", l.Drops())
			}
		})
	}
}

// extend puts extension headers of eight bytes each in front of a message.
func extend(next uint8, payload []byte, kinds ...uint8) (uint8, []byte) {
	for _, k := range slices.Backward(kinds) {
		h := []byte{next, 0, 1, 4, 0, 0, 0, 0} // PadN
		payload, next = append(h, payload...), k
	}
	return next, payload
}

// split6 makes two fragments of a payload, the first with n bytes.
func split6(next uint8, payload []byte, n int) (first, second []byte) {
	frag := func(offset uint16, more uint16, p []byte) []byte {
		h := []byte{next, 0, 0, 0, 0, 0, 0, 7}
		binary.BigEndian.PutUint16(h[2:], offset|more)
		return append(h, p...)
	}
	return frag(0, 1, payload[:n]), frag(uint16(n), 0, payload[n:])
}

// Router advertisements and redirects do not pass, wherever they hide (RFC
// 6105, RFC 7113, RFC 7112).
func TestL12RAGuard(t *testing.T) {
	const hop, dest, fragment, routing = 0, 60, 44, 43
	src, dst := LinkLocal(MAC("c2")), "ff02::1"
	ra := ICMPv6(src, dst, header.ICMP6RouterAdvert, make([]byte, 12))
	redirect := ICMPv6(src, dst, header.ICMP6Redirect, make([]byte, 36))
	packet := func(next uint8, payload []byte) []byte {
		return V6(GroupMAC(dst), MAC("c2"), src, dst, next, 255, payload)
	}
	many := make([]uint8, 7)
	for i := range many {
		many[i] = dest
	}
	inFragment := func(next uint8, payload []byte) []byte {
		first, _ := split6(next, append(payload, make([]byte, 16)...), len(payload)&^7)
		return packet(fragment, first)
	}
	// The headers fill the first fragment; the advertisement begins the second.
	next, hidden := extend(header.ProtoICMPv6, ra, dest, dest)
	tiny, rest := split6(next, append(hidden, 0, 0, 0, 0), 16)
	routed := packet(routing, append([]byte{header.ProtoICMPv6, 0, 4, 1, 0, 0, 0, 0}, ra...))
	atomic := packet(fragment, append([]byte{header.ProtoICMPv6, 0, 0, 0, 0, 0, 0, 9}, ra...))
	for _, tc := range []struct {
		name string
		f    []byte
		want dataplane.DropReason
	}{
		{"plain", packet(header.ProtoICMPv6, ra), dataplane.DropRouterMessage},
		{"redirect", packet(header.ProtoICMPv6, redirect), dataplane.DropRouterMessage},
		{"hop-by-hop", packet(extend(header.ProtoICMPv6, ra, hop)), dataplane.DropRouterMessage},
		{"destination options", packet(extend(header.ProtoICMPv6, ra, dest)), dataplane.DropRouterMessage},
		{"seven destination options", packet(extend(header.ProtoICMPv6, ra, many...)), dataplane.DropRouterMessage},
		{"redirect behind both", packet(extend(header.ProtoICMPv6, redirect, hop, dest)), dataplane.DropRouterMessage},
		{"more headers than anyone reads", packet(extend(header.ProtoICMPv6, ra, append(many, dest, dest)...)), dataplane.DropMalformed},
		{"atomic fragment", atomic, dataplane.DropRouterMessage},
		{"first fragment", inFragment(header.ProtoICMPv6, ra), dataplane.DropRouterMessage},
		{"first fragment without the message", packet(fragment, tiny), dataplane.DropMalformed},
		{"behind a source route", routed, dataplane.DropUnreadable},
		{"cut", packet(header.ProtoICMPv6, ra[:4]), dataplane.DropMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := guarded(t)
			l.Send("c2", tc.f)
			l.ExpectDrop("c2", tc.want, 1)
		})
	}
	t.Run("a second fragment without its first is nothing", func(t *testing.T) {
		l := guarded(t)
		l.Send("c2", packet(fragment, tiny))
		l.Send("c2", packet(fragment, rest))
		for _, f := range l.Got("c1") {
			var ls header.Layers
			if !header.Parse(f, &ls) || ls.Flags&header.FlagFragment == 0 || ls.L4 != 0 {
				t.Errorf("c1 got %s", Describe(f))
			}
		}
	})
	t.Run("of the host passes", func(t *testing.T) {
		l := guarded(t)
		src := LinkLocal(MAC("host1"))
		l.Send("host1", V6(GroupMAC(dst), MAC("host1"), src, dst, header.ProtoICMPv6, 255, ICMPv6(src, dst, header.ICMP6RouterAdvert, make([]byte, 12))))
		if len(l.Got("c1")) != 1 {
			t.Errorf("dropped: %s", l.Drops())
		}
	})
}

// Containers are no DHCP servers (RFC 7610); as clients they are bounded.
func TestL13DHCPGuard(t *testing.T) {
	offer := Bytes(Packet{EthSrc: MAC("c2"), EthDst: header.Broadcast, Src: "10.1.0.12:67", Dst: "255.255.255.255:68", Proto: header.ProtoUDP, Payload: make([]byte, 240)})
	discover := Bytes(Packet{EthSrc: MAC("c2"), EthDst: header.Broadcast, Src: "0.0.0.0:68", Dst: "255.255.255.255:67", Proto: header.ProtoUDP, Payload: make([]byte, 240)})
	udp6 := func(sport, dport byte) []byte { return []byte{2, sport, 2, dport, 0, 12, 0, 0, 2, 0, 0, 0} }
	c2, ll := MAC("c2"), LinkLocal(MAC("c2"))
	reply6 := V6(MAC("c1"), c2, ll, LinkLocal(MAC("c1")), header.ProtoUDP, 64, udp6(0x23, 0x22)) // 547 to 546
	next, hidden := extend(header.ProtoUDP, udp6(0x23, 0x22), 60)
	for name, f := range map[string][]byte{
		"offer": offer, "DHCPv6 reply": reply6, "behind options": V6(MAC("c1"), c2, ll, LinkLocal(MAC("c1")), next, 64, hidden),
		"from another port": V6(MAC("c1"), c2, ll, LinkLocal(MAC("c1")), header.ProtoUDP, 64, udp6(0, 0x22)),
	} {
		t.Run(name, func(t *testing.T) {
			l := guarded(t)
			l.Send("c2", f)
			l.ExpectDrop("c2", dataplane.DropDHCPServer, 1)
		})
	}
	t.Run("unreadable", func(t *testing.T) {
		l := guarded(t)
		l.Send("c2", V6(MAC("c1"), c2, ll, LinkLocal(MAC("c1")), 43, 64, append([]byte{header.ProtoUDP, 0, 4, 1, 0, 0, 0, 0}, udp6(0x23, 0x22)...)))
		l.ExpectDrop("c2", dataplane.DropUnreadable, 1)
	})
	t.Run("starvation is bounded", func(t *testing.T) {
		l := guarded(t)
		for i := range 10000 {
			binary.BigEndian.PutUint32(discover[70:], uint32(i)) // chaddr
			l.Send("c2", discover)
		}
		if got := len(l.Got("c1")); got != 2000 {
			t.Errorf("%d of 10000 were flooded, want the burst of 2000", got)
		}
	})
}

// What a container sends comes from an address that it was given (BCP 38).
func TestL14SourceGuard(t *testing.T) {
	v4 := func(src, dst string, mac header.MAC) []byte {
		return Bytes(Packet{EthSrc: MAC("c2"), EthDst: mac, Src: src, Dst: dst, Proto: header.ProtoUDP, Payload: []byte("x")})
	}
	v6 := func(src, dst string, mac header.MAC) []byte {
		return V6(mac, MAC("c2"), src, dst, header.ProtoUDP, 64, []byte{1, 1, 1, 2, 0, 8, 0, 0})
	}
	targets := map[string]func(src string) []byte{
		"neighbour": func(s string) []byte { return v4(s+":53", "10.1.0.13:53", MAC("c3")) },
		"network 2": func(s string) []byte { return v4(s+":53", "10.2.0.11:53", MAC("host1")) },
		"world":     func(s string) []byte { return v4(s+":53", World+":53", MAC("host1")) },
		"gateway":   func(s string) []byte { return v4(s+":53", "10.1.0.1:53", MAC("host1")) },
		"published": func(s string) []byte { return v4(s+":53", HostAddr+":8080", MAC("host1")) },
		"broadcast": func(s string) []byte { return v4(s+":53", "255.255.255.255:53", header.Broadcast) },
	}
	for where, to := range targets {
		for _, src := range []string{"10.1.0.11", HostAddr, "127.0.0.1", "10.1.0.1", "10.2.0.11", "0.0.0.0", "224.0.0.1", "255.255.255.255", "10.1.0.99"} {
			t.Run(src+" to "+where, func(t *testing.T) {
				l := guarded(t)
				l.Publish(8080, "c1", 80)
				l.Send("c2", to(src))
				l.ExpectDrop("c2", dataplane.DropSpoofedIP, 1)
			})
		}
	}
	for _, src := range []string{"fd00:1::11", "fd00:1::1", "fd00:1::99", "::", "::1", "fe80::1", LinkLocal(MAC("c1")), "ff02::1"} {
		t.Run(src, func(t *testing.T) {
			l := guarded(t)
			l.Send("c2", v6(src, IPv6("c3"), MAC("c3")))
			l.ExpectDrop("c2", dataplane.DropSpoofedIP, 1)
		})
	}
	t.Run("own", func(t *testing.T) {
		l := guarded(t)
		l.Send("c2", targets["neighbour"]("10.1.0.12"))
		l.Expect("c3")
		l.Send("c2", targets["world"]("10.1.0.12"))
		l.Expect("up")
		l.Send("c2", v6(IPv6("c2"), IPv6("c3"), MAC("c3")))
		l.Expect("c3")
		l.Send("c2", v6(LinkLocal(MAC("c2")), LinkLocal(MAC("c3")), MAC("c3")))
		l.Expect("c3")
		// A further address of the same port.
		l.Config.Stations = append(l.Config.Stations, dataplane.StationConfig{Addr: netip.MustParseAddr("10.1.0.99"), Network: 1, MAC: MAC("c2"), Port: l.Port("c2")})
		l.Install()
		l.Send("c2", targets["neighbour"]("10.1.0.99"))
		l.Expect("c3")
	})
	t.Run("no address of a family", func(t *testing.T) {
		l := guarded(t)
		l.Config.Stations = slices.DeleteFunc(l.Config.Stations, func(h dataplane.StationConfig) bool { return h.Port == l.Port("c2") && h.Addr.Is6() })
		l.Install()
		l.Send("c2", v6("::", IPv6("c3"), MAC("c3")))
		l.ExpectDrop("c2", dataplane.DropSpoofedIP, 1)
	})
	t.Run("guard off", func(t *testing.T) {
		l := guarded(t)
		l.Configure("c2", func(p *dataplane.PortConfig) { p.Guarded = false })
		l.Send("c2", targets["neighbour"]("10.99.0.1"))
		l.Expect("c3")
	})
}
