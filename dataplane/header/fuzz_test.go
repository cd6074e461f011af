package header

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// maxSeed keeps GSO super-frames out of the seeds: they slow mutation down and
// have no header the small ones lack.
const maxSeed = 512

func addSeeds(f *testing.F, add func(frame []byte)) {
	f.Helper()
	for _, s := range shapes(f) {
		if len(s.frame) <= maxSeed {
			add(s.frame)
		}
	}
}

// Run with -fuzzminimizetime 10x: gopacket makes coverage vary between runs of
// one input, and the default minute of minimizing it stalls the workers.
func FuzzParse(f *testing.F) {
	addSeeds(f, func(b []byte) { f.Add(b) })
	f.Fuzz(func(t *testing.T, data []byte) {
		b := exact(data)
		var l, q Layers
		if !Parse(b, &l) {
			return
		}
		checkLayers(t, b, &l)
		checkAgainstGopacket(t, b, &l)
		if l.Kind >= KindARP {
			// Padding neither adds nor takes away.
			var again, want Layers
			if want = l; !Parse(exact(b[:l.End]), &again) || again != want {
				t.Fatalf("without padding: %+v, want %+v", again, want)
			}
			if !Parse(append(exact(b), 0xff, 0xff, 0xff), &again) || again != want {
				t.Fatalf("with padding: %+v, want %+v", again, want)
			}
			if Parse(exact(b[:l.End-1]), &again) {
				t.Fatalf("accepted without its last byte: %+v", again)
			}
		}
		if l.Flags&FlagICMPError != 0 && ParseQuoted(b, &l, &q) {
			if int(q.L3) < int(l.L4)+icmpLen || q.End > l.End {
				t.Fatalf("quote %d..%d outside the error at %d..%d", q.L3, q.End, l.L4, l.End)
			}
			checkLayers(t, b, &q)
		}
		checkICMPError(t, b, &l)
		if l.L4 != 0 {
			FinishChecksum(b, int(l.L4), 16)
		}
	})
}

// checkLayers holds what other packages index by.
func checkLayers(t *testing.T, b []byte, l *Layers) {
	t.Helper()
	if int(l.L3) > int(l.End) || int(l.End) > len(b) {
		t.Fatalf("offsets out of order in a frame of %d bytes: %+v", len(b), l)
	}
	if l.Kind < KindIP {
		if l.L4 != 0 || l.Flags != 0 || l.Tuple != (Tuple{}) {
			t.Fatalf("IP facts of a frame without IP: %+v", l)
		}
		return
	}
	v6 := l.Flags&FlagIPv6 != 0
	if l.Tuple.Src.Is4() == v6 || l.Tuple.Dst.Is4() == v6 {
		t.Fatalf("addresses of another family: %+v", l)
	}
	fragment, first := l.Flags&FlagFragment != 0, l.Flags&FlagFirstFragment != 0
	switch {
	case fragment && (first || l.L4 != 0 || l.Kind == KindL4):
		t.Fatalf("a later fragment with a transport header: %+v", l)
	case l.Kind == KindL4 && (l.L4 == 0 || int(l.L4)+8 > int(l.End)):
		t.Fatalf("less than 8 bytes of transport header: %+v", l)
	case l.Flags&FlagICMPError != 0 && (l.L4 == 0 || int(l.L4)+icmpLen > int(l.End)):
		t.Fatalf("less than an ICMP header: %+v", l)
	case l.L4 != 0 && (int(l.L4) > int(l.End) || l.L4 < l.L3+ipv4Len):
		t.Fatalf("transport header out of place: %+v", l)
	}
}

// checkAgainstGopacket compares the tuple where gopacket finds one as well.
func checkAgainstGopacket(t *testing.T, b []byte, l *Layers) {
	t.Helper()
	if l.Kind != KindL4 {
		return
	}
	first := layers.LayerTypeIPv4
	if l.Flags&FlagIPv6 != 0 {
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(b[l.L3:l.End], first, gopacket.NoCopy)
	var src, dst []byte
	switch h := p.NetworkLayer().(type) {
	case *layers.IPv4:
		src, dst = h.SrcIP.To16(), h.DstIP.To16()
	case *layers.IPv6:
		src, dst = h.SrcIP, h.DstIP
	default:
		t.Fatalf("gopacket finds no IP in %x", b[l.L3:l.End])
	}
	if !bytes.Equal(src, l.Tuple.Src[:]) || !bytes.Equal(dst, l.Tuple.Dst[:]) {
		t.Fatalf("addresses %v, gopacket finds %x and %x", l.Tuple, src, dst)
	}
	var sport, dport uint16
	switch h := p.TransportLayer().(type) {
	case *layers.TCP:
		sport, dport = uint16(h.SrcPort), uint16(h.DstPort)
	case *layers.UDP:
		sport, dport = uint16(h.SrcPort), uint16(h.DstPort)
	default: // first fragments, and chains that gopacket does not follow
		return
	}
	if sport != l.Tuple.SrcPort || dport != l.Tuple.DstPort {
		t.Fatalf("ports %v, gopacket finds %d and %d", l.Tuple, sport, dport)
	}
}

// checkICMPError answers the frame and reads the answer back.
func checkICMPError(t *testing.T, b []byte, l *Layers) {
	t.Helper()
	src, typ := AddrFrom(w4), uint8(icmpUnreachable)
	if l.Flags&FlagIPv6 != 0 {
		src, typ = AddrFrom(w6), icmp6TimeExceeded
	}
	out := AppendICMPError(make([]byte, 0, MaxICMPErrorLen), b, l, macB, src, typ, 1, 0)
	if out == nil {
		return
	}
	var e, q Layers
	if !Parse(out, &e) || e.Flags&FlagICMPError == 0 || e.ICMPType != typ || int(e.End) != len(out) {
		t.Fatalf("no ICMP error: %+v in %x", e, out)
	}
	if e.Dst != l.Src || e.Src != macB || e.VLANs != l.VLANs || e.Tuple.Src != src || e.Tuple.Dst != l.Tuple.Src {
		t.Fatalf("error goes astray: %+v, about %+v", e, l)
	}
	verify(t, out)
	if !ParseQuoted(out, &e, &q) {
		if int(e.End)-int(e.L4) < 500 { // else the quote may end inside the extension headers
			t.Fatalf("quote of the own error not parsed: %x", out)
		}
	} else if q.Tuple != l.Tuple {
		t.Fatalf("error quotes %+v, want %+v", q.Tuple, l.Tuple)
	}
	if again := AppendICMPError(nil, out, &e, macA, src, typ, 0, 0); again != nil {
		t.Fatalf("an ICMP error was answered with %x", again)
	}
}

// family makes fuzzed bytes an address of the packet's family.
func family(l *Layers, b []byte) Addr {
	var a Addr
	copy(a[:], b)
	if l.Flags&FlagIPv6 == 0 {
		return AddrFrom4([4]byte(a[:4]))
	}
	return a
}

func FuzzRewriteRoundTrip(f *testing.F) {
	addSeeds(f, func(b []byte) {
		f.Add(b, w6.AsSlice(), c6.AsSlice(), uint16(61000), uint16(0), false)
		f.Add(b, make([]byte, 16), bytes.Repeat([]byte{0xff}, 16), uint16(0xffff), uint16(1), true)
	})
	f.Fuzz(func(t *testing.T, b, src, dst []byte, srcPort, dstPort uint16, partial bool) {
		var l Layers
		if Parse(b, &l) && l.Kind >= KindIP {
			checkRewrite(t, b, Tuple{Src: family(&l, src), Dst: family(&l, dst), SrcPort: srcPort, DstPort: dstPort}, partial)
		}
	})
}

func FuzzRewriteError(f *testing.F) {
	addSeeds(f, func(b []byte) {
		f.Add(b, w6.AsSlice(), c6.AsSlice(), uint16(61000), uint16(0))
		f.Add(b, make([]byte, 16), bytes.Repeat([]byte{0xff}, 16), uint16(0xffff), uint16(1))
	})
	f.Fuzz(func(t *testing.T, b, src, dst []byte, srcPort, dstPort uint16) {
		var l Layers
		if Parse(b, &l) && l.Flags&FlagICMPError != 0 {
			s, d := family(&l, src), family(&l, dst)
			checkRewriteError(t, b, s, d, Tuple{Src: d, Dst: s, SrcPort: srcPort, DstPort: dstPort})
		}
	})
}
