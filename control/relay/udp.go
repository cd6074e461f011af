package relay

import (
	"context"
	"errors"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/dataplane/header"
)

// maxDatagram is the longest payload of UDP over IPv4 or IPv6 without
// jumbograms.
const maxDatagram = 65535 - anyport.HeaderLen

// receive lets every datagram wait for its user's turn. It has to be fast, as what the socket
// cannot hold is lost whoever sent it. Like carry it yields after each: in a flood neither ever
// waits, and a worker that wakes needs one of the runtime's processors.
func (r *Relay) receive(in *net.UDPConn, out *anyport.Sender) {
	b, oob := make([]byte, maxDatagram), make([]byte, 256)
	for {
		n, oobn, _, client, err := in.ReadMsgUDPAddrPort(b, oob)
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
		r.backlog.put(datagram{flow: f, who: who, payload: b[:n], out: out})
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
			r.backlog.charge(d.who, openCost)
			if ses = r.open(&d); ses == nil {
				continue
			}
		}
		if errors.Is(ses.send(d.payload), unix.EAGAIN) {
			r.full.Add(1)
		}
	}
}

// open makes the session of a datagram and starts its way back, unless the port leads nowhere.
func (r *Relay) open(d *datagram) *session {
	addr, ok := r.cfg.Resolve(header.ProtoUDP, d.flow.local)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.DialTimeout)
	defer cancel()
	c, err := r.cfg.Dial(ctx, "udp", addr.String())
	if err != nil {
		return nil
	}
	return r.enter(&session{flow: d.flow, who: d.who, to: addr, conn: c.(socket)}, d.out)
}

// enter has a session, whose datagrams leave by out, go on from now on.
func (r *Relay) enter(ses *session, out *anyport.Sender) *session {
	full, ok := r.sessions.add(ses, time.Now())
	if !ok {
		ses.conn.Close()
		return nil
	}
	if !r.leads(header.ProtoUDP, ses.flow.local, ses.to) { // by now
		r.sessions.remove(ses)
		return nil
	}
	if full {
		r.mu.Lock()
		r.reachedLocked(header.ProtoUDP, ses.who, r.sessions.places.Each())
		r.mu.Unlock()
	}
	r.running.Go(func() { r.answer(out, ses) })
	return ses
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
