package dataplane_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// extended puts extension headers between the IPv6 header and what follows it.
// ext begins with the type of the first and its own next-header fields are set
// here.
func extended(f []byte, types []uint8, ext ...[]byte) []byte {
	const hdr = header.EthernetLen + 40
	last := f[header.EthernetLen+6]
	out := slices.Clone(f[:hdr])
	out[header.EthernetLen+6] = types[0]
	for i, e := range ext {
		e = slices.Clone(e)
		e[0] = last
		if i+1 < len(types) {
			e[0] = types[i+1]
		}
		out = append(out, e...)
	}
	out = append(out, f[hdr:]...)
	binary.BigEndian.PutUint16(out[header.EthernetLen+4:], uint16(len(out)-hdr))
	return out
}

// RFC 7112, 5095, 5722, 6946, 8201 and RFC 4890: what an IPv6 packet may look
// like, and that nothing leads in that was not asked for.
func TestN89IPv6(t *testing.T) {
	v6 := Families[1]
	newLab := func() *Lab {
		l := New(t)
		l.DualStack()
		return l
	}
	udp := v6.From("c1", 5000, v6.At(v6.World, 80), Packet{Proto: header.ProtoUDP, Payload: make([]byte, 100)})
	pad := []byte{0, 0, 1, 4, 0, 0, 0, 0}
	repeat := func(n int) (types []uint8, ext [][]byte) {
		for range n {
			types, ext = append(types, 60), append(ext, pad)
		}
		return types, ext
	}
	t.Run("extension headers", func(t *testing.T) {
		l := newLab()
		types, ext := repeat(8)
		l.Send("c1", extended(udp, types, ext...))
		l.Expect("up")
		types, ext = repeat(9)
		rh0 := []byte{0, 2, 0, 1, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7}
		for i, f := range [][]byte{
			extended(udp, types, ext...),
			extended(udp, []uint8{43}, rh0),
			extended(udp, []uint8{60, 0}, pad, pad), // hop-by-hop options not first
			extended(udp, []uint8{44, 44}, make([]byte, 8), make([]byte, 8)),
		} {
			l.Send("c1", f)
			l.ExpectDrop("c1", dataplane.DropMalformed, uint64(i+1))
		}
	})
	t.Run("atomic fragment", func(t *testing.T) {
		l := newLab()
		l.Send("c1", extended(udp, []uint8{44}, []byte{0, 0, 0, 0, 1, 2, 3, 4}))
		if got := See(t, l.Expect("up")); got.Src.String() != v6.Host || got.SrcPort == 5000 {
			t.Errorf("left as %s", got.From())
		}
	})
	t.Run("fragments", func(t *testing.T) {
		whole := v6.From("c1", 5000, v6.At(v6.World, 80), Packet{Proto: header.ProtoUDP, Payload: make([]byte, 3000)})
		frags := fragment6(whole, 1400)
		frags[1][header.EthernetLen+40] = header.ProtoTCP // only that of the first counts (RFC 8200, 4.5)
		for _, order := range [][]int{{0, 1, 2}, {2, 1, 0}, {1, 0, 2}} {
			l := newLab()
			n := 0
			for _, i := range order {
				l.Send("c1", frags[i])
				for _, f := range l.Got("up") {
					if s := See(t, f); s.Src.String() != v6.Host {
						t.Errorf("%v: a fragment left from %s", order, s.Src)
					}
					n++
				}
			}
			if n != 3 {
				t.Errorf("%v: %d of 3 fragments left; %s", order, n, l.Drops())
			}
		}
		l := newLab()
		shifted := slices.Clone(frags[1])
		binary.BigEndian.PutUint16(shifted[header.EthernetLen+42:], 1392|1)
		l.Send("c1", frags[0])
		l.Expect("up")
		l.Send("c1", shifted)
		l.ExpectDrop("c1", dataplane.DropOverlap, 1)
		for i, f := range frags[1:] { // and so for the rest of the datagram
			l.Send("c1", f)
			l.ExpectDrop("c1", dataplane.DropOverlap, uint64(i+2))
		}
		l = newLab()
		types, ext := repeat(1)
		headless := extended(fragment6(udp, 8)[0], types, ext...)
		copy(headless[header.EthernetLen+40:], []byte{44, 0}) // options, then a first fragment without its UDP header
		headless = headless[:header.EthernetLen+40+8+8+4]
		binary.BigEndian.PutUint16(headless[header.EthernetLen+4:], 20)
		l.Send("c1", headless)
		l.ExpectDrop("c1", dataplane.DropMalformed, 1)
	})
	t.Run("inbound", func(t *testing.T) {
		l := newLab()
		for i, to := range []string{v6.At("c1", 80), v6.At(v6.Host, 80)} {
			l.Send("up", Inbound(header.ProtoTCP, v6.At(v6.World, 4000), to, SYN, ""))
			l.ExpectDrop("up", dataplane.DropUnclaimed, uint64(i+1))
		}
	})
	t.Run("too big", func(t *testing.T) {
		l := newLab()
		l.Send("c1", udp)
		out := l.Expect("up")
		tooBig := func(mtu uint32) []byte {
			f := Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: "2001:db8:9::1", Dst: v6.Host, Proto: header.ProtoICMPv6, Type: 2, Payload: out[header.EthernetLen:]})
			at := header.EthernetLen + 40
			was := binary.BigEndian.Uint32(f[at+4:])
			binary.BigEndian.PutUint32(f[at+4:], mtu)
			sum := uint32(^binary.BigEndian.Uint16(f[at+2:])) + uint32(^uint16(was>>16)) + uint32(^uint16(was)) + mtu>>16 + mtu&0xffff
			for sum>>16 != 0 {
				sum = sum>>16 + sum&0xffff
			}
			binary.BigEndian.PutUint16(f[at+2:], ^uint16(sum))
			return f
		}
		l.Send("up", tooBig(1280))
		f := l.Expect("c1")
		if got := binary.BigEndian.Uint32(f[header.EthernetLen+44:]); got != 1280 {
			t.Errorf("MTU %d", got)
		}
		if q := quoteOf(t, f); q.Src.String() != IPv6("c1") || q.SrcPort != 5000 {
			t.Errorf("it quotes %v", q)
		}
		l.Send("up", tooBig(1279))
		l.ExpectDrop("up", dataplane.DropForgedError, 1)
	})
}
