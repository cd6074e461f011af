package web

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"

	"golang.org/x/net/netutil"
)

const (
	// DefaultAddr is the port of the page on loopback.
	DefaultAddr = "127.0.0.1:9595"
	// maxConns is how many connections are served at a time, others wait.
	maxConns = 128
	// minToken is the shortest secret in bytes: 16 random ones as hex are twice that.
	minToken = 16
)

// Listen opens the listener of a page at addr, an address in numbers with a port;
// ":9595" is on loopback. Another address than loopback is refused without a token.
// It works in the network namespace of the calling thread.
func Listen(addr, token string) (*net.TCPListener, error) {
	fail := func(format string, a ...any) (*net.TCPListener, error) {
		return nil, fmt.Errorf("page at %s: %w", addr, fmt.Errorf(format, a...))
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fail("not ADDRESS:PORT such as %s", DefaultAddr)
	}
	if host == "" || host == "localhost" {
		host = "127.0.0.1"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return fail("not an address in numbers: use one, such as %s", DefaultAddr)
	}
	if !ip.IsLoopback() && token == "" {
		return fail("others than this host could read every packet there: use %s, or set --http-token-file", DefaultAddr)
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

// Limit serves so many connections at a time; others wait.
func Limit(l net.Listener) net.Listener { return netutil.LimitListener(l, maxConns) }

// ReadToken reads the secret of a page from the first line of a file that nobody
// but its owner and group may read.
func ReadToken(path string) (string, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("token file %s: no such file: make one, such as with (umask 077; openssl rand -hex 32 >%s)", path, path)
	}
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	if fi.Mode().Perm()&0o007 != 0 {
		return "", fmt.Errorf("token file %s: everybody may use it (mode %v): chmod 0640 it", path, fi.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token, _, _ := strings.Cut(string(b), "\n")
	token = strings.TrimSpace(token)
	if len(token) < minToken {
		return "", fmt.Errorf("token file %s: its first line has %d characters: at least %d are wanted", path, len(token), minToken)
	}
	return token, nil
}
