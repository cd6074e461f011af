package dataplane_test

import (
	"encoding/binary"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// The ICMP errors of both families: what is reported, by type and code.
var (
	portUnreachable = [2][2]uint8{{3, 3}, {1, 4}}
	tooBig          = [2][2]uint8{{3, 4}, {2, 0}}
	ttlExceeded     = [2][2]uint8{{11, 0}, {3, 0}}
)

func familyIndex(f Family) int {
	if f.ICMP == header.ProtoICMP {
		return 0
	}
	return 1
}

// errorOf is an ICMP error about a frame's packet.
func errorOf(f Family, p Packet, kind [2][2]uint8, quoted []byte) []byte {
	k := kind[familyIndex(f)]
	quote := quoted[header.EthernetLen:]
	p.Proto, p.Type, p.Code, p.MTU = f.ICMP, k[0], k[1], 1400
	p.Payload = quote[:min(len(quote), f.HeaderLen+8)]
	return Bytes(p)
}

// wantError checks an ICMP error that came out.
func wantError(t *testing.T, f Family, frame []byte, kind [2][2]uint8, src, dst string, quoted [2]string) {
	t.Helper()
	got, k := See(t, frame), kind[familyIndex(f)]
	icmp := frame[header.EthernetLen+f.HeaderLen:]
	if got.Src.String() != src || got.Dst.String() != dst || icmp[0] != k[0] || icmp[1] != k[1] {
		t.Errorf("error %d/%d went %s -> %s, want %v %s -> %s", icmp[0], icmp[1], got.Src, got.Dst, k, src, dst)
	}
	if mtu := binary.BigEndian.Uint32(icmp[4:]); kind == tooBig && mtu != 1400 {
		t.Errorf("it tells of MTU %d, want 1400", mtu)
	}
	if q := ends(quoteOf(t, frame)); q != quoted {
		t.Errorf("it quotes %v, want %v", q, quoted)
	}
}

// N-89: ICMP errors about translated flows reach the other end in both families,
// with the packet they quote as that end knows it.
func TestN89ErrorsOfBothFamiliesAreTranslated(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		web, client, at := f.At(f.World, 80), f.At(f.World, 4000), f.At(f.Host, 8080)
		// From outside to a masqueraded flow, of a router and of the peer.
		l.Send("c1", f.Flow(header.ProtoUDP, "c1", 5000, web))
		out := l.Expect("up")
		for _, router := range []string{f.Elsewhere, f.World} {
			for _, kind := range [][2][2]uint8{portUnreachable, tooBig, ttlExceeded} {
				l.Send("up", errorOf(f, Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: router, Dst: f.Host}, kind, out))
				wantError(t, f, l.Expect("c1"), kind, router, f.Addr("c1"), [2]string{f.At("c1", 5000), web})
			}
		}
		// From the container about a published port: the host is seen.
		l.PublishFamily(f, 8080, "c1", 80)
		l.Send("up", Inbound(header.ProtoUDP, client, at, 0, "x"))
		in := l.Expect("c1")
		l.Send("c1", errorOf(f, From("c1", f.World, Packet{Src: f.Addr("c1")}), portUnreachable, in))
		wantError(t, f, l.Expect("up"), portUnreachable, f.Host, f.World, [2]string{client, at})
		// Hairpinned: both ends.
		l.Send("c2", f.Flow(header.ProtoUDP, "c2", 5000, at))
		in = l.Expect("c1")
		l.Send("c1", errorOf(f, From("c1", f.Host, Packet{Src: f.Addr("c1")}), portUnreachable, in))
		wantError(t, f, l.Expect("c2"), portUnreachable, f.Host, f.Addr("c2"), [2]string{f.At("c2", 5000), at})
		// About nothing we know.
		about := Bytes(Packet{EthSrc: MAC("up"), EthDst: NextHopMAC, Src: f.At(f.Host, 61001), Dst: f.At(f.Elsewhere, 9), Proto: header.ProtoUDP})
		l.Send("up", errorOf(f, Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: f.World, Dst: f.Host}, portUnreachable, about))
		l.ExpectDrop("up", dataplane.DropUnmatchedError, 1)
	})
}

// N-89: hop limit and packet too big are told to the sender in both families.
func TestN89ErrorsOfBothFamiliesAreSent(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		web := f.At(f.World, 80)
		l.Send("c1", f.From("c1", 5000, web, Packet{Proto: header.ProtoUDP, TTL: 1}))
		wantError(t, f, l.Expect("c1"), ttlExceeded, f.Addr("host1"), f.Addr("c1"), [2]string{f.At("c1", 5000), web})
		l.Config.Uplinks[0].MTU = 1400
		l.Install()
		l.Send("c1", f.From("c1", 5001, web, Packet{Proto: header.ProtoUDP, DF: true, Payload: make([]byte, 1400)}))
		wantError(t, f, l.Expect("c1"), tooBig, f.Addr("host1"), f.Addr("c1"), [2]string{f.At("c1", 5001), web})
		// A super-frame is measured by its segments.
		big := f.From("c1", 5002, web, Packet{Proto: header.ProtoTCP, Flags: SYN, Payload: make([]byte, 20000)})
		gso := func(size int) frame.Offload {
			typ := [2]uint8{frame.GSOTCPv4, frame.GSOTCPv6}[familyIndex(f)]
			return frame.Offload{
				Csum: frame.CsumPartial, CsumStart: uint16(header.EthernetLen + f.HeaderLen), CsumOffset: 16, GSOType: typ, GSOSize: uint16(size),
			}
		}
		most := 1400 - f.HeaderLen - 20
		l.SendOffload("c1", big, gso(most))
		if n := len(l.Got("up")); n != 1 {
			t.Fatalf("%d frames, want the super-frame as one; %s", n, l.Drops())
		}
		before := l.Dropped("c1", dataplane.DropTooBig)
		l.SendOffload("c1", big, gso(most+1))
		if n := l.Dropped("c1", dataplane.DropTooBig) - before; n != 1 {
			t.Errorf("a segment of 1401 bytes was not refused: %s", l.Drops())
		}
	})
}

func TestFamilyFragments(t *testing.T) {
	EachFamily(t, func(t *testing.T, l *Lab, f Family) {
		whole := f.From("c1", 5000, f.At(f.World, 80), Packet{Proto: header.ProtoUDP, Payload: make([]byte, 3000)})
		cut := []func([]byte, int) [][]byte{Fragment, fragment6}[familyIndex(f)]
		for i, g := range cut(whole, 1400) {
			l.Send("c1", g)
			got := l.Got("up")
			if len(got) != 1 {
				t.Fatalf("fragment %d: %d frames; %s", i, len(got), l.Drops())
			}
			if s := See(t, got[0]); s.Src.String() != f.Host || s.Dst.String() != f.World {
				t.Errorf("fragment %d left as %s -> %s", i, s.Src, s.Dst)
			}
		}
	})
}

// fragment6 cuts an IPv6 packet (RFC 8200 section 4.5).
func fragment6(f []byte, size int) (out [][]byte) {
	const hdr = header.EthernetLen + 40
	data, next := f[hdr:], f[header.EthernetLen+6]
	size &^= 7
	for at := 0; at < len(data); at += size {
		n := min(size, len(data)-at)
		g := append([]byte{}, f[:hdr]...)
		g[header.EthernetLen+6] = 44
		binary.BigEndian.PutUint16(g[header.EthernetLen+4:], uint16(8+n))
		off := uint16(at)
		if at+n < len(data) {
			off |= 1
		}
		g = append(g, next, 0, byte(off>>8), byte(off), 0, 0, 0, 77)
		out = append(out, append(g, data[at:at+n]...))
	}
	return out
}

// chained puts extension headers between the addresses and what follows.
func chained(f []byte, first byte, headers ...byte) []byte {
	const hdr = header.EthernetLen + 40
	g := append(append(append([]byte{}, f[:hdr]...), headers...), f[hdr:]...)
	g[header.EthernetLen+6] = first
	binary.BigEndian.PutUint16(g[header.EthernetLen+4:], uint16(len(g)-hdr))
	return g
}

// N-89: hop-by-hop and destination options before the ports are walked, and
// carried as they are.
func TestN89ExtensionHeadersAreCarried(t *testing.T) {
	l := New(t)
	l.DualStack()
	f := Families[1]
	plain := f.From("c1", 5000, f.At(f.World, 80), Packet{Proto: header.ProtoUDP, Payload: []byte("hello")})
	padN := append([]byte{header.ProtoUDP, 2, 1, 20}, make([]byte, 20)...)
	options := append([]byte{60, 0, 1, 4, 0, 0, 0, 0}, padN...)
	atomic := []byte{header.ProtoUDP, 0, 0, 0, 1, 2, 3, 4} // RFC 6946: a fragment that is the whole
	for i, g := range [][]byte{chained(plain, 0, options...), chained(plain, 44, atomic...)} {
		l.Send("c1", g)
		got := l.Expect("up")
		s := See(t, got)
		if s.Src.String() != f.Host || s.To() != f.At(f.World, 80) || s.SrcPort == 5000 {
			t.Errorf("%d left as %s -> %s", i, s.From(), s.To())
		}
		const hdr = header.EthernetLen + 40
		if want := g[hdr : len(g)-13]; string(got[hdr:hdr+len(want)]) != string(want) {
			t.Errorf("%d: the extension headers were changed", i)
		}
	}
}

// N-89: an endless chain, a routing header 0, a first fragment without its ports
// (RFC 7112) and fragments that overlap (RFC 5722) are dropped.
func TestN89HostileChainsAreDropped(t *testing.T) {
	l := New(t)
	l.DualStack()
	f := Families[1]
	plain := f.From("c1", 5000, f.At(f.World, 80), Packet{Proto: header.ProtoUDP, Payload: make([]byte, 3000)})
	var nine []byte
	for i := range 9 {
		next := byte(60)
		if i == 8 {
			next = header.ProtoUDP
		}
		nine = append(nine, next, 0, 1, 4, 0, 0, 0, 0)
	}
	rh0 := append([]byte{header.ProtoUDP, 2, 0, 1, 0, 0, 0, 0}, make([]byte, 16)...)
	headless := chained(plain[:header.EthernetLen+40], 44, 60, 0, 0, 1, 0, 0, 0, 9, header.ProtoUDP, 0, 1, 4, 0, 0, 0, 0)
	for i, g := range [][]byte{chained(plain, 60, nine...), chained(plain, 43, rh0...), headless} {
		l.Send("c1", g)
		l.ExpectDrop("c1", dataplane.DropMalformed, uint64(i+1))
	}
	frags := fragment6(plain, 1400)
	binary.BigEndian.PutUint16(frags[1][header.EthernetLen+42:], 1392|1)
	l.Send("c1", frags[0])
	l.Got("up")
	l.Send("c1", frags[1])
	l.ExpectDrop("c1", dataplane.DropOverlap, 1)
}
