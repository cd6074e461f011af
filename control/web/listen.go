package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
)

const (
	// DefaultAddr is the port of the page on loopback.
	DefaultAddr = "127.0.0.1:9595"
	// MaxConns is how many connections are served at a time.
	MaxConns = 128
)

// Listen opens the listener of a page at addr, an address in numbers with a port;
// ":9595" is on loopback. Another address than loopback is refused for a page that asks
// for no token.
// It works in the network namespace of the calling thread.
func Listen(addr string, token bool) (*net.TCPListener, error) {
	fail := func(format string, a ...any) (*net.TCPListener, error) {
		return nil, fmt.Errorf("page at %s: %w", addr, fmt.Errorf(format, a...))
	}
	host, port, err := net.SplitHostPort(addr)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil {
		return fail("not ADDRESS:PORT such as %s", DefaultAddr)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return fail("not an address in numbers: use one, such as %s", DefaultAddr)
	}
	if !ip.IsLoopback() && !token {
		return fail("others than this host could read every packet there: use %s, or leave --http-token=off out", DefaultAddr)
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", net.JoinHostPort(ip.String(), port))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fail("another program listens there: choose another port with --http")
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fail("the host has no such address: choose one of its own with --http")
	case err != nil:
		return fail("%w", err)
	}
	return l.(*net.TCPListener), nil
}
