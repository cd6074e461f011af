package header

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// slowSum is the ones' complement sum of RFC 1071, one word at a time.
func slowSum(b []byte) uint16 {
	var s uint32
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// sums are the ones' complement sums that a receiver takes over what each
// checksum of a packet covers, 0xffff when it is true; -1 where there is none.
// A rewrite must not change any of them.
type sums struct{ ip, l4 int }

// sumsOf adds the packet up the slow way. The length is not in the
// pseudo-header here: it may be unknown (fragments, quotes) and never changes.
// partial takes the pseudo-header and the field alone.
func sumsOf(b []byte, l *Layers, partial bool) sums {
	s := sums{ip: -1, l4: -1}
	if l.Flags&FlagIPv6 == 0 {
		s.ip = nonzero(slowSum(b[l.L3 : int(l.L3)+int(b[l.L3]&15)*4]))
	}
	field := checksumField(l)
	if field < 0 {
		return s
	}
	var pseudo []byte
	if l.Tuple.Proto != ProtoICMP {
		pseudo = append(append(pseudo, l.Tuple.Src[:]...), l.Tuple.Dst[:]...)
		if l.Flags&FlagIPv6 == 0 {
			pseudo = append(append([]byte{}, l.Tuple.Src[12:]...), l.Tuple.Dst[12:]...)
		}
	}
	got := be.Uint16(b[field:])
	switch {
	case partial && l.Tuple.Proto == ProtoICMP:
		s.l4 = int(got)
	case partial:
		s.l4 = nonzero(slowSum(append(be.AppendUint16(nil, got), complement(pseudo)...)))
	case l.Tuple.Proto == ProtoUDP && got == 0:
	default:
		s.l4 = nonzero(slowSum(append(pseudo, b[l.L4:l.End]...)))
	}
	return s
}

// nonzero brings the two zeros of ones' complement together.
func nonzero(s uint16) int {
	if s == 0 {
		return 0xffff
	}
	return int(s)
}

func complement(b []byte) []byte {
	c := bytes.Clone(b)
	for i := range c {
		c[i] = ^c[i]
	}
	return c
}

// checksumField is the offset of the transport checksum, -1 when the packet has
// none that a rewrite must follow.
func checksumField(l *Layers) int {
	at := int(l.L4)
	if at == 0 {
		return -1
	}
	switch l.Tuple.Proto {
	case ProtoTCP:
		at += 16
	case ProtoUDP:
		at += 6
	case ProtoICMP, ProtoICMPv6:
		at += 2
	default:
		return -1
	}
	if at+2 > int(l.End) { // beyond the quote
		return -1
	}
	return at
}

// wantRewrite is the slow twin of Rewrite: it writes every address and port by
// its place in the protocol. The checksums are left as they were.
func wantRewrite(b []byte, l *Layers, to Tuple) []byte {
	b = bytes.Clone(b)
	if l.Flags&FlagIPv6 != 0 {
		copy(b[int(l.L3)+8:], to.Src[:])
		copy(b[int(l.L3)+24:], to.Dst[:])
	} else {
		copy(b[int(l.L3)+12:], to.Src[12:])
		copy(b[int(l.L3)+16:], to.Dst[12:])
	}
	if l.Kind != KindL4 {
		return b
	}
	switch l.Tuple.Proto {
	case ProtoTCP, ProtoUDP, ProtoSCTP:
		be.PutUint16(b[l.L4:], to.SrcPort)
		be.PutUint16(b[l.L4+2:], to.DstPort)
	default:
		id := to.SrcPort
		if typ := b[l.L4]; typ == 0 || typ == 14 || typ == 129 {
			id = to.DstPort
		}
		be.PutUint16(b[l.L4+4:], id)
	}
	return b
}

// blank zeroes the checksum fields of a packet.
func blank(b []byte, l *Layers) []byte {
	if l.Flags&FlagIPv6 == 0 {
		be.PutUint16(b[l.L3+10:], 0)
	}
	if field := checksumField(l); field >= 0 {
		be.PutUint16(b[field:], 0)
	}
	if hasCRC(l) {
		be.PutUint32(b[l.L4+8:], 0)
	}
	return b
}

// hasCRC reports whether all of an SCTP header is there.
func hasCRC(l *Layers) bool {
	return l.Tuple.Proto == ProtoSCTP && l.Kind == KindL4 && int(l.L4)+12 <= int(l.End)
}

// crcError is what the checksum of an SCTP packet differs by from the right one.
func crcError(b []byte, l *Layers) uint32 {
	p := bytes.Clone(b[l.L4:l.End])
	was := binary.LittleEndian.Uint32(p[8:])
	clear(p[8:12])
	return was ^ crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))
}

// canonical makes the two zeros of ones' complement one in every checksum where
// they mean the same, as only some senders write 0xffff.
func canonical(b []byte, l *Layers, partial bool) []byte {
	one := func(at int) {
		if be.Uint16(b[at:]) == 0xffff {
			be.PutUint16(b[at:], 0)
		}
	}
	if l.Flags&FlagIPv6 == 0 {
		one(int(l.L3) + 10)
	}
	if field := checksumField(l); field >= 0 && (l.Tuple.Proto != ProtoUDP || partial) {
		one(field)
	}
	return b
}

// verify lets gopacket check the IP and transport checksum of a frame.
func verify(t testing.TB, frame []byte) {
	t.Helper()
	var network gopacket.NetworkLayer
	checked := 0
	for _, layer := range gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default).Layers() {
		if n, ok := layer.(gopacket.NetworkLayer); ok {
			network = n
		}
		if s, ok := layer.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			if err := s.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
		}
		c, ok := layer.(gopacket.LayerWithChecksum)
		if !ok {
			continue
		}
		err, result := c.VerifyChecksum()
		if err != nil {
			t.Fatal(err)
		}
		if !result.Valid {
			t.Fatalf("%v checksum = %#04x, want %#04x", layer.LayerType(), result.Actual, result.Correct)
		}
		checked++
	}
	if want := 2; checked != want && (checked != 1 || network.LayerType() != layers.LayerTypeIPv6) {
		t.Fatalf("gopacket found %d checksums, want %d:\n%x", checked, want, frame)
	}
}
