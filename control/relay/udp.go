package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/dataplane/header"
)

// maxDatagram is the longest payload of UDP over IPv4 or IPv6 without
// jumbograms.
const maxDatagram = 65535 - anyport.HeaderLen

// receiveBuffer is the most memory that datagrams may wait in, per family.
const receiveBuffer = 4 << 20

// udpSocket receives what is steered for one family.
type udpSocket struct {
	*net.UDPConn
	replies *anyport.Sender
}

// listenUDP opens the socket to which datagrams are steered, its descriptor and
// the socket that answers.
func (r *Relay) listenUDP(family, addr string) (*udpSocket, int, error) {
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
	c := r.leftUDP("udp" + family)
	if c == nil {
		p, err := lc.ListenPacket(r.ctx, "udp"+family, net.JoinHostPort(addr, "0"))
		if err != nil {
			return nil, -1, err
		}
		c = p.(*net.UDPConn)
	}
	r.sockets = append(r.sockets, c)
	replies, err := anyport.Open(family)
	if err != nil {
		return nil, -1, fmt.Errorf("socket for udp answers: %w", err)
	}
	r.sockets = append(r.sockets, replies)
	s := &udpSocket{c, replies}
	fd, err := fdOf(s.UDPConn)
	if err == nil {
		err = r.keep("udp"+family, fd)
	}
	return s, fd, err
}

// leftUDP is the socket of a process before. Its options are set.
func (r *Relay) leftUDP(network string) *net.UDPConn {
	f := r.left(network)
	if f == nil {
		return nil
	}
	defer f.Close()
	if r.cfg.Stale {
		return nil // keep puts another in its place
	}
	p, err := net.FilePacketConn(f)
	if err != nil {
		return nil
	}
	return p.(*net.UDPConn)
}

// receive lets every datagram wait for its user's turn. It has to be fast, as what the socket
// cannot hold is lost whoever sent it. Like carry it yields after each: in a flood neither ever
// waits, and a worker that wakes needs one of the runtime's processors.
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
		local, ok := anyport.OriginalDestination(oob[:oobn])
		if !ok {
			continue
		}
		f := flow{client: client, local: local}
		var who User
		if ses := r.sessions.get(f, time.Now()); ses != nil {
			who = ses.who
		} else {
			who.UID, who.Known = r.cfg.Whose(header.ProtoUDP, client, local)
		}
		r.backlog.put(datagram{flow: f, who: who, payload: b[:n], socket: s})
		runtime.Gosched()
	}
}

// carry gives every datagram to the session that it belongs to.
func (r *Relay) carry() {
	for ; ; runtime.Gosched() {
		d, ok := r.backlog.next()
		if !ok {
			return
		}
		ses := r.sessions.get(d.flow, time.Now())
		if ses == nil {
			var err error
			r.backlog.charge(d.who, openCost)
			if ses, err = r.open(&d); err != nil {
				r.cfg.Log.Debug("relay dropped a datagram", "client", d.flow.client, "err", err)
				continue
			}
		}
		if errors.Is(ses.send(d.payload), unix.EAGAIN) {
			r.full.Add(1)
		}
	}
}

// open makes the session of a datagram and starts its way back.
func (r *Relay) open(d *datagram) (*session, error) {
	addr, ok := r.cfg.Resolve(header.ProtoUDP, d.flow.local)
	if !ok {
		return nil, fmt.Errorf("port %v/udp is not published", d.flow.local)
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.DialTimeout)
	defer cancel()
	c, err := r.cfg.Dial(ctx, "udp", addr.String())
	if err != nil {
		return nil, err
	}
	ses := &session{flow: d.flow, who: d.who, to: addr, conn: c.(socket)}
	full, ok := r.sessions.add(ses, time.Now())
	if !ok {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	if !r.leads(header.ProtoUDP, d.flow.local, addr) { // by now
		r.sessions.remove(ses)
		return nil, fmt.Errorf("port %v/udp leads elsewhere", d.flow.local)
	}
	if full {
		r.mu.Lock()
		r.reachedLocked(header.ProtoUDP, d.who, r.sessions.places.Each())
		r.mu.Unlock()
	}
	r.running.Go(func() { r.answer(d.socket.replies, ses) })
	return ses, nil
}

// answer carries a session's datagrams back until the session ends.
func (r *Relay) answer(out *anyport.Sender, s *session) {
	defer r.sessions.remove(s)
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return // closed already
	}
	p := anyport.NewWay(s.flow.local, s.flow.client)
	var buf *[anyport.HeaderLen + maxDatagram]byte
	var n int
	var failed error
	// Most sessions wait most of the time, so a buffer is held only while there
	// is something in it.
	read := func(fd uintptr) bool {
		buf = buffers.Get().(*[anyport.HeaderLen + maxDatagram]byte)
		n, failed = unix.Read(int(fd), buf[anyport.HeaderLen:])
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
			_ = out.Send(p, buf[:anyport.HeaderLen+n]) // the client is gone, or too slow
		}
		buffers.Put(buf)
	}
}

var buffers = sync.Pool{New: func() any { return new([anyport.HeaderLen + maxDatagram]byte) }}

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

// control runs fn on the descriptor of a socket.
func control(c syscall.RawConn, fn func(fd int) error) error {
	var err error
	if cerr := c.Control(func(fd uintptr) { err = fn(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
