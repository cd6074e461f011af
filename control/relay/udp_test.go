package relay_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
)

func TestUDPByEveryAddress(t *testing.T) {
	l := newLab(t, relay.Config{})
	l.publish(header.ProtoUDP, 5353, l.echoUDP())
	for _, addr := range locals {
		// Not connected, so that the source of the answer is ours to check.
		any := "0.0.0.0:0"
		if netip.MustParseAddr(addr).Is6() {
			any = "[::]:0"
		}
		c, err := l.Host.ListenPacket("udp", any)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		to := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(join(addr, 5353)))
		for i := range 3 {
			want := fmt.Appendf(nil, "%d by %s", i, addr)
			c.WriteTo(want, to)
			b := make([]byte, 100)
			n, from, err := c.ReadFrom(b)
			if err != nil || !bytes.Equal(b[:n], want) || from.String() != to.String() {
				t.Errorf("%s: got %q from %v, %v, want %q from %v", addr, b[:n], from, err, want, to)
			}
		}
	}
}

func TestUDP100Clients(t *testing.T) {
	l := newLab(t, relay.Config{})
	l.publish(header.ProtoUDP, 5353, l.echoUDP())
	var running sync.WaitGroup
	for i := range 100 {
		c := l.dial("udp", locals[i%len(locals)], 5353)
		running.Go(func() {
			for n := range 20 {
				want := bytes.Repeat([]byte{byte(i), byte(n)}, 1+n*i%300) // all at once fit the container's buffer
				c.Write(want)
				b := make([]byte, 2000)
				c.SetReadDeadline(time.Now().Add(20 * time.Second))
				if n, err := c.Read(b); err != nil || !bytes.Equal(b[:n], want) {
					t.Errorf("client %d: got %d bytes, %v, want its own %d", i, n, err, len(want))
				}
			}
		})
	}
	running.Wait()
}

// TestUDPSizes goes from nothing to the most a datagram holds; on the veth it is
// in fragments. Odd and even lengths differ in the checksum.
func TestUDPSizes(t *testing.T) {
	l := newLab(t, relay.Config{})
	l.publish(header.ProtoUDP, 5353, l.echoUDP())
	for _, addr := range []string{"127.0.0.1", netlab.HostAddr, "::1", netlab.HostAddr6} {
		c := l.dial("udp", addr, 5353)
		for _, size := range []int{0, 1, 2, 3, 1471, 1472, 1473, 9001, 65507} {
			want := make([]byte, size)
			io.ReadFull(random(byte(size)), want)
			if _, err := c.Write(want); err != nil {
				t.Fatalf("%s, %d bytes: %v", addr, size, err)
			}
			b := make([]byte, 65536)
			c.SetReadDeadline(time.Now().Add(20 * time.Second))
			if n, err := c.Read(b); err != nil || !bytes.Equal(b[:n], want) {
				t.Errorf("%s, %d bytes: got %d, %v", addr, size, n, err)
			}
		}
	}
}

// TestUDPRange publishes 50,000 ports while sockets that nobody reads hold some
// of them.
func TestUDPRange(t *testing.T) {
	l := newLab(t, relay.Config{})
	l.leadTo(l.echoUDP())
	for port := 10000; port < 60000; port++ {
		l.k.Published().Set(flowmap.WildcardSlot, header.ProtoUDP, uint16(port))
		l.k.Published().Set(flowmap.WildcardSlot6, header.ProtoUDP, uint16(port))
	}
	for _, addr := range []string{"0.0.0.0:20000", "127.0.0.1:20001", "[::]:20002"} {
		hold, err := l.Host.ListenPacket("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
	}
	for _, port := range []uint16{10000, 20000, 20001, 20002, 59999} {
		for _, addr := range locals {
			// Its own port may be a published one: it is connected, so that answers
			// find it before they are steered.
			c, err := l.Host.Dial("udp", join(addr, port), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second))
			c.Write([]byte("x"))
			if n, err := c.Read(make([]byte, 9)); n != 1 || err != nil {
				t.Errorf("port %d by %s: got %d bytes, %v", port, addr, n, err)
			}
			c.Close()
		}
	}
}

// TestUDPRefused: a service that starts late is reached by the same session.
func TestUDPRefused(t *testing.T) {
	l := newLab(t, relay.Config{})
	s, err := l.container.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	addr := s.LocalAddr().(*net.UDPAddr)
	l.publish(header.ProtoUDP, 5353, uint16(addr.Port))
	s.Close()
	c := l.dial("udp", "127.0.0.1", 5353)
	for range 3 {
		c.Write([]byte("early"))
	}
	c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := c.Read(make([]byte, 9)); !os.IsTimeout(err) {
		t.Errorf("nobody serves: got %v, want silence", err)
	}
	if s, err = l.container.ListenPacket("udp", fmt.Sprintf(":%d", addr.Port)); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(20 * time.Second))
	c.Write([]byte("late"))
	for got := ""; got != "late"; { // an early one may be late as well
		b := make([]byte, 9)
		n, _, err := s.ReadFrom(b)
		if err != nil {
			t.Fatalf("the service got %v, want the datagram", err)
		}
		got = string(b[:n])
	}
}

// sources is how the container sees the session of a client.
func sources(t *testing.T, l *lab) func(c net.Conn) string {
	t.Helper()
	s, err := l.container.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	l.publish(header.ProtoUDP, 5353, uint16(s.LocalAddr().(*net.UDPAddr).Port))
	return func(c net.Conn) string {
		t.Helper()
		c.Write([]byte("x"))
		s.SetReadDeadline(time.Now().Add(20 * time.Second))
		_, from, err := s.ReadFrom(make([]byte, 9))
		if err != nil {
			t.Fatal(err)
		}
		return from.String()
	}
}

// TestUDPSessions counts sessions by the sources the container sees.
func TestUDPSessions(t *testing.T) {
	l := newLab(t, relay.Config{MaxSessions: 4, IdleTimeout: time.Minute})
	source := sources(t, l)
	a, b, c := l.dial("udp", "127.0.0.1", 5353), l.dial("udp", "127.0.0.1", 5353), l.dial("udp", "::1", 5353)
	fromA, fromB := source(a), source(b)
	if fromA == fromB {
		t.Errorf("two clients share the source %s", fromA)
	}
	if again := source(a); again != fromA {
		t.Errorf("one client has the sources %s and %s", fromA, again)
	}
	source(c) // in place of b, the idlest
	if again := source(a); again != fromA {
		t.Errorf("the session in use gave way: %s, then %s", fromA, again)
	}
	if again := source(b); again == fromB {
		t.Errorf("the idlest session did not give way")
	}
}

// TestUDPIdleSessions: a session that nobody uses ends, and the next datagram begins another.
func TestUDPIdleSessions(t *testing.T) {
	l := newLab(t, relay.Config{IdleTimeout: 400 * time.Millisecond})
	source := sources(t, l)
	idle := sockets(t)
	a := l.dial("udp", "127.0.0.1", 5353)
	fromA := source(a)
	deadline := time.Now().Add(20 * time.Second)
	for sockets(t) > idle+1 { // the client
		if time.Now().After(deadline) {
			t.Fatalf("%d sockets, %d before: idle sessions do not end", sockets(t), idle)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if again := source(a); again == fromA {
		t.Errorf("the idle session did not end")
	}
	if err := l.relay.Close(); err != nil {
		t.Fatal(err)
	}
}
