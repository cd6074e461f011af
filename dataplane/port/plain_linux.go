package port

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// plainLink is the link of a device that speaks IP without a header, such as tun and WireGuard. The
// stages see frames: what comes in gets an Ethernet header, and what goes out leaves it behind. Of no
// frame without one the kernel knows what is in it, so each message names its protocol (packet(7)).
type plainLink struct {
	to [2]unix.RawSockaddrLinklayer // of IPv4, of IPv6
}

// plainHead are the addresses of what comes in. They are of no station (802c, locally administered).
var plainHead = [12]byte{0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01}

// newPlainLink is that of the device that a socket is bound to.
func newPlainLink(fd int) (*plainLink, error) {
	at, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("device of the socket: %w", err)
	}
	sa, ok := at.(*unix.SockaddrLinklayer)
	if !ok {
		return nil, fmt.Errorf("device of the socket: %T is no address of one", at)
	}
	l := &plainLink{}
	for i, typ := range [2]uint16{header.TypeIPv4, header.TypeIPv6} {
		var be [2]byte
		binary.BigEndian.PutUint16(be[:], typ)
		l.to[i] = unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Protocol: binary.NativeEndian.Uint16(be[:]), Ifindex: int32(sa.Ifindex)}
	}
	return l, nil
}

// room is how much a frame is longer here than at the device.
func (l *plainLink) room() int {
	if l == nil {
		return 0
	}
	return header.EthernetLen
}

// lift writes the Ethernet header in front of a packet; f begins with its place, over what the kernel
// says of the packet, which off has. It is false for what is no IP.
func (l *plainLink) lift(f []byte, off *frame.Offload) bool {
	copy(f, plainHead[:])
	switch f[header.EthernetLen] >> 4 {
	case 4:
		binary.BigEndian.PutUint16(f[12:], header.TypeIPv4)
	case 6:
		binary.BigEndian.PutUint16(f[12:], header.TypeIPv6)
	default:
		return false
	}
	if off.Csum == frame.CsumPartial {
		off.CsumStart += header.EthernetLen
	}
	if off.HdrLen != 0 {
		off.HdrLen += header.EthernetLen
	}
	return true
}

// set makes messages of frames, and returns how many: what is no IP has no way on such a link. The
// Ethernet headers are written over.
func (l *plainLink) set(tx *Tx, frames []*frame.Frame) (n int) {
	for _, f := range frames {
		if f.Len() < header.EthernetLen {
			continue
		}
		to := &l.to[0]
		switch binary.BigEndian.Uint16(f.Data()[12:]) {
		case header.TypeIPv4:
		case header.TypeIPv6:
			to = &l.to[1]
		default:
			continue
		}
		off := f.Offload
		if off.Csum == frame.CsumPartial {
			off.CsumStart -= header.EthernetLen
		}
		if off.HdrLen >= header.EthernetLen {
			off.HdrLen -= header.EthernetLen
		}
		b := f.Buf[header.EthernetLen:]
		frame.EncodeVnetHdr(b, off)
		tx.set(n, b)
		tx.msgs[n].hdr.Name, tx.msgs[n].hdr.Namelen = (*byte)(unsafe.Pointer(to)), unix.SizeofSockaddrLinklayer
		n++
	}
	return n
}
