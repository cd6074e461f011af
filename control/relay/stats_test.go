package relay_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Stats counts what is carried now: it goes up with a session and down after it.
func TestStats(t *testing.T) {
	l := newLab(t, relay.Config{MaxConns: 7, MaxSessions: 5, IdleTimeout: 100 * time.Millisecond})
	want := func(tcp, udp int, use ...func()) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for l.relay.Stats() != (relay.Stats{TCP: tcp, UDP: udp, MaxTCP: 7, MaxUDP: 5}) {
			for _, fn := range use {
				fn()
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %+v, want %d and %d", l.relay.Stats(), tcp, udp)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	want(0, 0)
	tcp, err := l.container.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := l.container.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	go func() {
		for {
			c, err := tcp.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	l.publish(header.ProtoTCP, 8080, uint16(tcp.Addr().(*net.TCPAddr).Port))
	a, b := l.dial("tcp", "127.0.0.1", 8080), l.dial("tcp", "::1", 8080)
	want(2, 0)
	a.Close()
	b.Close()
	want(0, 0)
	l.publish(header.ProtoUDP, 5353, uint16(udp.LocalAddr().(*net.UDPAddr).Port))
	c := l.dial("udp", "127.0.0.1", 5353)
	want(0, 1, func() { c.Write([]byte("x")) })
	want(0, 0)
}
