package control

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS30ConnectionOverACarriedFlow: a program of the host binds the TCP port that a flow of
// a container has, which the kernel carries, and connects to the same server. The server says
// that it has such a connection (RFC 9293, 3.10.7.4); the host hears it, ends that one and
// has its own. Ports below 1024 need no hooks for that.
func TestS30ConnectionOverACarriedFlow(t *testing.T) {
	for name, tc := range map[string]struct {
		cfg   daemonSpec
		ports []int
	}{"hooks": {daemonSpec{Cgroup: "test"}, []int{700, 5000}}, "list": {daemonSpec{}, []int{1023}}} {
		t.Run(name, func(t *testing.T) {
			if tc.cfg.Cgroup != "" {
				tc.cfg.Cgroup = labtest.Cgroup(t)
			}
			b := newBorder(t, tc.cfg, func(*border) {})
			for _, port := range tc.ports {
				b.takeOver(false, port, 9100)
				b.takeOver(true, port-1, 9100)
			}
		})
	}
}

func (b *border) takeOver(v6 bool, port, to int) {
	b.t.Helper()
	l, err := b.world.Outside.Listen("tcp"+familyOf(v6), at(remoteAt[v6], to))
	if err != nil {
		b.t.Fatal(err)
	}
	defer l.Close()
	from := make(chan int, 10)
	labtest.Serve(b.t, l, func(c net.Conn) {
		from <- c.RemoteAddr().(*net.TCPAddr).Port
		_, _ = io.Copy(c, c)
	})
	dial := func(ns *netlab.NS, from string) net.Conn {
		b.t.Helper()
		c, err := ns.DialFrom("tcp", at(from, port), at(remoteAt[v6], to), 20*time.Second)
		if err != nil {
			b.t.Fatalf("from %s port %d: %v", from, port, err)
		}
		b.t.Cleanup(func() { c.Close() })
		return c
	}
	echo := func(c net.Conn) {
		b.t.Helper()
		c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write([]byte("?")); err != nil {
			b.t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			b.t.Fatal(err)
		}
	}
	c := dial(b.c, b.addrs[v6])
	if got := <-from; got != port {
		b.t.Fatalf("the flow from port %d leaves from %d", port, got)
	}
	eventually(b.t, "the kernel carries the flow", func() bool {
		had := b.stats().Flows.Frames
		for range 50 {
			echo(c)
		}
		return b.stats().Flows.Frames >= had+100
	})
	echo(dial(b.world.Host, hostAt[v6]))
}
