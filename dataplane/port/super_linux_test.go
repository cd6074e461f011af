package port_test

import (
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestF04BigTCP: containers that let their devices make super-packets of more than 64 KiB (BIG TCP),
// which have no length in their IP headers, lose none of them: they leave the port as
// super-frames of the size that every device takes.
func TestF04BigTCP(t *testing.T) {
	a, b, f := twoContainers(t, nil)
	for _, w := range []*wire{a, b} {
		must(t, w.host.SetSuper("eth0", 185000))
	}
	for _, c := range []struct {
		name, addr string
		at         *wire
		from, to   *netlab.NS
	}{
		{"IPv4", "10.0.0.2:5000", a, a.host, b.host},
		{"IPv6", "[fd00::1]:5000", b, b.host, a.host},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.longest.Store(0)
			big := biggest(t, c.at)
			transfer(t, c.from, c.to, c.addr, 64<<20)
			if got := big(); got <= frame.MaxLen {
				t.Fatalf("the longest frame of the container has %d bytes, want more than 64 KiB", got)
			}
			if got := f.longest.Load(); got < 60000 || got > frame.MaxLen {
				t.Errorf("longest frame behind the port %d bytes, want some 64 KiB", got)
			}
			for _, ns := range []*netlab.NS{a.host, b.host} {
				if got := snmp(t, ns, "Tcp", "InCsumErrors"); got != 0 {
					t.Errorf("%s: %d wrong TCP checksums", ns.Name(), got)
				}
			}
		})
	}
	for i, p := range f.ports {
		if got := p.InvalidDrops(); got != 0 {
			t.Errorf("port %d: %d frames refused as invalid", i, got)
		}
	}
}

// biggest notes what comes to a wire's end; the result is the length of the longest frame.
func biggest(t *testing.T, w *wire) func() int64 {
	t.Helper()
	r := newRaw(t, w.sw, w.ifname)
	must(t, unix.SetsockoptTimeval(r.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100000}))
	var longest atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, _, err := unix.Recvfrom(r.fd, buf, unix.MSG_TRUNC)
			if err == nil {
				longest.Store(max(longest.Load(), int64(n)))
			} else if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENETDOWN) {
				return
			}
		}
	}()
	return func() int64 { close(stop); <-done; return longest.Load() }
}
