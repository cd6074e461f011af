package host

import (
	"context"
	"fmt"
	"maps"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestSockets(t *testing.T) {
	labtest.Need(t)
	h, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	host := labtest.New(t, "host")
	inHost(t, host, func(h *Host) {
		tests := []struct {
			network, addr string
			want          Socket
		}{
			{"tcp4", "127.0.0.1:0", Socket{Proto: unix.IPPROTO_TCP, Addr: ip("127.0.0.1")}},
			{"tcp4", "0.0.0.0:0", Socket{Proto: unix.IPPROTO_TCP, Addr: ip("0.0.0.0")}},
			{"tcp6", "[::]:0", Socket{Proto: unix.IPPROTO_TCP, Addr: ip("::")}},
			{"tcp", "[::]:0", Socket{Proto: unix.IPPROTO_TCP, Addr: ip("::"), DualStack: true}},
			{"udp4", "127.0.0.1:0", Socket{Proto: unix.IPPROTO_UDP, Addr: ip("127.0.0.1")}},
			{"udp6", "[::1]:0", Socket{Proto: unix.IPPROTO_UDP, Addr: ip("::1")}},
			{"udp6", "[::]:0", Socket{Proto: unix.IPPROTO_UDP, Addr: ip("::")}},
			{"udp", "[::]:0", Socket{Proto: unix.IPPROTO_UDP, Addr: ip("::"), DualStack: true}},
		}
		for _, mptcp := range []bool{false, true} {
			for _, tt := range tests {
				port, closer := open(t, tt.network, tt.addr, mptcp)
				list, err := h.Sockets()
				closer()
				if err != nil {
					t.Fatal(err)
				}
				found := false
				for _, s := range list {
					if s.Port != port {
						continue
					}
					found = true
					inode, cookie := s.Inode, s.Cookie
					if s.Listens != (s.Proto == unix.IPPROTO_TCP) {
						t.Errorf("%s %s: listens: %v", tt.network, tt.addr, s.Listens)
					}
					s.Port, s.Inode, s.Cookie, s.Listens = 0, 0, 0, false
					if s != tt.want || inode == 0 || cookie == 0 {
						t.Errorf("%s %s (MPTCP %v): got %+v inode %d, want %+v", tt.network, tt.addr, mptcp, s, inode, tt.want)
					}
				}
				if !found {
					t.Errorf("%s %s (MPTCP %v): not found", tt.network, tt.addr, mptcp)
				}
			}
		}
		if list, err := h.Sockets(); err != nil || len(list) != 0 {
			t.Errorf("sockets remain: %+v, %v", list, err)
		}
		port, closer := open(t, "tcp4", "127.0.0.1:0", true)
		defer closer()
		list, err := h.Sockets()
		if err != nil || len(list) != 1 || list[0].Port != port {
			t.Fatalf("sockets: %+v, %v", list, err)
		}
	})
}

func open(t testing.TB, network, addr string, mptcp bool) (port uint16, closer func()) {
	t.Helper()
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		return uint16(c.LocalAddr().(*net.UDPAddr).Port), func() { c.Close() }
	}
	var lc net.ListenConfig
	lc.SetMultipathTCP(mptcp)
	l, err := lc.Listen(context.Background(), network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(l.Addr().(*net.TCPAddr).Port), func() { l.Close() }
}

// TestConnectionsFrom: the kernel chooses connections by their local port, the borders
// included, and leaves out those that Sockets returns.
func TestConnectionsFrom(t *testing.T) {
	labtest.NeedRoot(t)
	ns := labtest.New(t, "host")
	for _, address := range []string{"127.0.0.1", "::1"} {
		l, err := ns.Listen("tcp", net.JoinHostPort(address, "7000"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		for _, port := range []string{"511", "512", "700", "1023", "1024"} {
			c, err := ns.DialFrom("tcp", net.JoinHostPort(address, port), net.JoinHostPort(address, "7000"), 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
	}
	l, err := ns.Listen("tcp", "127.0.0.1:900")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	inHost(t, ns, func(h *Host) {
		want := map[string]int{"127.0.0.1 512": 1, "127.0.0.1 700": 1, "127.0.0.1 1023": 1, "::1 512": 1, "::1 700": 1, "::1 1023": 1}
		for _, tt := range []struct {
			from      func(first, last uint16) ([]Socket, error)
			listeners int
		}{{h.ConnectedFrom, 0}, {h.ConnectionsFrom, 1}} {
			list, err := tt.from(512, 1023)
			if err != nil {
				t.Fatal(err)
			}
			got := make(map[string]int)
			for _, s := range list {
				got[fmt.Sprint(s.Addr, " ", s.Port)]++
			}
			if want["127.0.0.1 900"] = tt.listeners; tt.listeners == 0 {
				delete(want, "127.0.0.1 900")
			}
			if !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
	})
}
