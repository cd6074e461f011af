package header

import (
	"encoding/binary"
	"hash/crc32"
)

// The SCTP common header (RFC 9260 section 3.1).
const (
	sctpLen = 12
	sctpSum = 8 // offset of the checksum, CRC32c with the lowest byte first
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// updateSCTP makes the checksum of an SCTP packet follow its ports, from the ports
// old to those that stand in it now. It covers no addresses, so that only ports
// change it. b ends with the packet, or with its first fragment, behind which as many
// bytes come in others.
//
// A CRC is linear: what a difference in the data adds to it is the raw CRC of the
// difference and as many zeros as data follow. So a checksum that was wrong stays
// wrong.
func updateSCTP(b []byte, at int, old [4]byte, behind int) {
	h := b[at:]
	var diff [4]byte
	for i := range diff {
		diff[i] = old[i] ^ h[i]
	}
	if diff == ([4]byte{}) {
		return
	}
	crc := rawCRC(0, diff[:])
	for left := len(h) - len(diff) + behind; left > 0; {
		n := min(left, len(zeros))
		crc = rawCRC(crc, zeros[:n])
		left -= n
	}
	le := binary.LittleEndian
	le.PutUint32(h[sctpSum:], le.Uint32(h[sctpSum:])^crc)
}

// rawCRC is CRC32c without the complements at both ends.
func rawCRC(crc uint32, b []byte) uint32 { return ^crc32.Update(^crc, castagnoli, b) }

var zeros [4096]byte

// finishSCTP writes the checksum of a packet that was left to the last device.
func finishSCTP(p []byte) {
	le := binary.LittleEndian
	le.PutUint32(p[sctpSum:], 0)
	le.PutUint32(p[sctpSum:], crc32.Checksum(p, castagnoli))
}

// PortsChangeable reports whether the ports of a packet can become those of to: the
// checksum of an SCTP packet, which its first fragment bears, can follow a change only
// when it is known how much data come behind.
func PortsChangeable(l *Layers, to *Tuple) bool {
	return l.Tuple.Proto != ProtoSCTP || l.Flags&FlagFirstFragment == 0 || l.Behind > 0 ||
		l.Tuple.SrcPort == to.SrcPort && l.Tuple.DstPort == to.DstPort
}
