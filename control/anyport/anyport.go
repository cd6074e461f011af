// Package anyport sends UDP datagrams from any address and port of the host, also from ports that
// others hold, and says where a datagram was sent that was led to another socket.
package anyport

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
)

// HeaderLen is how many bytes Send fills in before the payload.
const HeaderLen = 8

// The sockets that answer are raw ones, since only those may send from a port
// that others hold. The kernel gives raw sockets a copy of every datagram to
// their address, so they are bound where hardly any goes, and filter the rest.
const (
	quiet4 = "127.255.255.254"
	quiet6 = "::1"
)

// Sender sends UDP datagrams from any address and port of the host. It is safe
// for concurrent use.
type Sender struct{ *net.IPConn }

// Open opens a sender of a family, "4" or "6", in the network namespace of the calling thread.
func Open(family string) (*Sender, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		cerr := c.Control(func(fd uintptr) { err = deafen(int(fd)) })
		return errors.Join(cerr, err)
	}}
	quiet := quiet4
	if family == "6" {
		quiet = quiet6
	}
	c, err := lc.ListenPacket(context.Background(), "ip"+family+":udp", quiet)
	if err != nil {
		return nil, err
	}
	return &Sender{c.(*net.IPConn)}, nil
}

// deafen has a raw socket receive nothing.
func deafen(fd int) error {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	prog := unix.SockFprog{Len: 1, Filter: &drop[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // the least there is
}

// Way is what all datagrams from one port to another have in common.
type Way struct {
	ports [4]byte // source and destination port
	sum   uint32  // of the pseudo-header without the length, and the ports
	to    *net.IPAddr
	oob   []byte // control message with the source address
}

// NewWay leads from a port of the host, which need not be anybody's, to another.
func NewWay(from, to netip.AddrPort) *Way {
	src, dst := from.Addr(), to.Addr().Unmap()
	p := &Way{
		to:  &net.IPAddr{IP: dst.AsSlice(), Zone: dst.Zone()},
		oob: sourceMessage(src, dst.Zone()),
		sum: uint32(header.ProtoUDP),
	}
	binary.BigEndian.PutUint16(p.ports[0:], from.Port())
	binary.BigEndian.PutUint16(p.ports[2:], to.Port())
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

// Send sends b, whose first HeaderLen bytes it fills in.
func (s *Sender) Send(p *Way, b []byte) error {
	copy(b, p.ports[:])
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	b[6], b[7] = 0, 0
	// The length counts twice, in the pseudo-header and in the header.
	c := ^fold(sum(p.sum+uint32(len(b)), b[4:]))
	if c == 0 {
		c = 0xffff // zero would mean that there is no checksum (RFC 768)
	}
	binary.BigEndian.PutUint16(b[6:], c)
	_, _, err := s.WriteMsgIP(b, p.oob, p.to)
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

// OriginalDestination finds the address and port a steered datagram was sent
// to, as ip(7) and ipv6(7) deliver them: a sockaddr_in or sockaddr_in6.
func OriginalDestination(oob []byte) (netip.AddrPort, bool) {
	for len(oob) > 0 {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet4:
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[4:8])), binary.BigEndian.Uint16(data[2:])), true
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_ORIGDSTADDR && len(data) >= unix.SizeofSockaddrInet6:
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(data[8:24])), binary.BigEndian.Uint16(data[2:])), true
		}
		oob = rest
	}
	return netip.AddrPort{}, false
}
