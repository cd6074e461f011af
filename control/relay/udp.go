package relay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
)

// maxDatagram is the longest payload of UDP over IPv4 or IPv6 without
// jumbograms.
const maxDatagram = 65535 - udpLen

// receiveBuffer is the most memory that datagrams may wait in, per family.
const receiveBuffer = 4 << 20

// udpSocket receives what is steered for one family.
type udpSocket struct {
	*net.UDPConn
	replies *replier
}

// listenUDP opens the socket to which datagrams are steered, its descriptor and
// the socket that answers.
func (r *Relay) listenUDP(family, addr, quiet string) (*udpSocket, int, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			// Beyond rmem_max, as all published ports share the buffer. Without
			// CAP_NET_ADMIN it stays as it is.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
			if family == "4" {
				return unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_RECVORIGDSTADDR, 1)
			}
			return unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_RECVORIGDSTADDR, 1)
		})
	}}
	c, err := lc.ListenPacket(r.ctx, "udp"+family, net.JoinHostPort(addr, "0"))
	if err != nil {
		return nil, -1, err
	}
	r.sockets = append(r.sockets, c)
	replies, err := newReplier("ip"+family+":udp", quiet)
	if err != nil {
		return nil, -1, fmt.Errorf("socket for udp answers: %w", err)
	}
	r.sockets = append(r.sockets, replies)
	s := &udpSocket{c.(*net.UDPConn), replies}
	fd, err := fdOf(s.UDPConn)
	return s, fd, err
}

// receive gives every datagram to the session it belongs to.
func (r *Relay) receive(s *udpSocket) {
	b, oob := make([]byte, maxDatagram), make([]byte, 256)
	for {
		n, oobn, _, client, err := s.ReadMsgUDPAddrPort(b, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error; the datagram is lost as UDP may be
		}
		local, ok := originalDestination(oob[:oobn])
		if !ok {
			continue
		}
		f := flow{client: client, local: local}
		ses := r.sessions.get(f, time.Now())
		if ses == nil {
			if ses, err = r.open(s, f); err != nil {
				r.cfg.Log.Debug("relay dropped a datagram", "client", client, "err", err)
				continue
			}
		}
		// The first attempt may only report that an earlier one was refused.
		if _, err = ses.conn.Write(b[:n]); err != nil {
			_, _ = ses.conn.Write(b[:n])
		}
	}
}

// open makes a session and starts its way back.
func (r *Relay) open(s *udpSocket, f flow) (*session, error) {
	addr, ok := r.cfg.Resolve(header.ProtoUDP, f.local)
	if !ok {
		return nil, fmt.Errorf("port %v/udp is not published", f.local)
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.DialTimeout)
	defer cancel()
	c, err := r.cfg.Dial(ctx, "udp", addr.String())
	if err != nil {
		return nil, err
	}
	ses := &session{flow: f, conn: c.(*net.UDPConn)}
	if !r.sessions.add(ses, time.Now()) {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	r.running.Go(func() { r.answer(s.replies, ses) })
	return ses, nil
}

// answer carries a session's datagrams back until the session ends.
func (r *Relay) answer(out *replier, s *session) {
	defer r.sessions.remove(s)
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return // closed already
	}
	p := newReply(s.flow)
	var buf *[udpLen + maxDatagram]byte
	var n int
	var failed error
	// Most sessions wait most of the time, so a buffer is held only while there
	// is something in it.
	read := func(fd uintptr) bool {
		buf = buffers.Get().(*[udpLen + maxDatagram]byte)
		n, failed = unix.Read(int(fd), buf[udpLen:])
		if failed == unix.EAGAIN {
			buffers.Put(buf)
			return false
		}
		return true
	}
	for raw.Read(read) == nil {
		// A failure is the container's refusal of the last datagram. Its service
		// may come yet, so the session stays until it is idle.
		if failed == nil {
			r.sessions.touch(s, time.Now())
			_ = out.send(p, buf[:udpLen+n]) // the client is gone, or too slow
		}
		buffers.Put(buf)
	}
}

var buffers = sync.Pool{New: func() any { return new([udpLen + maxDatagram]byte) }}

// expire ends idle sessions.
func (r *Relay) expire() {
	t := time.NewTicker(r.cfg.IdleTimeout / 4)
	defer t.Stop()
	for {
		select {
		case now := <-t.C:
			r.sessions.expire(now.Add(-r.cfg.IdleTimeout))
		case <-r.ctx.Done():
			return
		}
	}
}

// originalDestination finds the address and port a steered datagram was sent
// to, as ip(7) and ipv6(7) deliver them: a sockaddr_in or sockaddr_in6.
func originalDestination(oob []byte) (netip.AddrPort, bool) {
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
