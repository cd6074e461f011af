package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/places"
	"github.com/vswitch/vswitch/dataplane/header"
)

// acceptPause is how long accept waits when descriptors or memory ran out.
const acceptPause = 50 * time.Millisecond

func (r *Relay) accept(l *net.TCPListener) {
	failing := false
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !failing {
				r.cfg.Failing(err)
			}
			failing = true
			select {
			case <-time.After(acceptPause):
			case <-r.ctx.Done():
			}
			continue
		}
		failing = false
		if left(c) {
			reset(c)
			continue
		}
		k := &conn{client: c}
		k.ctx, k.cancel = context.WithCancel(r.ctx)
		if !r.admit(k) {
			k.end()
			continue
		}
		r.running.Go(func() {
			r.serve(k)
			k.cancel()
			r.mu.Lock()
			r.conns.Leave(k.at, k)
			r.mu.Unlock()
		})
	}
}

// conn is one connection of a client and, once it is reached, the one to its container.
type conn struct {
	client *net.TCPConn
	who    User
	at     uint32          // its place
	ctx    context.Context // ends when it has to
	cancel context.CancelFunc
	// Guarded by Relay.mu: what Used has said last, where the container is, once that was asked,
	// and its end.
	used   uint32
	to     netip.AddrPort
	target *net.TCPConn
}

// local is the published port that the client asked for.
func (c *conn) local() netip.AddrPort { return unmap(addrOf(c.client.LocalAddr())) }

// end resets both sides. It needs Relay.mu once the connection has a place.
func (c *conn) end() {
	c.cancel()
	reset(c.client)
	if c.target != nil {
		reset(c.target)
	}
}

// began is the beginning of the time that Used counts in.
var began = time.Now()

// usedAgain is how much later, in eighths of a second, data has to come for a connection to have
// been used again: its first comes a moment after it has taken its place, and the kernel tells
// the time since by a clock of its own.
const usedAgain = 3

// Used implements places.Guest, in eighths of a second: when data last came or went, which the
// kernel knows. Of a connection that has ended it is 0.
func (c *conn) Used() uint32 {
	now := time.Since(began)
	idle := now
	raw, err := c.client.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) {
			if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				idle = time.Duration(min(i.Last_data_recv, i.Last_data_sent)) * time.Millisecond
			}
		})
	}
	at := uint32(max(now-idle, 0) / (time.Second / 8))
	if at == 0 || c.used == 0 || int32(at-c.used) >= usedAgain {
		c.used = at
	}
	return c.used
}

// left reports whether a client has reset its connection: somebody who does nothing but that may
// cost no more than accept does, and no container anything.
func left(c *net.TCPConn) (yes bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	_ = raw.Control(func(fd uintptr) {
		i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		yes = err == nil && i.State == tcpClose
	})
	return yes
}

// tcpClose is TCP_CLOSE of the kernel's net/tcp_states.h.
const tcpClose = 7

// admit gives a client's connection a place, perhaps another's. It refuses it only after
// Close.
func (r *Relay) admit(c *conn) bool {
	local, client := addrOf(c.client.LocalAddr()), addrOf(c.client.RemoteAddr())
	uid, known := r.cfg.Whose(header.ProtoTCP, client, local)
	who := User{uid, known}
	c.who = who
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if r.conns.Full(who) {
		r.reachedLocked(header.ProtoTCP, who, r.conns.Each())
	}
	at, gave := r.conns.Take(c, who, places.Opening)
	c.at = at
	if gave != nil {
		gave.(*conn).end()
	}
	return true
}

// serve carries one connection until both directions have ended. Whatever fails
// is a reset for the client, as it would be without a relay in between.
func (r *Relay) serve(c *conn) {
	target, err := r.dialTCP(c)
	if err != nil {
		reset(c.client)
		return
	}
	r.mu.Lock()
	c.target = target
	r.conns.Opened(c.at, c)
	if c.ctx.Err() != nil { // it gave its place meanwhile, or its port leads elsewhere
		c.end()
	}
	r.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		forward(target, c.client)
	}()
	forward(c.client, target)
	<-done
	c.client.Close()
	target.Close()
}

// dialTCP reaches the container a client asked for.
func (r *Relay) dialTCP(k *conn) (*net.TCPConn, error) {
	r.mu.Lock() // so that Recheck knows what was asked before it
	to, ok := r.cfg.Resolve(header.ProtoTCP, k.local())
	k.to = to
	r.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("port %v/tcp is not published", k.local())
	}
	until := time.Now().Add(r.cfg.DialTimeout)
	ctx, cancel := context.WithDeadline(k.ctx, until)
	defer cancel()
	turn := r.openings.ask(k.who, time.Now())
	defer func() { r.openings.done(turn, time.Now()) }()
	select {
	case <-turn.ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if left(k.client) {
		return nil, unix.ECONNRESET
	}
	return r.reach(k, to, until)
}

// reach dials a container. While nobody moves its frames nobody answers either, so that who asks
// then waits for that, and is asked for again at once: the kernel asks after ever longer pauses.
func (r *Relay) reach(k *conn, to netip.AddrPort, until time.Time) (*net.TCPConn, error) {
	for {
		ctx, cancel := context.WithDeadline(k.ctx, until)
		back := r.cfg.Alone()
		if back != nil {
			cancel()
			ctx, cancel = context.WithCancel(k.ctx)
			go func() {
				select {
				case <-back:
					cancel()
				case <-ctx.Done():
				}
			}()
		}
		c, err := r.cfg.Dial(ctx, "tcp", to.String())
		cancel()
		if err == nil {
			return c.(*net.TCPConn), nil
		}
		if back == nil {
			back = r.cfg.Alone() // they may have gone meanwhile
		}
		if back == nil || errors.Is(err, unix.ECONNREFUSED) {
			return nil, err
		}
		select {
		case <-back:
		case <-k.ctx.Done():
			return nil, k.ctx.Err()
		}
		until = time.Now().Add(r.cfg.DialTimeout)
	}
}

// forward copies one direction, by splice, and passes on how it ended: a FIN as
// a FIN, with the other direction still open, all else as a reset.
func forward(dst, src *net.TCPConn) {
	_, err := io.Copy(dst, src)
	if err == nil {
		err = dst.CloseWrite()
	}
	if err != nil {
		reset(dst)
		reset(src)
	}
}

// reset closes a connection with a RST.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0) // fails once c is closed
	_ = c.Close()
}

func addrOf(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// unmap is an address as Resolve knows it.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
