package gen

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// question is an ARP request for To, RFC 826.
func (f FrameSpec) question() []byte {
	b := make([]byte, max(f.Size-fcsSize, etherSize+28))
	copy(b, f.Dst)
	copy(b[6:], f.Src)
	binary.BigEndian.PutUint16(b[12:], unix.ETH_P_ARP)
	a := b[etherSize:]
	copy(a, []byte{0, 1, 8, 0, 6, 4, 0, 1}) // Ethernet, IPv4, a request
	copy(a[8:], f.Src)
	copy(a[14:], f.From.Addr().AsSlice())
	f.ask(b, 0)
	return b
}

// ask makes frame the question for the address that is n above To.
func (f FrameSpec) ask(frame []byte, n uint32) {
	to := f.To.Addr().AsSlice()
	binary.BigEndian.PutUint32(frame[etherSize+24:], binary.BigEndian.Uint32(to[len(to)-4:])+n)
}

// one gives an IPv4 packet the identifier n: of its fragments, of the query that it is, or of the flow
// that it is an error about.
func (f FrameSpec) one(ip []byte, n uint16) {
	if icmp := ip[20:]; f.Error {
		q := icmp[8 : 8+quoteSize]
		q[0], q[8], q[9] = 0x45, 64, unix.IPPROTO_UDP
		binary.BigEndian.PutUint16(q[2:], quoteSize)
		copy(q[12:], ip[16:20])
		copy(q[16:], ip[12:16])
		binary.BigEndian.PutUint16(q[20:], n)
		binary.BigEndian.PutUint16(q[22:], n)
		binary.BigEndian.PutUint16(q[24:], 8)
		binary.BigEndian.PutUint16(q[10:], 0)
		binary.BigEndian.PutUint16(q[10:], ^sum(0, q[:20]))
		binary.BigEndian.PutUint16(icmp[2:], 0)
		binary.BigEndian.PutUint16(icmp[2:], ^sum(0, icmp))
	} else if f.Echo {
		binary.BigEndian.PutUint16(icmp[4:], n)
		binary.BigEndian.PutUint16(icmp[2:], 0)
		binary.BigEndian.PutUint16(icmp[2:], ^sum(0, icmp))
	} else {
		binary.BigEndian.PutUint16(ip[4:], n)
	}
	binary.BigEndian.PutUint16(ip[10:], 0)
	binary.BigEndian.PutUint16(ip[10:], ^sum(0, ip[:20]))
}
