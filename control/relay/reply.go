package relay

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
)

const udpLen = 8

// The sockets that answer are raw ones, since only those may send from a port
// that others hold. The kernel gives raw sockets a copy of every datagram to
// their address, so they are bound where hardly any goes, and filter the rest.
const (
	quiet4 = "127.255.255.254"
	quiet6 = "::1"
)

// replier sends UDP datagrams from any address and port of the host. It is safe
// for concurrent use.
type replier struct{ *net.IPConn }

func newReplier(network, quiet string) (*replier, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
			prog := unix.SockFprog{Len: 1, Filter: &drop[0]}
			if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
				return err
			}
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // the least there is
		})
	}}
	c, err := lc.ListenPacket(context.Background(), network, quiet)
	if err != nil {
		return nil, err
	}
	return &replier{c.(*net.IPConn)}, nil
}

// reply is what all answers of a session have in common.
type reply struct {
	ports  [4]byte // source and destination port
	sum    uint32  // of the pseudo-header without the length, and the ports
	client *net.IPAddr
	oob    []byte // control message with the source address
}

func newReply(f flow) *reply {
	src, dst := f.local.Addr(), f.client.Addr().Unmap()
	p := &reply{
		client: &net.IPAddr{IP: dst.AsSlice(), Zone: dst.Zone()},
		oob:    sourceMessage(src, dst.Zone()),
		sum:    uint32(header.ProtoUDP),
	}
	binary.BigEndian.PutUint16(p.ports[0:], f.local.Port())
	binary.BigEndian.PutUint16(p.ports[2:], f.client.Port())
	p.sum = sum(sum(sum(p.sum, src.AsSlice()), dst.AsSlice()), p.ports[:])
	return p
}

// sourceMessage is the control message that names the source of a packet, see
// IP_PKTINFO in ip(7) and IPV6_PKTINFO in RFC 3542, section 6.1. A link-local
// source needs the zone.
func sourceMessage(src netip.Addr, zone string) []byte {
	level, typ, size := int32(unix.SOL_IP), int32(unix.IP_PKTINFO), unix.SizeofInet4Pktinfo
	if src.Is6() {
		level, typ, size = unix.SOL_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo
	}
	b := make([]byte, unix.CmsgSpace(size))
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, typ
	h.SetLen(unix.CmsgLen(size))
	data := unsafe.Pointer(&b[unix.CmsgLen(0)])
	if src.Is6() {
		info := (*unix.Inet6Pktinfo)(data)
		info.Addr = src.As16()
		if ifi, err := net.InterfaceByName(zone); err == nil {
			info.Ifindex = uint32(ifi.Index)
		}
	} else {
		(*unix.Inet4Pktinfo)(data).Spec_dst = src.As4()
	}
	return b
}

// send sends b, whose first udpLen bytes it fills in.
func (r *replier) send(p *reply, b []byte) error {
	copy(b, p.ports[:])
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	b[6], b[7] = 0, 0
	// The length counts twice, in the pseudo-header and in the header.
	s := ^fold(sum(p.sum+uint32(len(b)), b[4:]))
	if s == 0 {
		s = 0xffff // zero would mean that there is no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(b[6:], s)
	_, _, err := r.WriteMsgIP(b, p.oob, p.client)
	return err
}

// sum adds the 16-bit words of b, at most 64 KiB, to s.
func sum(s uint32, b []byte) uint32 {
	for len(b) >= 2 {
		s += uint32(b[0])<<8 | uint32(b[1])
		b = b[2:]
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s>>16 + s&0xffff
}

func fold(s uint32) uint16 {
	s = s>>16 + s&0xffff
	return uint16(s>>16 + s)
}

// control runs fn on the descriptor of a socket.
func control(c syscall.RawConn, fn func(fd int) error) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = fn(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
