package relay_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
)

// random is an endless stream that a seed determines.
func random(seed byte) io.Reader { return rand.NewChaCha8([32]byte{seed}) }

func TestTCPDownload(t *testing.T) {
	l := newLab(t, relay.Config{})
	const size = 50 << 20
	l.publish(header.ProtoTCP, 8080, l.serveTCP(func(c *net.TCPConn) { io.CopyN(c, random(1), size) }))
	want := sha256.New()
	io.CopyN(want, random(1), size)
	for _, addr := range []string{"127.0.0.1", netlab.HostAddr6} {
		got := sha256.New()
		n, err := io.Copy(got, l.dial("tcp", addr, 8080))
		if err != nil || n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
			t.Errorf("%s: got %d bytes with hash %x, %v, want %d with %x", addr, n, got.Sum(nil), err, size, want.Sum(nil))
		}
	}
}

func TestTCPByEveryAddress(t *testing.T) {
	l := newLab(t, relay.Config{})
	l.publish(header.ProtoTCP, 8080, l.serveTCP(echo))
	for _, addr := range locals {
		c := l.dial("tcp", addr, 8080)
		if got := c.RemoteAddr().String(); got != join(addr, 8080) {
			t.Errorf("%s: connected to %s", addr, got)
		}
		fmt.Fprintf(c, "by %s", addr)
		c.(*net.TCPConn).CloseWrite()
		if b, err := io.ReadAll(c); string(b) != "by "+addr {
			t.Errorf("%s: got %q, %v, want the echo", addr, b, err)
		}
	}
}

// TestTCPOneAddress publishes on one address only, loopback included.
func TestTCPOneAddress(t *testing.T) {
	l := newLab(t, relay.Config{})
	l.leadTo(l.serveTCP(echo))
	for port, published := range map[uint16]string{8001: "127.0.0.1", 8002: netlab.HostAddr, 8003: "::1", 8004: netlab.HostAddr6} {
		slot := int(port - 8000)
		if err := l.k.ClaimSlot(netip.MustParseAddr(published), slot); err != nil {
			t.Fatal(err)
		}
		l.k.Published().Set(slot, header.ProtoTCP, port)
		for _, addr := range locals {
			c, err := l.Host.Dial("tcp", join(addr, port), 20*time.Second)
			if err == nil {
				c.Close()
			}
			if addr == published && err != nil || addr != published && !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("port %d of %s, dialled by %s: got %v", port, published, addr, err)
			}
		}
	}
}

func TestTCPHostsOwnListener(t *testing.T) {
	l := newLab(t, relay.Config{})
	l.publish(header.ProtoTCP, 8080, l.serveTCP(echo))
	own, err := l.Host.Listen("tcp", "127.0.0.1:8081")
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	c := l.dial("tcp", "127.0.0.1", 8081)
	s, err := own.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("the listener got a connection from %v, want %v", s.RemoteAddr(), c.LocalAddr())
	}
	l.k.Published().Clear(flowmap.WildcardSlot, header.ProtoTCP, 8080)
	l.k.Published().Clear(flowmap.WildcardSlot6, header.ProtoTCP, 8080)
	if _, err := l.Host.Dial("tcp", "127.0.0.1:8080", 10*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("no longer published: got %v, want %v", err, unix.ECONNREFUSED)
	}
}

// TestTCPRange publishes 50,000 ports, which cost the relay no socket.
func TestTCPRange(t *testing.T) {
	l := newLab(t, relay.Config{})
	target := l.serveTCP(func(c *net.TCPConn) { echo(c) })
	before := sockets(t)
	var asked sync.Map
	l.mu.Lock()
	l.resolve = func(proto uint8, local netip.AddrPort) (netip.AddrPort, bool) {
		asked.Store(local, proto)
		return netip.AddrPortFrom(netip.MustParseAddr(container4), target), true
	}
	l.mu.Unlock()
	for port := 10000; port < 60000; port++ {
		l.k.Published().Set(flowmap.WildcardSlot, header.ProtoTCP, uint16(port))
		l.k.Published().Set(flowmap.WildcardSlot6, header.ProtoTCP, uint16(port))
	}
	if after := sockets(t); after != before {
		t.Errorf("50,000 ports cost %d sockets", after-before)
	}
	ports := []uint16{10000, 59999}
	for range 100 {
		ports = append(ports, uint16(10000+rand.IntN(50000)))
	}
	for _, port := range ports {
		for _, addr := range []string{"127.0.0.1", netlab.HostAddr} {
			c, err := l.Host.Dial("tcp", join(addr, port), 20*time.Second)
			if err != nil {
				t.Fatalf("port %d: %v", port, err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			c.Write([]byte("x"))
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Errorf("port %d: %v", port, err)
			}
			c.Close()
			if proto, ok := asked.Load(netip.MustParseAddrPort(join(addr, port))); !ok || proto != header.ProtoTCP {
				t.Errorf("resolve was not asked for %s", join(addr, port))
			}
		}
	}
	for _, port := range []uint16{9999, 60000} {
		if _, err := l.Host.Dial("tcp", join("127.0.0.1", port), 20*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("port %d beside the range: got %v, want %v", port, err, unix.ECONNREFUSED)
		}
	}
}

// TestTCPHalfClose ends one direction first, the client's or the container's,
// on many connections at a time.
func TestTCPHalfClose(t *testing.T) {
	l := newLab(t, relay.Config{})
	const size = 200_000
	hash := func(r io.Reader) []byte {
		h := sha256.New()
		io.Copy(h, r)
		return h.Sum(nil)
	}
	// The container reads all, then answers with its hash.
	l.publish(header.ProtoTCP, 8001, l.serveTCP(func(c *net.TCPConn) { c.Write(hash(c)) }))
	var running sync.WaitGroup
	for i := range 50 {
		c := l.dial("tcp", locals[i%len(locals)], 8001).(*net.TCPConn)
		running.Go(func() {
			defer c.Close()
			io.CopyN(c, random(byte(i)), size)
			c.CloseWrite()
			got, err := io.ReadAll(c)
			if want := hash(io.LimitReader(random(byte(i)), size)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("client first: got %x, %v, want %x", got, err, want)
			}
		})
	}
	running.Wait()

	// The container ends its direction at once and reads on.
	results := make(chan []byte, 50)
	l.publish(header.ProtoTCP, 8002, l.serveTCP(func(c *net.TCPConn) {
		c.CloseWrite()
		results <- hash(c)
	}))
	for i := range 50 {
		c := l.dial("tcp", locals[i%len(locals)], 8002).(*net.TCPConn)
		running.Go(func() {
			defer c.Close()
			if b, err := io.ReadAll(c); len(b) != 0 || err != nil {
				t.Errorf("container first: got %d bytes, %v, want the end", len(b), err)
			}
			if _, err := io.CopyN(c, random(9), size); err != nil {
				t.Errorf("container first: %v", err)
			}
		})
	}
	running.Wait()
	want := hash(io.LimitReader(random(9), size))
	for range 50 {
		select {
		case got := <-results:
			if !bytes.Equal(got, want) {
				t.Errorf("container first: the container got %x, want %x", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("container first: the end of the client did not arrive")
		}
	}
}

// TestTCPFailures are all resets for the client, soon.
func TestTCPFailures(t *testing.T) {
	l := newLab(t, relay.Config{DialTimeout: 300 * time.Millisecond})
	closed := uint16(9)
	aborts := l.serveTCP(func(c *net.TCPConn) {
		c.Read(make([]byte, 1))
		c.SetLinger(0)
	})
	at := func(addr string, port uint16) func(uint8, netip.AddrPort) (netip.AddrPort, bool) {
		return func(uint8, netip.AddrPort) (netip.AddrPort, bool) {
			return netip.AddrPortFrom(netip.MustParseAddr(addr), port), true
		}
	}
	l.k.Published().Set(flowmap.WildcardSlot, header.ProtoTCP, 8080)
	l.k.Published().Set(flowmap.WildcardSlot6, header.ProtoTCP, 8080)
	for _, tt := range []struct {
		name    string
		resolve func(uint8, netip.AddrPort) (netip.AddrPort, bool)
	}{
		{"nothing listens", at(container4, closed)},
		{"nobody there", at(absent4, 80)},
		{"no longer published", func(uint8, netip.AddrPort) (netip.AddrPort, bool) { return netip.AddrPort{}, false }},
		{"container aborts", at(container4, aborts)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l.mu.Lock()
			l.resolve = tt.resolve
			l.mu.Unlock()
			c, err := l.Host.Dial("tcp", "127.0.0.1:8080", 10*time.Second)
			if err == nil {
				defer c.Close()
				c.SetDeadline(time.Now().Add(20 * time.Second))
				_, err = c.Write([]byte("x"))
			}
			if err == nil {
				_, err = io.ReadAll(c)
			}
			if !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("got %v, want %v", err, unix.ECONNRESET)
			}
		})
	}
}

// TestTCPClientAborts: the container hears of it.
func TestTCPClientAborts(t *testing.T) {
	l := newLab(t, relay.Config{})
	heard := make(chan error, 1)
	l.publish(header.ProtoTCP, 8080, l.serveTCP(func(c *net.TCPConn) {
		c.Write([]byte("x"))
		_, err := io.ReadAll(c)
		heard <- err
	}))
	c := l.dial("tcp", "127.0.0.1", 8080).(*net.TCPConn)
	io.ReadFull(c, make([]byte, 1))
	c.SetLinger(0)
	c.Close()
	select {
	case err := <-heard:
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("got %v, want %v", err, unix.ECONNRESET)
		}
	case <-time.After(20 * time.Second):
		t.Error("the container heard nothing")
	}
}

// TestClose ends connections in every state.
func TestClose(t *testing.T) {
	l := newLab(t, relay.Config{DialTimeout: time.Minute})
	before := sockets(t)
	l.publish(header.ProtoTCP, 8080, l.serveTCP(echo))
	var open []net.Conn
	for i := range 20 {
		c := l.dial("tcp", locals[i%len(locals)], 8080)
		c.Write([]byte("x"))
		io.ReadFull(c, make([]byte, 1))
		if i%2 == 0 {
			c.(*net.TCPConn).CloseWrite()
		}
		open = append(open, c)
	}
	l.leadToNobody()
	open = append(open, l.dial("tcp", "127.0.0.1", 8080)) // waits for an answer
	start := time.Now()
	if err := l.relay.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("close took %v", d)
	}
	for _, c := range open {
		if _, err := io.ReadAll(c); os.IsTimeout(err) {
			t.Error("a connection outlives the relay")
		}
		c.Close()
	}
	if _, err := l.Host.Dial("tcp", "127.0.0.1:8080", 10*time.Second); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("after close: got %v, want the host's %v", err, unix.ECONNREFUSED)
	}
	if err := l.relay.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	// The container's ends close in time of their own.
	want := before - 6 + 1 // without the relay's, with the container's listener
	deadline := time.Now().Add(20 * time.Second)
	for sockets(t) != want {
		if time.Now().After(deadline) {
			t.Fatalf("got %d sockets after, want %d", sockets(t), want)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// sockets counts the sockets of this process. The runtime keeps the pipes of
// splice for later, so they do not count.
func sockets(t *testing.T) (n int) {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range d {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(to, "socket:") {
			n++
		}
	}
	return n
}

// TestTCPClientsThatLeave: who resets a connection before its turn costs the container nothing.
func TestTCPClientsThatLeave(t *testing.T) {
	const clients = 100
	var dials atomic.Int64
	hold := make(chan struct{})
	l := newLabWith(t, relay.Config{}, func(cfg *relay.Config) error {
		dial := cfg.Dial
		cfg.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			<-hold // so that the others wait for their turns
			return dial(ctx, network, addr)
		}
		return nil
	})
	l.publish(header.ProtoTCP, 8080, l.serveTCP(echo))
	for range clients {
		c := l.dial("tcp", "127.0.0.1", 8080).(*net.TCPConn)
		c.SetLinger(0)
		c.Close()
	}
	close(hold)
	if err := say(l.dial("tcp", "127.0.0.1", 8080)); err != nil { // behind all of them
		t.Fatal(err)
	}
	if n := dials.Load(); n > clients/2 {
		t.Errorf("the container was dialled %d times for one client that stayed", n)
	}
}
