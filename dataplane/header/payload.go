package header

// PayloadOffset is where the payload of a TCP or UDP packet begins, counted
// from the start of the frame; for anything else it is the end of the IP
// packet's known headers. b and l belong together; l is not that of a quoted packet.
func PayloadOffset(b []byte, l *Layers) int {
	switch {
	case l.L4 == 0:
		return int(l.L3)
	case l.Tuple.Proto == ProtoTCP && l.Kind == KindL4:
		return int(l.L4) + int(b[l.L4+12]>>4)*4
	case l.Tuple.Proto == ProtoUDP && l.Kind == KindL4:
		return int(l.L4) + udpLen
	}
	return int(l.L4)
}
