package header

import (
	"bytes"
	"testing"
)

// bigPacket is a super-packet of a family behind so many VLAN tags, with so many payload bytes and
// the jumbo options of older kernels or without.
func bigPacket(v6, jumbo bool, tags, payload int) []byte {
	b := make([]byte, EthernetLen)
	typ := uint16(TypeIPv4)
	if v6 {
		typ = TypeIPv6
	}
	for range tags {
		be.PutUint16(b[len(b)-2:], TypeVLAN)
		b = append(b, 0, 7, 0, 0)
	}
	be.PutUint16(b[len(b)-2:], typ)
	switch {
	case v6 && jumbo:
		b = append(append(b, 0x60, 0, 0, 0, 0, 0, 0, 64), bytes.Repeat([]byte{1}, 32)...)
		b = append(b, ProtoTCP, 0, 0xc2, 4, 0, 1, 0, 0)
	case v6:
		b = append(append(b, 0x60, 0, 0, 0, 0, 0, ProtoTCP, 64), bytes.Repeat([]byte{1}, 32)...)
	default:
		b = append(b, 0x45, 0, 0, 0, 0, 9, 0x40, 0, 64, ProtoTCP, 1, 2, 10, 0, 0, 1, 10, 0, 0, 2)
	}
	b = append(b, 0, 80, 0, 81, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x80, TCPACK|TCPPSH|TCPFIN|TCPCWR, 1, 0, 9, 9, 0, 0, 1, 1, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0)
	for i := range payload {
		b = append(b, byte(i*7))
	}
	return b
}

// TestSuperPackets: a super-packet without a length is cut into packets that Parse takes, whose
// checksums, numbers and flags are those of one stream.
func TestSuperPackets(t *testing.T) {
	const size, total, at = 1000, 3000, 1700
	for _, v6 := range []bool{false, true} {
		for _, jumbo := range []bool{false, true} {
			for tags := range 3 {
				b := bigPacket(v6, jumbo, tags, total)
				var l Layers
				if Parse(b, &l) {
					t.Errorf("a packet without a length is whole: %+v", l)
				}
				s, ok := ReadSuper(b)
				if !ok {
					t.Fatalf("IPv6 %v, jumbo %v, %d tags: no super-packet", v6, jumbo, tags)
				}
				var stream []byte
				later := make([]byte, s.Head())
				s.WriteHead(later, b, at, total, total, size, true)
				s.WriteHead(b[s.Strip:], b, 0, at, total, size, true)
				for i, p := range [][]byte{b[s.Strip : s.Payload+at], append(later, b[s.Payload+at:]...)} {
					var l Layers
					if ok := Parse(p, &l); !ok || l.Kind != KindL4 || int(l.End) != len(p) {
						t.Fatalf("IPv6 %v, jumbo %v, %d tags, piece %d: %v, %+v", v6, jumbo, tags, i, ok, l)
					}
					if int(l.L4) != s.L4-s.Strip {
						t.Errorf("piece %d: TCP at %d", i, l.L4)
					}
					seg, want := ReadSegment(p, &l), []uint8{TCPACK | TCPCWR, TCPACK | TCPPSH | TCPFIN}[i]
					if seg.Flags != want || seg.Seq != 0xffffff00+uint32(i)*at {
						t.Errorf("piece %d: flags %#x, number %#x", i, seg.Flags, seg.Seq)
					}
					if !v6 && (fold(sum(p[l.L3:l.L4], 0)) != 0xffff || be.Uint16(p[l.L3+4:]) != 9+uint16(i)) {
						t.Errorf("piece %d: IPv4 header % x", i, p[l.L3:l.L4])
					}
					stream = append(stream, p[len(p)-[]int{at, total - at}[i]:]...)
					FinishChecksum(p, int(l.L4), TCPChecksum)
					pseudo := sum(p[int(l.L4)-8:l.L4], uint64(ProtoTCP)+uint64(len(p)-int(l.L4)))
					if v6 {
						pseudo = sum(p[int(l.L4)-32:l.L4], uint64(ProtoTCP)+uint64(len(p)-int(l.L4)))
					}
					if got := fold(sum(p[l.L4:], pseudo)); got != 0xffff {
						t.Errorf("IPv6 %v, piece %d: its checksum gives %#x", v6, i, got)
					}
				}
				if !bytes.Equal(stream, bigPacket(v6, jumbo, tags, total)[s.Payload:]) {
					t.Error("the pieces have another payload")
				}
			}
		}
	}
}

// TestNoSuperPackets: what has a length, is no TCP or contradicts itself is cut by nobody.
func TestNoSuperPackets(t *testing.T) {
	for name, change := range map[string]func(b []byte){
		"a length":               func(b []byte) { b[17] = 1 },
		"UDP":                    func(b []byte) { b[23] = ProtoUDP },
		"a fragment":             func(b []byte) { b[20] = 0x20 },
		"a header of 16 bytes":   func(b []byte) { b[14] = 0x44 },
		"another version":        func(b []byte) { b[14] = 0x65 },
		"ARP":                    func(b []byte) { b[13] = 6 },
		"a TCP header too short": func(b []byte) { b[46] = 0x40 },
	} {
		b := bigPacket(false, false, 0, 3000)
		change(b)
		if s, ok := ReadSuper(b); ok {
			t.Errorf("%s: %+v", name, s)
		}
	}
	whole := bigPacket(true, true, 2, 0)
	for n := range whole {
		_, _ = ReadSuper(whole[:n])
	}
	b := bigPacket(true, true, 0, 3000)
	for i := 54; i < 58; i++ {
		b := bytes.Clone(b)
		b[i] ^= 1
		if _, ok := ReadSuper(b); ok {
			t.Errorf("byte %d of the options is another", i)
		}
	}
}
