package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// In an IPv4 network no IPv6 packet of a container reaches anybody: its peers
// would speak a protocol that no policy of the network covers.
func TestC02NoIPv6InAnIPv4Network(t *testing.T) {
	l := New(t)
	for _, c := range Corpus("c1") {
		if c.Frame[12] != 0x86 || c.Frame[13] != 0xdd {
			continue
		}
		l.Send("c1", c.Frame)
		for name := range Stations {
			if got := l.Got(name); len(got) > 0 {
				t.Errorf("%s: %s got %s", c.Name, name, Describe(got[0]))
			}
		}
	}
}

// What passes the host on its way elsewhere is not taken, although its port is
// published.
func TestC07TransitIsUntouched(t *testing.T) {
	l := New(t)
	l.Publish(53, "c1", 5353)
	for _, dst := range []string{World + ":53", "198.51.100.7:53"} {
		for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
			f := UDP("c2", 5000, dst, "query")
			if proto == header.ProtoTCP {
				f = TCP("c2", 5000, dst, SYN, "")
			}
			l.Neighbor("198.51.100.7", NextHopMAC)
			if dst == World+":53" {
				l.Neighbor(NextHop, NextHopMAC)
			}
			l.Send("c2", f)
			if got := See(t, l.Expect("up")); got.To() != dst {
				t.Errorf("a query for %s went to %s", dst, got.To())
			}
			l.Send("up", Inbound(proto, World+":4000", dst, SYN, "query"))
			l.ExpectNothing()
		}
	}
	l.Send("up", Inbound(header.ProtoUDP, World+":4000", HostAddr+":53", 0, "query"))
	if got := See(t, l.Expect("c1")); got.To() != "10.1.0.11:5353" {
		t.Errorf("a query for the host went to %s", got.To())
	}
}

// A mapping of one address wins over one of all, whichever stands first, and a
// range over a part of it.
func TestC08SpecificAddressWins(t *testing.T) {
	all := []dataplane.PublishConfig{
		{Proto: header.ProtoTCP, HostFirst: 8000, HostLast: 8100, ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations["c1"])), ContainerFirst: 8000},
		{Proto: header.ProtoTCP, HostAddr: header.AddrFrom(netip.MustParseAddr(HostAddr)), HostFirst: 8080, HostLast: 8080, ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations["c2"])), ContainerFirst: 80},
		{Proto: header.ProtoUDP, HostFirst: 8080, HostLast: 8080, ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations["c3"])), ContainerFirst: 80},
		{Proto: header.ProtoTCP, HostAddr: header.AddrFrom(netip.MustParseAddr("198.51.100.2")), HostFirst: 8080, HostLast: 8080, ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations["c3"])), ContainerFirst: 80},
	}
	permutations(len(all), func(order []int) {
		l := New(t)
		second := netip.MustParseAddr("198.51.100.2")
		third := netip.MustParseAddr("198.51.100.3")
		l.Config.Uplinks[0].Slots[second], l.Config.Uplinks[0].Slots[third] = 2, 3
		for _, a := range []netip.Addr{second, third} {
			l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.PrefixFrom(a, 32), Kind: dataplane.RouteLocal})
		}
		for _, i := range order {
			l.Config.Publish = append(l.Config.Publish, all[i])
		}
		l.Install()
		for dst, want := range map[string]string{
			HostAddr + ":8080":   "c2 10.1.0.12:80",
			HostAddr + ":8079":   "c1 10.1.0.11:8079",
			"198.51.100.2:8080":  "c3 10.1.0.13:80",
			"198.51.100.3:8080":  "c1 10.1.0.11:8080",
			"198.51.100.2:8100":  "c1 10.1.0.11:8100",
			"198.51.100.3:8101":  "",
			"198.51.100.99:8080": "",
		} {
			l.Send("up", Inbound(header.ProtoTCP, World+":4000", dst, SYN, ""))
			got := ""
			for name := range Stations {
				for _, f := range l.Got(name) {
					got += name + " " + See(t, f).To()
				}
			}
			if got != want {
				t.Errorf("order %v: %s went to %q, want %q", order, dst, got, want)
			}
		}
	})
}

func permutations(n int, fn func([]int)) {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var permute func(int)
	permute = func(k int) {
		if k == n {
			fn(order)
			return
		}
		for i := k; i < n; i++ {
			order[k], order[i] = order[i], order[k]
			permute(k + 1)
			order[k], order[i] = order[i], order[k]
		}
	}
	permute(0)
}

// What a payload says opens nothing and is not changed: active FTP with an
// extended command of 300 bytes, IRC, SIP, H.323, TFTP.
func TestC23C29C37NoGatewayForAnyProtocol(t *testing.T) {
	for _, tc := range []struct {
		proto   uint8
		port    string
		payload string
	}{
		{header.ProtoTCP, "21", "PORT 10,1,0,11,31,144\r\n"},
		{header.ProtoTCP, "21", "EPRT |1|10.1.0.11|8080|\r\n"},
		{header.ProtoTCP, "21", "229 Entering Extended Passive Mode (|||" + strings.Repeat("8", 300) + "|)\r\n"},
		{header.ProtoTCP, "6667", "PRIVMSG x :\x01DCC SEND a 167837707 8080 1\x01\r\n"},
		{header.ProtoTCP, "5060", "REGISTER sip:x SIP/2.0\r\nContact: <sip:a@10.1.0.11:8080;transport=tcp>\r\n\r\n"},
		{header.ProtoUDP, "5060", "INVITE sip:x SIP/2.0\r\nContact: <sip:a@10.1.0.11:8080>\r\n\r\nc=IN IP4 10.1.0.11\r\nm=audio 8080 RTP/AVP 0\r\n"},
		{header.ProtoTCP, "1720", "\x03\x00\x00\x20\x08\x02\x00\x01\x05\x0a\x01\x00\x0b\x1f\x90"},
		{header.ProtoUDP, "69", "\x00\x01file\x00octet\x00"},
		{header.ProtoTCP, "113", "8080, 113\r\n"},
	} {
		l := New(t)
		f := UDP("c1", 5000, World+":"+tc.port, tc.payload)
		if tc.proto == header.ProtoTCP {
			l.Send("c1", TCP("c1", 5000, World+":"+tc.port, SYN, ""))
			l.Expect("up")
			f = TCP("c1", 5000, World+":"+tc.port, ACK|PSH, tc.payload)
		}
		l.Send("c1", f)
		out := l.Expect("up")
		if !strings.Contains(string(out), tc.payload) {
			t.Errorf("port %s: the payload was changed: %q", tc.port, out)
		}
		e := See(t, out).SrcPort
		for _, dst := range []uint16{8080, 8081, e + 1} {
			for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
				l.Send("up", Inbound(proto, World+":20", fmt.Sprintf("%s:%d", HostAddr, dst), SYN, "in"))
				l.ExpectNothing()
			}
		}
		l.Send("up", Inbound(tc.proto, World+":20", fmt.Sprintf("%s:%d", HostAddr, e), SYN, "in")) // TFTP's other port
		l.ExpectNothing()
	}
}

// An error that quotes what was never sent changes nothing that can be seen: no
// frame leaves, no flow ends or is made.
func TestC25StrangersErrorChangesNothing(t *testing.T) {
	l := New(t)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	sent := l.Expect("up")
	before := fmt.Sprint(l.Switch.Conns())
	rng := rand.New(rand.NewSource(25))
	for range 1000 {
		quote := slices.Clone(sent)
		// Any of source port, destination address and port is wrong.
		at := []int{header.EthernetLen + 20, header.EthernetLen + 21, header.EthernetLen + 17, header.EthernetLen + 22, header.EthernetLen + 23}[rng.Intn(5)]
		quote[at] ^= byte(1 + rng.Intn(255))
		SumIPv4(quote)
		typ, code := uint8(3), []uint8{0, 1, 3, 4, 13}[rng.Intn(5)]
		l.Send("up", icmpError(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: "203.0.113.1", Dst: HostAddr}, typ, code, quote))
		l.ExpectNothing()
	}
	if after := fmt.Sprint(l.Switch.Conns()); after != before {
		t.Errorf("flows %s, before %s", after, before)
	}
}

// Lengths in an IPv4 header that contradict each other or the frame are dropped;
// bytes behind the packet are padding.
func TestC30LengthsThatContradict(t *testing.T) {
	l := New(t)
	for name, change := range map[string]func(ip []byte){
		"header of 0 words":             func(ip []byte) { ip[0] = 0x40 },
		"header of 4 words":             func(ip []byte) { ip[0] = 0x44 },
		"header longer than total":      func(ip []byte) { ip[0] = 0x4f; binary.BigEndian.PutUint16(ip[2:], 32) },
		"header longer than the frame":  func(ip []byte) { ip[0] = 0x4f },
		"total below the header":        func(ip []byte) { binary.BigEndian.PutUint16(ip[2:], 19) },
		"total of 0":                    func(ip []byte) { binary.BigEndian.PutUint16(ip[2:], 0) },
		"total beyond the frame":        func(ip []byte) { binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+1)) },
		"version 5":                     func(ip []byte) { ip[0] = 0x55 },
		"version 6 under IPv4's number": func(ip []byte) { ip[0] = 0x65 },
	} {
		f := UDP("c1", 5000, web, "x")
		change(f[header.EthernetLen:])
		before := l.Dropped("c1", dataplane.DropMalformed)
		l.Send("c1", f)
		l.ExpectNothing()
		if got := l.Dropped("c1", dataplane.DropMalformed); got != before+1 {
			t.Errorf("%s: %d found malformed, want 1; drops: %s", name, got-before, l.Drops())
		}
	}
	padded := append(UDP("c1", 5000, web, "x"), make([]byte, 18)...)
	l.Send("c1", padded)
	if got := See(t, l.Expect("up")); got.Payload != "x" {
		t.Errorf("a padded packet arrived as %+v", got)
	}
}

// A packet of protocol 0 decides nothing for those behind it.
func TestC32ProtocolZeroWidensNothing(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	for _, dst := range []string{World, HostAddr, Stations["c4"]} {
		p := Packet{Src: Stations["c2"] + ":5000", Proto: 0, Payload: []byte("\x13\x88\x00\x50 what looks like ports")}
		l.Send("c2", Bytes(From("c2", dst, p)))
		for name := range Stations {
			l.Got(name)
		}
	}
	if n := len(l.Switch.Conns()); n > 1 { // one host may speak an unknown protocol with another
		t.Errorf("protocol 0 made %d flows: %+v", n, l.Switch.Conns())
	}
	l.Send("c2", TCP("c2", 5000, Stations["c4"]+":80", SYN, ""))
	if got := l.Got("c4"); len(got) > 0 {
		t.Errorf("another network was reached: %s", Describe(got[0]))
	}
	l.Got("c2") // is told so
	l.Send("up", Inbound(header.ProtoTCP, World+":80", Stations["c2"]+":5000", SYN, ""))
	if got := l.Got("c2"); len(got) > 0 {
		t.Errorf("a container was reached from outside: %s", Describe(got[0]))
	}
}

// Neighbour discovery whose options have no length, or end behind the packet, or
// that is cut before its target, is dropped.
func TestC33NeighborDiscoveryOptions(t *testing.T) {
	src, dst := IPv6("c1"), "ff02::1"
	group := header.MAC{0x33, 0x33, 0, 0, 0, 1}
	target := netip.MustParseAddr(IPv6("c1")).AsSlice()
	mac := MAC("c1")
	send := func(l *Lab, typ uint8, body []byte) int {
		l.Send("c1", V6(group, MAC("c1"), src, dst, header.ProtoICMPv6, 255, ICMPv6(src, dst, typ, body)))
		n := 0
		for name := range Stations {
			n += len(l.Got(name))
		}
		return n
	}
	for typ, option := range map[uint8]byte{header.ICMP6NeighborSolicit: 1, header.ICMP6NeighborAdvert: 2} {
		l := New(t)
		l.Guard()
		base := append(make([]byte, 4), target...)
		if typ == header.ICMP6NeighborSolicit {
			base = append(make([]byte, 4), netip.MustParseAddr("fd00:1::77").AsSlice()...) // nobody's: it is flooded
		}
		sound := append(append(slices.Clone(base), option, 1), mac[:]...)
		if send(l, typ, sound) == 0 {
			t.Errorf("type %d: a sound message went nowhere; drops: %s", typ, l.Drops())
		}
		for name, body := range map[string][]byte{
			"length 0":           append(append(slices.Clone(base), option, 0), mac[:]...),
			"length 0, later":    append(slices.Clone(sound), 14, 0, 1, 2, 3, 4, 5, 6),
			"past the end":       append(append(slices.Clone(base), option, 2), mac[:]...),
			"far past the end":   append(append(slices.Clone(base), option, 255), mac[:]...),
			"past, later":        append(slices.Clone(sound), 14, 9, 1, 2, 3, 4, 5, 6),
			"one byte of option": append(slices.Clone(base), option),
			"cut in the option":  sound[:len(sound)-1],
			"cut in the target":  base[:len(base)-1],
			"no target":          base[:4],
		} {
			if n := send(l, typ, body); n != 0 {
				t.Errorf("type %d, %s: %d frames came out", typ, name, n)
			}
		}
	}
}

// LLDP is neither parsed nor forwarded, whatever it holds.
func TestC34NoLLDP(t *testing.T) {
	l := New(t)
	rng := rand.New(rand.NewSource(34))
	for n := range 200 {
		f := append([]byte{1, 0x80, 0xc2, 0, 0, 0x0e, 2, 0, 0, 0, 1, 11, 0x88, 0xcc}, make([]byte, 1+rng.Intn(200))...)
		rng.Read(f[header.EthernetLen:])
		l.Send("c1", f)
		l.ExpectDrop("c1", dataplane.DropReservedGroup, uint64(n+1))
	}
}

// Transport headers that are too short are dropped; MPLS goes as it is and is
// never looked into.
func TestC36ShortHeadersAndMPLS(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	drops := uint64(0)
	for name, change := range map[string]func(f []byte) []byte{
		"tcp offset of 4":              func(f []byte) []byte { f[header.EthernetLen+32] = 0x40; return f },
		"tcp offset beyond the packet": func(f []byte) []byte { f[header.EthernetLen+32] = 0xf0; return f },
		"tcp of 19 bytes":              func(f []byte) []byte { f = f[:header.EthernetLen+39]; relength(f); return f },
	} {
		drops++
		l.Send("up", change(Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, "")))
		l.ExpectDrop("up", dataplane.DropMalformed, drops)
		if t.Failed() {
			t.Fatal(name)
		}
	}
	for n := range 8 {
		drops++
		f := Inbound(header.ProtoUDP, World+":4000", HostAddr+":8080", 0, "12345678")[:header.EthernetLen+20+n]
		relength(f)
		l.Send("up", f)
		l.ExpectDrop("up", dataplane.DropMalformed, drops)
	}
	inner := UDP("c1", 5000, web, "x")[header.EthernetLen:]
	for _, labels := range [][]byte{{0, 1, 1, 64}, {0, 1, 0, 64, 0, 2, 1, 64}, make([]byte, 40), {0}} {
		mc := MAC("c2")
		mine := MAC("c1")
		f := append(append(append([]byte(nil), mc[:]...), mine[:]...), 0x88, 0x47)
		f = append(append(f, labels...), inner...)
		l.Send("c1", f)
		for name := range Stations {
			for _, got := range l.Got(name) {
				if name != "c2" || string(got) != string(f) {
					t.Errorf("%s got MPLS as %x, sent %x", name, got, f)
				}
			}
		}
	}
}

// Policy holds for what goes to the gateway as for the rest: a foreign MAC, the
// gateway's own, another container's address.
func TestC38PolicyForTheGatewayToo(t *testing.T) {
	for name, p := range map[string]Packet{
		"gateway's MAC":       {EthSrc: MAC("host1"), Src: "10.1.0.12:5000"},
		"other container":     {EthSrc: MAC("c1"), Src: "10.1.0.11:5000"},
		"group source":        {EthSrc: header.MAC{1, 0, 0x5e, 0, 0, 1}, Src: "10.1.0.12:5000"},
		"no source":           {EthSrc: header.MAC{}, Src: "10.1.0.12:5000"},
		"gateway as a source": {EthSrc: MAC("host1"), Src: "10.1.0.1:53"},
	} {
		l := New(t)
		for _, dst := range []string{"10.1.0.1:53", HostAddr + ":22", World + ":80"} {
			p.EthDst, p.Dst, p.Proto, p.Payload = MAC("host1"), dst, header.ProtoUDP, []byte("query")
			l.Send("c2", Bytes(p))
			for at := range Stations {
				if got := l.Got(at); len(got) > 0 {
					t.Errorf("%s to %s: %s got %s", name, dst, at, Describe(got[0]))
				}
			}
		}
	}
}
