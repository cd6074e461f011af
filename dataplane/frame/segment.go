package frame

import "github.com/vswitch/vswitch/dataplane/header"

// Segments cuts a super-frame into the frames that a device would put on the
// wire, and calls emit with each; b is changed, and what emit gets is valid
// during the call. It does nothing with a frame that it cannot cut.
func (o *Offload) Segments(b []byte, emit func([]byte)) {
	var l header.Layers
	if !header.Parse(b, &l) || l.Kind != header.KindL4 || l.L4 == 0 || !o.Fits(&l) || o.GSOSize == 0 ||
		l.Flags&(header.FlagFragment|header.FlagFirstFragment) != 0 {
		return
	}
	var buf []byte
	switch o.GSOType &^ GSOECN {
	case GSOTCPv4, GSOTCPv6, GSOUDPL4:
		for i, more := 0, true; more; i++ {
			buf, more = header.AppendSegment(buf[:0], b, &l, i, int(o.GSOSize))
			emit(buf)
		}
	case GSOUDP: // one datagram in IP fragments
		size := int(o.GSOSize) &^ 7
		if l.Flags&header.FlagIPv6 != 0 || size == 0 {
			return
		}
		header.FinishChecksum(b[:l.End], int(o.CsumStart), int(o.CsumOffset))
		for at, whole := 0, int(l.End)-int(l.L4); at < whole; {
			buf, at = header.AppendFragment(buf[:0], b, &l, at, size)
			emit(buf)
		}
	}
}
