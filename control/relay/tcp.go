package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
)

// acceptPause is how long accept waits when descriptors or memory ran out.
const acceptPause = 50 * time.Millisecond

// listenTCP opens the listener to which connections are steered, and its
// descriptor. The port it is bound to means nothing.
func (r *Relay) listenTCP(network, addr string) (*net.TCPListener, int, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false) // a map of sockets refuses MPTCP
	l, err := lc.Listen(r.ctx, network, addr)
	if err != nil {
		return nil, -1, err
	}
	r.sockets = append(r.sockets, l)
	fd, err := fdOf(l.(*net.TCPListener))
	return l.(*net.TCPListener), fd, err
}

func (r *Relay) accept(l *net.TCPListener) {
	failing := false
	for {
		c, err := l.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			if !failing {
				r.cfg.Log.Warn("relay cannot accept", "listener", l.Addr(), "err", err)
			}
			failing = true
			select {
			case <-time.After(acceptPause):
			case <-r.ctx.Done():
			}
			continue
		}
		failing = false
		if !r.admit(c) {
			reset(c)
			continue
		}
		r.running.Go(func() {
			r.serve(c)
			r.release(c)
		})
	}
}

// admit enters a client's connection unless there are too many.
func (r *Relay) admit(c *net.TCPConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := r.active >= r.cfg.MaxConns
	if full && !r.full {
		r.cfg.Log.Warn("relay is full and resets connections", "connections", r.active)
	}
	r.full = full
	if r.closed || full {
		return false
	}
	r.active++
	r.conns[c] = struct{}{}
	return true
}

func (r *Relay) release(c *net.TCPConn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active--
	delete(r.conns, c)
}

// serve carries one connection until both directions have ended. Whatever fails
// is a reset for the client, as it would be without a relay in between.
func (r *Relay) serve(client *net.TCPConn) {
	target, err := r.dialTCP(client)
	if err != nil {
		r.cfg.Log.Debug("relay reset a connection", "client", client.RemoteAddr(), "err", err)
		reset(client)
		return
	}
	r.mu.Lock()
	closed := r.closed
	r.conns[target] = struct{}{}
	r.mu.Unlock()
	if closed {
		reset(client)
		reset(target)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		forward(target, client)
	}()
	forward(client, target)
	<-done
	client.Close()
	target.Close()
	r.mu.Lock()
	delete(r.conns, target)
	r.mu.Unlock()
}

// dialTCP reaches the container a client asked for.
func (r *Relay) dialTCP(client *net.TCPConn) (*net.TCPConn, error) {
	local := unmap(client.LocalAddr().(*net.TCPAddr).AddrPort())
	addr, ok := r.cfg.Resolve(header.ProtoTCP, local)
	if !ok {
		return nil, fmt.Errorf("port %v/tcp is not published", local)
	}
	ctx, cancel := context.WithTimeout(r.ctx, r.cfg.DialTimeout)
	defer cancel()
	c, err := r.cfg.Dial(ctx, "tcp", addr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
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

// unmap is an address as Resolve knows it.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
