package header

import (
	"net/netip"
	"testing"
)

func TestAppendICMPError(t *testing.T) {
	for _, c := range []struct {
		name, shape string
		typ, code   uint8
		info        uint32
		length      int // of the IP packet, 0: it is quoted whole
	}{
		{"port unreachable", "udp4", 3, 3, 0, 0},
		{"fragmentation needed", "tcp4-gso", 3, 4, 1400, 576},
		{"time exceeded with VLAN tags", "tcp4-qinq", 11, 0, 0, 0},
		{"quote without the padding", "tcp4-padded", 11, 0, 0, 0},
		{"about a first fragment", "udp4-fragment-first", 11, 1, 0, 0},
		{"about an echo request", "echo4", 3, 1, 0, 0},
		{"about an echo reply", "echo4-reply", 3, 1, 0, 0},
		{"about another protocol", "sctp", 3, 2, 0, 0},
		{"port unreachable 6", "udp6", 1, 4, 0, 0},
		{"too big", "tcp6-gso", 2, 0, 1400, 1280},
		{"about a later fragment 6", "udp6-fragment-last", 2, 0, 1280, 0},
		{"about an echo request 6", "echo6", 1, 3, 0, 0},
		{"parameter problem", "tcp6-hop-by-hop", 4, 2, 40, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := shapeNamed(t, c.shape)
			var l, e, q Layers
			if !Parse(b, &l) {
				t.Fatal("malformed")
			}
			src, headers := AddrFrom(netip.MustParseAddr("198.51.100.1")), 20+8
			if l.Flags&FlagIPv6 != 0 {
				src, headers = AddrFrom(netip.MustParseAddr("2001:db8::1")), 40+8
			}
			want := c.length
			if want == 0 {
				want = headers + int(l.End) - int(l.L3)
			}
			if l.Flags&FlagIPv6 == 0 {
				b[l.L3+1] = 0xb8 | 1 // expedited forwarding, ECT(1)
			}
			prefix := []byte("kept")
			room := append(make([]byte, 0, len(prefix)+MaxICMPErrorLen), prefix...)
			all := AppendICMPError(room, b, &l, macB, src, c.typ, c.code, c.info)
			if string(all[:4]) != "kept" || &all[0] != &room[0] {
				t.Fatal("not appended in place")
			}
			out := exact(all[4:])
			verify(t, out)
			if !Parse(out, &e) || !ParseQuoted(out, &e, &q) {
				t.Fatalf("not parsed: %x", out)
			}
			if e.Dst != macA || e.Src != macB || e.VLANs != l.VLANs || e.Tuple.Src != src || e.Tuple.Dst != l.Tuple.Src || e.TTL != 64 {
				t.Errorf("headers %+v", e)
			}
			if got := int(e.End) - int(e.L3); got != want || int(e.End) != len(out) {
				t.Errorf("IP packet of %d bytes in a frame of %d, want %d", got, len(out), want)
			}
			if out[e.L4] != c.typ || out[e.L4+1] != c.code || be.Uint32(out[e.L4+4:]) != c.info {
				t.Errorf("ICMP header % x", out[e.L4:e.L4+8])
			}
			if tos := out[e.L3+1]; e.Flags&FlagIPv6 == 0 && tos != 0xc0|0x18 {
				t.Errorf("type of service %#x, want precedence 6 and that of the packet, 0xd8", tos)
			}
			if q.Tuple != l.Tuple {
				t.Errorf("quotes %+v, want %+v", q.Tuple, l.Tuple)
			}
		})
	}
}

// TestAppendICMPErrorForbidden: RFC 1122 3.2.2, RFC 1812 4.3.2.7, RFC 4443 2.4 e.
func TestAppendICMPErrorForbidden(t *testing.T) {
	a := func(s string) []byte { return netip.MustParseAddr(s).AsSlice() }
	for _, c := range []struct {
		name, shape string
		at          int
		bytes       []byte
		typ, code   uint8
		allowed     bool
	}{
		{"about an error", "unreachable4-udp4", 0, nil, 3, 0, false},
		{"about a redirect", "redirect4-udp4", 0, nil, 3, 0, false},
		{"about a source quench", "quench4", 0, nil, 3, 0, false},
		{"about an unknown ICMP type", "echo4", 34, []byte{42}, 3, 0, false},
		{"about a later fragment", "udp4-fragment-last", 0, nil, 3, 0, false},
		{"to a broadcast frame", "udp4", 0, Broadcast[:], 3, 0, false},
		{"from a group MAC", "udp4", 6, Broadcast[:], 3, 0, false},
		{"to a multicast address", "udp4", 30, a("224.0.0.251"), 3, 0, false},
		{"to the broadcast address", "udp4", 30, a("255.255.255.255"), 3, 0, false},
		{"from nobody", "udp4", 26, a("0.0.0.0"), 3, 0, false},
		{"from loopback", "udp4", 26, a("127.0.0.1"), 3, 0, false},
		{"from a multicast address", "udp4", 26, a("224.0.0.1"), 3, 0, false},
		{"from class E", "udp4", 26, a("240.0.0.1"), 3, 0, false},
		{"about ARP", "arp", 0, nil, 3, 0, false},
		{"about an error 6", "too-big6-tcp6", 0, nil, 1, 0, false},
		{"about an unknown error 6", "echo6", 54, []byte{100}, 1, 0, false},
		{"about a redirect 6", "ns6", 54, []byte{137}, 1, 0, false},
		{"about a later fragment of ICMPv6", "udp6-fragment-last", 54, []byte{ProtoICMPv6}, 1, 0, false},
		{"from nobody 6", "udp6", 22, a("::"), 1, 0, false},
		{"from loopback 6", "udp6", 22, a("::1"), 1, 0, false},
		{"from a multicast address 6", "udp6", 22, a("ff02::1"), 1, 0, false},
		{"to a multicast address 6", "udp6", 38, a("ff02::1"), 1, 0, false},
		{"to a group MAC 6", "udp6", 0, []byte{0x33, 0x33}, 1, 0, false},
		{"parameter problem to a multicast address", "udp6", 38, a("ff02::1"), 4, 1, false},
		{"too big to a multicast address", "udp6", 38, a("ff02::1"), 2, 0, true},
		{"unknown option to a multicast address", "udp6", 38, a("ff02::1"), 4, 2, true},
	} {
		b := shapeNamed(t, c.shape)
		copy(b[c.at:], c.bytes)
		var l Layers
		if !Parse(b, &l) {
			t.Errorf("%s: malformed", c.name)
			continue
		}
		src := AddrFrom(w4)
		if l.Flags&FlagIPv6 != 0 {
			src = AddrFrom(w6)
		}
		out := AppendICMPError(make([]byte, 0, MaxICMPErrorLen), b, &l, macB, src, c.typ, c.code, 0)
		if got := out != nil; got != c.allowed {
			t.Errorf("%s: sent = %v, want %v", c.name, got, c.allowed)
		}
	}
	b := shapeNamed(t, "udp4")
	var l Layers
	Parse(b, &l)
	if AppendICMPError(make([]byte, 0, MaxICMPErrorLen), b, &l, macB, AddrFrom(w6), 3, 0, 0) != nil {
		t.Error("an IPv6 source answers IPv4")
	}
}
