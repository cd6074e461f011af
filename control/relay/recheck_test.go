package relay_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A connection ends, for both sides, when its port leads elsewhere, and not when all is as it
// was: the address that it speaks to may be another container's next.
func TestRecheckTCP(t *testing.T) {
	l := newLab(t, relay.Config{})
	ends := make(chan error, 1)
	port := l.serveTCP(func(c *net.TCPConn) {
		_, err := io.Copy(c, c)
		ends <- err
	})
	l.publish(header.ProtoTCP, 8080, port)
	c := l.dial("tcp", "127.0.0.1", 8080)
	said := func() error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := said(); err != nil {
		t.Fatal(err)
	}
	l.relay.Recheck()
	if err := said(); err != nil {
		t.Fatalf("all is as it was: %v", err)
	}
	l.resolveTo(absent4, 80)
	l.relay.Recheck()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client got %v, want %v", err, unix.ECONNRESET)
	}
	select {
	case err := <-ends:
		if !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the container got %v, want %v", err, unix.ECONNRESET)
		}
	case <-time.After(20 * time.Second):
		t.Error("the container is told nothing")
	}
}

// A connection that is still opened leads to where its port led when it was asked, and ends.
func TestRecheckWhileOpening(t *testing.T) {
	l := newLab(t, relay.Config{DialTimeout: time.Minute})
	l.publish(header.ProtoTCP, 8080, 80)
	l.resolveTo(absent4, 80)
	c := l.dial("tcp", "127.0.0.1", 8080)
	for deadline := time.Now().Add(20 * time.Second); l.relay.Stats().TCP == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not begin")
		}
	}
	l.resolveTo(container4, 80)
	l.relay.Recheck()
	c.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client got %v, want %v", err, unix.ECONNRESET)
	}
}

// A UDP client that never pauses reaches the container that its port leads to by now.
func TestRecheckUDP(t *testing.T) {
	l := newLab(t, relay.Config{})
	answers := func(with string) (port uint16) {
		c, err := l.container.ListenPacket("udp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				_, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				c.WriteTo([]byte(with), from)
			}
		}()
		return uint16(c.LocalAddr().(*net.UDPAddr).Port)
	}
	one, two := answers("one"), answers("two")
	l.publish(header.ProtoUDP, 5353, one)
	c := l.dial("udp", "127.0.0.1", 5353)
	heard := func() string {
		t.Helper()
		if _, err := c.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		n, err := c.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	if got := heard(); got != "one" {
		t.Fatalf("got %q", got)
	}
	l.relay.Recheck()
	if n := l.relay.Stats().UDP; n != 1 {
		t.Errorf("all is as it was: %d sessions", n)
	}
	l.leadTo(two)
	l.relay.Recheck()
	if got := heard(); got != "two" {
		t.Errorf("got %q of the container that was behind the port", got)
	}
}
