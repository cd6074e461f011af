package header

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func payload(b []byte) gopacket.Payload { return gopacket.Payload(b) }

// targets are tuples to rewrite to, among them the values around the two zeros
// of ones' complement.
func targets(l *Layers) []Tuple {
	addrs := []string{"198.51.100.1", "0.0.0.0", "255.255.255.255", "10.1.0.2", "0.0.255.255"}
	if l.Flags&FlagIPv6 != 0 {
		addrs = []string{"2001:db8::1", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "fd00::2", "::ffff"}
	}
	var ts []Tuple
	for i, a := range addrs {
		for _, port := range []uint16{61000, 0, 0xffff, 40000, 1} {
			to := l.Tuple
			to.Src = AddrFrom(netip.MustParseAddr(a))
			to.SrcPort = port
			ts = append(ts, to)
			to.Dst = AddrFrom(netip.MustParseAddr(addrs[(i+1)%len(addrs)]))
			to.DstPort = ^port
			ts = append(ts, to)
		}
	}
	return ts
}

// TestRewriteAgainstGopacket compares with a packet that gopacket decodes,
// changes and serializes with all checksums computed anew.
func TestRewriteAgainstGopacket(t *testing.T) {
	for _, name := range []string{"tcp4", "tcp4-syn", "tcp4-options", "tcp4-gso", "tcp4-vlan", "tcp4-qinq", "tcp6", "tcp6-gso",
		"udp4", "udp4-empty", "udp6", "udp6-vlan", "echo4", "echo4-reply", "timestamp4", "timestamp4-reply", "echo6", "echo6-reply"} {
		t.Run(name, func(t *testing.T) {
			orig := shapeNamed(t, name)
			var l Layers
			if !Parse(orig, &l) {
				t.Fatal("malformed")
			}
			for _, to := range targets(&l) {
				got, l := exact(orig), l
				Rewrite(got, &l, to, false)
				if want := reserialized(t, orig, &l, to); !bytes.Equal(got, want) {
					t.Fatalf("to %+v: -want +got\n%s", to, cmp.Diff(want, got))
				}
			}
		})
	}
}

func reserialized(t *testing.T, frame []byte, l *Layers, to Tuple) []byte {
	t.Helper()
	first := layers.LayerTypeIPv4
	if l.Flags&FlagIPv6 != 0 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(bytes.Clone(frame[l.L3:]), first, gopacket.Default)
	var out []gopacket.SerializableLayer
	for _, layer := range p.Layers() {
		switch h := layer.(type) {
		case *layers.IPv4:
			h.SrcIP, h.DstIP = net.IP(to.Src[12:]), net.IP(to.Dst[12:])
		case *layers.IPv6:
			h.SrcIP, h.DstIP = net.IP(to.Src[:]), net.IP(to.Dst[:])
		case *layers.TCP:
			h.SrcPort, h.DstPort = layers.TCPPort(to.SrcPort), layers.TCPPort(to.DstPort)
		case *layers.UDP:
			h.SrcPort, h.DstPort = layers.UDPPort(to.SrcPort), layers.UDPPort(to.DstPort)
		case *layers.ICMPv4:
			if h.TypeCode.Type() == 8 || h.TypeCode.Type() == 13 {
				h.Id = to.SrcPort
			} else {
				h.Id = to.DstPort
			}
		case *layers.ICMPv6:
			rest := bytes.Clone(h.Payload)
			id := to.SrcPort
			if h.TypeCode.Type() == 129 {
				id = to.DstPort
			}
			be.PutUint16(rest, id)
			out = append(out, h, payload(rest))
			return append(bytes.Clone(frame[:l.L3]), pkt(t, out...)...)
		}
		if s, ok := layer.(gopacket.SerializableLayer); ok {
			out = append(out, s)
		}
	}
	if e := p.ErrorLayer(); e != nil {
		t.Fatalf("gopacket does not decode the packet: %v", e.Error())
	}
	return append(bytes.Clone(frame[:l.L3]), pkt(t, out...)...)
}

// checkRewrite holds for every packet and every tuple of its family: addresses
// and ports where they belong, no other byte but the checksums changed, each
// checksum as true or false as before, l what Parse would find, and the way
// back leads to the same bytes.
func checkRewrite(t *testing.T, orig []byte, to Tuple, partial bool) {
	t.Helper()
	var l Layers
	if !Parse(orig, &l) || l.Kind < KindIP {
		return
	}
	before, from := l, l.Tuple
	sumBefore := sumsOf(orig, &l, partial)
	b := exact(orig)
	Rewrite(b, &l, to, partial)

	if got, want := blank(bytes.Clone(b), &l), blank(wantRewrite(orig, &before, to), &before); !bytes.Equal(got, want) {
		t.Fatalf("to %+v: apart from checksums -want +got\n%s", to, cmp.Diff(want, got))
	}
	if got := sumsOf(b, &l, partial); got != sumBefore {
		t.Fatalf("to %+v partial %v: checksums add up to %#x, want %#x as before", to, partial, got, sumBefore)
	}
	var again Layers
	if !Parse(b, &again) {
		if l.Flags&FlagIPv6 == 0 || !(to.Src.Is4() || to.Dst.Is4()) {
			t.Fatalf("to %+v: malformed afterwards", to)
		}
	} else if again != l {
		t.Fatalf("to %+v: layers -parsed +rewritten\n%s", to, cmp.Diff(again, l))
	}
	if hasCRC(&before) && !partial {
		if was, is := crcError(orig, &before), crcError(b, &l); was != is {
			t.Fatalf("to %+v: SCTP checksum is off by %#x, want %#x as before", to, is, was)
		}
	}
	if before.L4 != 0 && before.Tuple.Proto == ProtoUDP && !partial {
		was, is := be.Uint16(orig[before.L4+6:]), be.Uint16(b[before.L4+6:])
		if (was == 0) != (is == 0) {
			t.Fatalf("to %+v: UDP checksum %#04x became %#04x", to, was, is)
		}
	}
	Rewrite(b, &l, from, partial)
	if got, want := canonical(b, &before, partial), canonical(bytes.Clone(orig), &before, partial); !bytes.Equal(got, want) {
		t.Fatalf("to %+v and back: -want +got\n%s", to, cmp.Diff(want, got))
	}
	if l != before {
		t.Fatalf("to %+v and back: layers -want +got\n%s", to, cmp.Diff(before, l))
	}
}

func TestRewriteProperties(t *testing.T) {
	for _, s := range shapes(t) {
		var l Layers
		if !Parse(s.frame, &l) {
			t.Errorf("%s: malformed", s.name)
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			for _, to := range targets(&l) {
				checkRewrite(t, s.frame, to, false)
				checkRewrite(t, s.frame, to, true)
			}
		})
	}
}

// TestRewritePartialThenFinish: a partial checksum that was rewritten and then
// finished is true, as the receiver behind a port without offload needs it.
func TestRewritePartialThenFinish(t *testing.T) {
	for _, name := range []string{"tcp4", "tcp4-gso", "tcp4-options", "tcp6", "udp4", "udp6", "udp6-vlan", "udp4-empty", "echo6"} {
		b := shapeNamed(t, name)
		var l Layers
		if !Parse(b, &l) {
			t.Fatalf("%s: malformed", name)
		}
		field := checksumField(&l)
		pseudo := append(append([]byte{}, l.Tuple.Src[:]...), l.Tuple.Dst[:]...)
		if l.Flags&FlagIPv6 == 0 {
			pseudo = append(append([]byte{}, l.Tuple.Src[12:]...), l.Tuple.Dst[12:]...)
		}
		pseudo = be.AppendUint32(pseudo, l.End-uint32(l.L4))
		pseudo = append(pseudo, 0, l.Tuple.Proto)
		be.PutUint16(b[field:], slowSum(pseudo))
		for _, to := range targets(&l) {
			c, l := exact(b), l
			Rewrite(c, &l, to, true)
			FinishChecksum(c[:l.End], int(l.L4), field-int(l.L4))
			verify(t, c)
			if t.Failed() {
				t.Fatalf("%s to %+v", name, to)
			}
		}
	}
}

// TestRewriteUDPZero finds the port with which the sum of a UDP packet is 0: it
// goes out as 0xffff, since 0 would say that there is no checksum.
func TestRewriteUDPZero(t *testing.T) {
	for _, name := range []string{"udp4", "udp6"} {
		orig := shapeNamed(t, name)
		seen := false
		for port := range 0x10000 {
			b := exact(orig)
			var l Layers
			Parse(b, &l)
			to := l.Tuple
			to.SrcPort = uint16(port)
			Rewrite(b, &l, to, false)
			switch be.Uint16(b[l.L4+6:]) {
			case 0:
				t.Fatalf("%s with source port %d: checksum 0", name, port)
			case 0xffff:
				seen = true
				verify(t, b)
			}
		}
		if !seen {
			t.Errorf("%s: no source port gave the checksum 0xffff", name)
		}
	}
}

func TestDecrementTTL(t *testing.T) {
	for _, name := range []string{"tcp4", "tcp4-options", "tcp6"} {
		b := shapeNamed(t, name)
		var l Layers
		Parse(b, &l)
		for want := uint8(63); want > 0; want-- {
			DecrementTTL(b, &l)
			verify(t, b)
			var again Layers
			if !Parse(b, &again) || again != l || l.TTL != want {
				t.Fatalf("%s: TTL %d in the frame, %d in the layers, want %d", name, again.TTL, l.TTL, want)
			}
		}
	}
}

func TestSetMACs(t *testing.T) {
	b := shapeNamed(t, "tcp4")
	SetMACs(b, Broadcast, macB)
	var l Layers
	if !Parse(b, &l) || l.Dst != Broadcast || l.Src != macB {
		t.Errorf("got %v from %v, want %v from %v", l.Dst, l.Src, Broadcast, macB)
	}
}

// checkRewriteError is checkRewrite for ICMP errors.
func checkRewriteError(t *testing.T, orig []byte, src, dst Addr, quoted Tuple) {
	t.Helper()
	var l, q Layers
	if !Parse(orig, &l) || l.Flags&FlagICMPError == 0 || !ParseQuoted(orig, &l, &q) {
		return
	}
	l0, q0 := l, q
	outer, inner := sumsOf(orig, &l, false), sumsOf(orig, &q, false)
	b := exact(orig)
	RewriteError(b, &l, &q, src, dst, quoted)

	want := wantRewrite(orig, &l0, Tuple{Src: src, Dst: dst})
	want = wantRewrite(want, &q0, quoted)
	want = blank(blank(want, &q0), &l0)
	if got := blank(blank(bytes.Clone(b), &q), &l); !bytes.Equal(got, want) {
		t.Fatalf("apart from checksums -want +got\n%s", cmp.Diff(want, got))
	}
	if got := sumsOf(b, &l, false); got != outer {
		t.Fatalf("checksums add up to %#x, want %#x as before", got, outer)
	}
	if got := sumsOf(b, &q, false); got != inner {
		t.Fatalf("quoted checksums add up to %#x, want %#x as before", got, inner)
	}
	var again, quotedAgain Layers
	if Parse(b, &again) && ParseQuoted(b, &again, &quotedAgain) && (again != l || quotedAgain != q) {
		t.Fatalf("layers -parsed +rewritten\n%s%s", cmp.Diff(again, l), cmp.Diff(quotedAgain, q))
	}
	RewriteError(b, &l, &q, l0.Tuple.Src, l0.Tuple.Dst, q0.Tuple)
	got := canonical(canonical(b, &q0, false), &l0, false)
	back := canonical(canonical(bytes.Clone(orig), &q0, false), &l0, false)
	// A quoted field that stood at the other zero comes back as this one, and
	// the ICMP checksum does not see the difference.
	if !bytes.Equal(got, back) {
		t.Fatalf("there and back: -want +got\n%s", cmp.Diff(back, got))
	}
}

func TestRewriteErrorProperties(t *testing.T) {
	for _, s := range shapes(t) {
		var l, q Layers
		if !Parse(s.frame, &l) || l.Flags&FlagICMPError == 0 {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			verify(t, s.frame)
			if !ParseQuoted(s.frame, &l, &q) {
				t.Fatal("quote not parsed")
			}
			ts := targets(&q)
			for i, to := range ts {
				other := ts[(i+3)%len(ts)]
				checkRewriteError(t, s.frame, other.Dst, to.Src, to)

				b, l, q := exact(s.frame), l, q
				RewriteError(b, &l, &q, other.Dst, to.Src, to)
				verify(t, b)
			}
		})
	}
}

// TestRewriteErrorExtensions: what stands behind the quote stays (RFC 4884).
func TestRewriteErrorExtensions(t *testing.T) {
	b := shapeNamed(t, "time-exceeded4-rfc4884")
	var l, q Layers
	if !Parse(b, &l) || !ParseQuoted(b, &l, &q) {
		t.Fatal("malformed")
	}
	before := slices.Clone(b[q.End:])
	to := q.Tuple
	to.Src, to.SrcPort = AddrFrom(netip.MustParseAddr("198.51.100.1")), 61000
	RewriteError(b, &l, &q, l.Tuple.Src, to.Src, to)
	if !bytes.Equal(b[q.End:], before) {
		t.Errorf("bytes behind the quote changed:\n%s", cmp.Diff(before, b[q.End:]))
	}
	verify(t, b)
}
