package host

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestConnected: connected sockets are found by their peer, of TCP and UDP and of both families, and end
// alone.
func TestConnected(t *testing.T) {
	labtest.Need(t)
	w := labtest.NewWorld(t)
	var h *Host
	if err := w.Host.Do(func() (err error) { h, err = New(); return err }); err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Destroys(); err != nil {
		t.Fatal(err)
	}
	dial := func(network, ip string) (conns [2]net.Conn) {
		t.Helper()
		var at net.Addr
		if network == "tcp" {
			l, err := w.Host.Listen(network, net.JoinHostPort(ip, "0"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			at = l.Addr()
		} else {
			c, err := w.Host.ListenPacket(network, net.JoinHostPort(ip, "0"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			at = c.LocalAddr()
		}
		for i := range conns {
			c, err := w.Host.Dial(network, at.String(), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			conns[i] = c
		}
		return conns
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, ip := range []string{"127.7.7.7", "::1", netlab.HostAddr} {
			conns := dial(network, ip)
			list, err := h.Connected(func(a netip.Addr) bool { return a.String() == ip })
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(list, func(c Connection) bool {
				return c.Local.String() == conns[0].LocalAddr().String() && c.Peer.String() == conns[0].RemoteAddr().String()
			})
			if i < 0 {
				t.Errorf("%s to %s is not found", network, ip)
				continue
			}
			for range 2 { // the second time it has ended
				if err := h.Destroy(list[i]); err != nil {
					t.Error(err)
				}
			}
			conns[0].SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := conns[0].Read(make([]byte, 1)); !errors.Is(err, unix.ECONNABORTED) {
				t.Errorf("%s to %s: %v, want %v", network, ip, err, unix.ECONNABORTED)
			}
			conns[1].SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			var e net.Error
			if _, err := conns[1].Read(make([]byte, 1)); !errors.As(err, &e) || !e.Timeout() {
				t.Errorf("%s to %s, another: %v", network, ip, err)
			}
		}
	}
	if list, err := h.Connected(func(netip.Addr) bool { return false }); err != nil || len(list) != 0 {
		t.Errorf("to nobody: %v, %v", list, err)
	}
}
