package switchtest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane/header"
)

// Hostile sends a frame of a flow that differs from what is due: numbers that a stranger
// guesses, lengths that lie, headers that no row was decided by.
func (w *Twins) Hostile(f *TwinFlow, side int) {
	w.T.Helper()
	w.Send(f.At(side), f.hostile(w.Rand, side), f.Kind)
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// guess is a distance in sequence space, those next to a border among them.
func guess(r *rand.Rand) uint32 {
	n := pick(r, 0, 0, 1, 2, 65534, 65535, 65536, 65999, 66000, 66001, 131072, 1<<22, 1<<31, r.Uint32N(1<<17), r.Uint32())
	return pick(r, n, -n)
}

// flags of segments as they are, and as they never should be.
func flagsOf(r *rand.Rand) uint8 {
	return pick(r, ACK, ACK, ACK|PSH, RST, RST|ACK, SYN, SYN|ACK, FIN|ACK, FIN, 0, PSH, SYN|FIN, SYN|RST, 0xff, uint8(r.Uint32()))
}

// forged is a segment of somebody who knows the flow's addresses and ports. A reset tells
// whether one before has moved a number.
func (f *TwinFlow) forged(r *rand.Rand, side int) []byte {
	seq, ack, payload := guess(r), guess(r), make([]byte, pick(r, 0, 0, 1, 100))
	b := f.Frame(side, ACK, seq, ack, payload)
	if f.proto != header.ProtoTCP {
		return b
	}
	tcp := b[f.l4():]
	if tcp[13] = flagsOf(r); r.IntN(3) == 0 {
		binary.BigEndian.PutUint16(tcp[14:], uint16(r.Uint32())) // window
	}
	if r.IntN(4) == 0 {
		tcp[13] = pick(r, uint8(RST), RST|ACK)
		binary.BigEndian.PutUint32(tcp[4:], pick(r, f.end[side], f.ack[1-side]))
	} else {
		f.end[side] = f.seq[side] + seq + uint32(len(payload)) + uint32(tcp[13]&FIN)
		f.ack[side] = f.seq[1-side] + ack
	}
	f.sum(b)
	return b
}

func (f *TwinFlow) l4() int {
	if f.v6 {
		return 54
	}
	return 34
}

// sum makes the checksum of the transport header right.
func (f *TwinFlow) sum(b []byte) {
	at := f.l4() + 16
	if f.proto == header.ProtoUDP {
		at = f.l4() + 6
	}
	b[at], b[at+1] = 0, 0
	addrs := b[26:34]
	if f.v6 {
		addrs = b[22:54]
	}
	sum := uint32(f.proto) + uint32(len(b)-f.l4())
	for _, part := range [][]byte{addrs, b[f.l4():]} {
		for i := range part {
			if i%2 == 0 {
				sum += uint32(part[i]) << 8
			} else {
				sum += uint32(part[i])
			}
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[at:], ^uint16(sum))
}

// sumIP makes the checksum of an IPv4 header right.
func sumIP(b []byte) {
	n := int(b[14]&15) * 4
	if n < 20 || len(b) < 14+n {
		return
	}
	b[24], b[25] = 0, 0
	sum := uint32(0)
	for i := 14; i < 14+n; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[24:], ^uint16(sum))
}

// speaksFor makes a frame of an uplink one from an address of ours, perhaps to a gateway.
func (f *TwinFlow) speaksFor(r *rand.Rand, b []byte) {
	family, at, n := Families[0], 26, 4
	if f.v6 {
		family, at, n = Families[1], 22, 16
	}
	put := func(at int, station string) {
		copy(b[at:], netip.MustParseAddr(family.Addr(station)).AsSlice())
	}
	put(at, pick(r, "c1", "c2", "c5", "host1", "host3", "up"))
	if r.IntN(3) == 0 {
		put(at+n, pick(r, "host1", "host2", "c1"))
	}
	if !f.v6 {
		sumIP(b)
	}
	f.sum(b)
}

func (f *TwinFlow) hostile(r *rand.Rand, side int) []byte {
	if r.IntN(2) == 0 {
		return f.forged(r, side)
	}
	size := pick(r, 0, 1, 40, r.IntN(1400))
	if r.IntN(6) == 0 { // around the MTU
		size = pick(r, 1500, secondMTU) + 14 - f.l4() - 20 + pick(r, -1, 0, 1, 12, 13, 600)
	}
	b := f.Frame(side, ACK, 0, 0, make([]byte, size))
	ip := b[14:]
	switch r.IntN(18) {
	case 0: // a hop or none
		if f.v6 {
			ip[7] = pick(r, uint8(0), 1, 2, 255)
		} else {
			ip[8] = pick(r, uint8(0), 1, 2, 255)
		}
	case 1:
		ip[1] = pick(r, uint8(1), 3, 0xb8, 0xff) // TOS, or flow label and traffic class
	case 2, 3:
		if !f.v6 { // DF, more fragments, offset
			binary.BigEndian.PutUint16(ip[6:], pick(r, uint16(0), 0x2000, 0x8000, 0x4001, 1, uint16(r.Uint32())))
			ip[5] = uint8(r.Uint32())
		}
	case 4: // a length that lies
		at := 2
		if f.v6 {
			at = 4
		}
		n := binary.BigEndian.Uint16(ip[at:])
		binary.BigEndian.PutUint16(ip[at:], pick(r, 0, n-1, n-8, n-30, n+1, n+100, 20, 19, 28, uint16(r.Uint32())))
	case 5: // padding
		b = append(b, make([]byte, pick(r, 1, 10, 255, 300))...)
	case 6:
		ip[0] = pick(r, uint8(0x44), 0x4f, 0x46, 0x55, 0x65, 0x75, 0x40)
	case 7:
		if !f.v6 {
			ip[10+r.IntN(2)] ^= 0x55
			return b // the checksum stays wrong
		}
	case 8:
		copy(b[:6], pick(r, "\xff\xff\xff\xff\xff\xff", "\x01\x00\x5e\x00\x00\x05", "\x33\x33\x00\x00\x00\x01", "\x02\xaa\xbb\xcc\xdd\xee"))
	case 9:
		b[6+r.IntN(6)] ^= 1 << r.IntN(8)
	case 10: // a tag; one of an uplink is no part of the bytes
		if !isUplink(f.At(side)) {
			b = slices.Insert(b, 12, 0x81, 0, uint8(pick(r, 0, 0, 0x20, 1)), uint8(pick(r, 0, 0, 10)))
		}
		return b
	case 11: // an extension header, or options
		if f.v6 {
			b = slices.Insert(b, 54, ip[6], 0, 1, 4, 0, 0, 0, 0)
			b[20] = pick(r, uint8(0), 60, 44, 43)
			binary.BigEndian.PutUint16(b[18:], binary.BigEndian.Uint16(b[18:])+8)
		} else {
			b = slices.Insert(b, 34, pick(r, uint8(1), 7, 0x83, 0x94), 4, 0, 0)
			b[14] = 0x46
			binary.BigEndian.PutUint16(b[16:], binary.BigEndian.Uint16(b[16:])+4)
		}
	case 12: // a checksum
		at := f.l4() + 16
		if f.proto == header.ProtoUDP {
			at = f.l4() + 6
		}
		copy(b[at:], pick(r, "\x00\x00", "\xff\xff", "\x12\x34"))
	case 13: // data offset, or the length of a datagram
		if f.proto == header.ProtoTCP {
			b[f.l4()+12] = uint8(r.IntN(16)) << 4
		} else {
			n := binary.BigEndian.Uint16(b[f.l4()+4:])
			binary.BigEndian.PutUint16(b[f.l4()+4:], pick(r, 0, 7, 8, n-1, n+1, n+300, uint16(r.Uint32())))
		}
	case 14: // an address or a port of others
		b[pick(r, 29, 33, f.l4()+1, f.l4()+3)] ^= 1 << r.IntN(8)
		if isUplink(f.At(side)) {
			f.speaksFor(r, b)
			return b
		}
	case 15:
		b = b[:len(b)-min(r.IntN(30), max(0, len(b)-60))]
	case 16:
		b[13] ^= pick(r, uint8(1), 6, 0xdd)
	default: // anything
		for range 1 + r.IntN(3) {
			b[r.IntN(min(len(b), 80))] ^= 1 << r.IntN(8)
		}
		return b
	}
	if b[12] == 8 && b[13] == 0 {
		sumIP(b)
	}
	return b
}
