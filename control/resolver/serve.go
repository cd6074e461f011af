package resolver

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/places"
)

// How long a connection may be idle, and how long it may take a client to send a question or to take an
// answer: a byte now and then is no use of it.
const (
	idleTime  = 10 * time.Second
	questTime = 5 * time.Second
)

// serveUDP reads questions until the socket ends. It has to be fast, as what the socket cannot
// hold is lost whoever sent it.
func (r *Resolver) serveUDP(family int, in *net.UDPConn) {
	b, oob := make([]byte, maxQuery+1), make([]byte, 256)
	for ; ; runtime.Gosched() {
		n, oobn, _, client, err := in.ReadMsgUDPAddrPort(b, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error
		}
		local, ok := anyport.OriginalDestination(oob[:oobn])
		if !ok || client.Port() == 0 {
			continue
		}
		client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
		from := asker{client.Addr(), local.Addr()}
		r.queue.put(r.zone.Tenant(from.client), question{
			bytes: append([]byte(nil), b[:n]...), way: anyport.NewWay(local, client), family: family, from: from,
		})
	}
}

// work answers what waits, one after the other.
func (r *Resolver) work(out [2]*anyport.Sender) {
	for {
		d := r.queue.next()
		r.answer(d.bytes, d.from, true, true, func(b []byte) {
			_ = out[d.family].Send(d.way, append(make([]byte, anyport.HeaderLen, anyport.HeaderLen+len(b)), b...)) // the asker is gone
		})
	}
}

// conn is a TCP connection with its place.
type conn struct {
	net.Conn
	used atomic.Uint32
}

// Used implements places.Guest.
func (c *conn) Used() uint32 { return c.used.Load() }

// serveTCP accepts connections until the listener ends.
func (r *Resolver) serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no descriptor is free
			continue
		}
		r.serving.Go(func() { r.serveConn(&conn{Conn: c}) })
	}
}

// serveConn answers the questions of a connection, one after the other (RFC 7766). Who sends slowly, or
// reads slowly, keeps his own place alone, and that not for long.
func (r *Resolver) serveConn(c *conn) {
	defer c.Close()
	client, ok1 := c.RemoteAddr().(*net.TCPAddr)
	local, ok2 := c.LocalAddr().(*net.TCPAddr)
	if !ok1 || !ok2 {
		return
	}
	from := asker{client.AddrPort().Addr().Unmap(), local.AddrPort().Addr().Unmap()}
	c.used.Store(uint32(time.Now().UnixMilli()))
	r.mu.Lock()
	at, gave := r.conns.Take(c, r.zone.Tenant(from.client), places.Open)
	r.mu.Unlock()
	if gave != nil {
		gave.(*conn).Close()
	}
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.conns.Leave(at, c)
	}()
	var size [2]byte
	for {
		c.SetReadDeadline(time.Now().Add(idleTime))
		if _, err := io.ReadFull(c, size[:1]); err != nil {
			return
		}
		c.SetReadDeadline(time.Now().Add(questTime))
		if _, err := io.ReadFull(c, size[1:]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(size[:]))
		if n > maxQuery {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		c.used.Store(uint32(time.Now().UnixMilli()))
		said := false
		r.answer(b, from, false, false, func(b []byte) {
			c.SetWriteDeadline(time.Now().Add(questTime))
			_, err := c.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b))), b...))
			said = err == nil
		})
		if !said {
			return
		}
	}
}
