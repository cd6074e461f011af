package header

// Segment is what a tracker of TCP reads in a segment.
type Segment struct {
	Seq, Ack uint32
	Window   uint16 // as written, unscaled
	Flags    uint8
	// Len is the sequence space the segment takes: payload, SYN and FIN. Of a
	// first fragment it counts only what is there.
	Len uint32
	// Scale is the window scale option, -1 when there is none. Only a SYN
	// carries one.
	Scale int8
}

// Flags of a TCP header (RFC 9293 section 3.1), as in Segment.Flags and
// Layers.TCPFlags.
const (
	TCPFIN = 1 << 0
	TCPSYN = 1 << 1
	TCPRST = 1 << 2
	TCPPSH = 1 << 3
	TCPACK = 1 << 4
	TCPCWR = 1 << 7
)

// TCPChecksum is the offset of the checksum in a TCP header.
const TCPChecksum = 16

const (
	tcpOptEnd, tcpOptNop, tcpOptMSS, tcpOptScale = 0, 1, 2, 3

	maxScale = 14 // RFC 7323, 2.3
)

// ReadSegment reads a TCP header; l is of KindL4 and ProtoTCP and not that of a
// quoted packet.
func ReadSegment(b []byte, l *Layers) Segment {
	h := b[l.L4:]
	size := uint32(h[12]>>4) * 4
	s := Segment{
		Seq: be.Uint32(h[4:]), Ack: be.Uint32(h[8:]), Window: be.Uint16(h[14:]), Flags: h[13],
		Len: l.End - uint32(l.L4) - size, Scale: -1,
	}
	if s.Flags&TCPFIN != 0 {
		s.Len++
	}
	if s.Flags&TCPSYN != 0 {
		s.Len++
		if at := tcpOption(h[:size], tcpOptScale, 3); at > 0 {
			s.Scale = int8(min(h[at+2], maxScale))
		}
	}
	return s
}

// tcpOption finds an option of a TCP header by its kind and length; 0 when it
// is not there, or stands behind something unsound.
func tcpOption(h []byte, kind, size uint8) int {
	for at := tcpLen; at < len(h); {
		switch h[at] {
		case tcpOptEnd:
			return 0
		case tcpOptNop:
			at++
			continue
		}
		if at+1 >= len(h) || h[at+1] < 2 || at+int(h[at+1]) > len(h) {
			return 0
		}
		if h[at] == kind {
			if h[at+1] != size {
				return 0
			}
			return at
		}
		at += int(h[at+1])
	}
	return 0
}

// QuotedSeq is the sequence number in the TCP header that an ICMP error quotes;
// q is of KindL4 and ProtoTCP, whose first 8 bytes are always there.
func QuotedSeq(b []byte, q *Layers) uint32 { return be.Uint32(b[q.L4+4:]) }

// ClampMSS lowers the maximum segment size that a SYN announces; l is as for
// ReadSegment. The option is not added where there is none. partial is as for
// Rewrite: options are not in a partial checksum. It reports whether it changed
// anything.
func ClampMSS(b []byte, l *Layers, limit uint16, partial bool) bool {
	h := b[l.L4:]
	at := tcpOption(h[:int(h[12]>>4)*4], tcpOptMSS, 4)
	if at == 0 || be.Uint16(h[at+2:]) <= limit {
		return false
	}
	// The two bytes may straddle words of the checksum.
	from := at + 2 - at&1
	words := [2]uint16{be.Uint16(h[from:]), be.Uint16(h[from+2:])}
	be.PutUint16(h[at+2:], limit)
	if !partial {
		update(h, 16, diff16(words[0], be.Uint16(h[from:]))+diff16(words[1], be.Uint16(h[from+2:])))
	}
	return true
}
