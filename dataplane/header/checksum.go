package header

import "math/bits"

// fold brings a ones' complement sum to 16 bits. It is 0 only for 0, which is
// why an update never turns a checksum into the other zero (RFC 1624, 3).
func fold(sum uint64) uint16 {
	sum = sum>>32 + sum&0xffffffff
	sum = sum>>32 + sum&0xffffffff
	s := uint32(sum>>16) + uint32(sum&0xffff)
	s = s>>16 + s&0xffff
	s = s>>16 + s&0xffff
	return uint16(s)
}

// sum adds b to a ones' complement sum, as big-endian 16-bit words with a zero
// behind an odd last byte.
func sum(b []byte, start uint64) uint64 {
	s, carry := start, uint64(0)
	for len(b) >= 32 {
		s, carry = bits.Add64(s, be.Uint64(b), carry)
		s, carry = bits.Add64(s, be.Uint64(b[8:]), carry)
		s, carry = bits.Add64(s, be.Uint64(b[16:]), carry)
		s, carry = bits.Add64(s, be.Uint64(b[24:32]), carry)
		b = b[32:]
	}
	for len(b) >= 8 {
		s, carry = bits.Add64(s, be.Uint64(b), carry)
		b = b[8:]
	}
	var last uint64
	for i, c := range b {
		last |= uint64(c) << (56 - 8*i)
	}
	s, carry = bits.Add64(s, last, carry)
	return s + carry // cannot wrap: the low byte of last is 0
}

// update applies a difference (the sum of ^old + new over the words that
// changed) to the finished checksum at b[at:]: equation 3 of RFC 1624.
func update(b []byte, at int, diff uint64) {
	be.PutUint16(b[at:], ^fold(uint64(^be.Uint16(b[at:]))+diff))
}

// updateUDP is update for a field in which 0 means that there is no checksum
// (RFC 768; RFC 6935 for tunnels over IPv6), so that a sum of 0 goes as 0xffff.
func updateUDP(b []byte, at int, diff uint64) {
	if be.Uint16(b[at:]) == 0 {
		return
	}
	update(b, at, diff)
	if be.Uint16(b[at:]) == 0 {
		be.PutUint16(b[at:], 0xffff)
	}
}

// updatePartial applies a difference of the pseudo-header to a partial
// checksum, which is a sum not yet complemented.
func updatePartial(b []byte, at int, diff uint64) {
	be.PutUint16(b[at:], fold(uint64(be.Uint16(b[at:]))+diff))
}

// diffAddr is the difference that replacing an address makes. The common prefix
// of two IPv4 addresses adds a ones' complement zero.
func diffAddr(from, to *Addr) uint64 {
	var d uint64
	for i := 0; i < len(from); i += 4 {
		d += uint64(^be.Uint32(from[i:])) + uint64(be.Uint32(to[i:]))
	}
	return d
}

// diff16 is the difference that replacing a 16-bit word makes.
func diff16(from, to uint16) uint64 { return uint64(^from) + uint64(to) }

// FinishChecksum turns a partial checksum into a finished one: the field at
// start+offset holds the sum of the pseudo-header, all from start to the end of
// b is added. As in the kernel's skb_checksum_help a sum of 0 becomes 0xffff,
// whatever the protocol; only SCTP has its field at 8, for a CRC instead. Facts
// that do not fit into b change nothing.
func FinishChecksum(b []byte, start, offset int) {
	if start < 0 || offset < 0 || start > len(b) || start+offset+2 > len(b) {
		return
	}
	if offset == sctpSum && start+sctpLen <= len(b) {
		finishSCTP(b[start:])
		return
	}
	s := ^fold(sum(b[start:], 0))
	if s == 0 {
		s = 0xffff
	}
	be.PutUint16(b[start+offset:], s)
}
