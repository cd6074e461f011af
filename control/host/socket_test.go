package host

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

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
		self := fmt.Sprintf("(pid %d)", os.Getpid())
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
					inode := s.Inode
					s.Port, s.Inode = 0, 0
					if s != tt.want || inode == 0 {
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
		if got := Owner(list[0].Inode); !strings.HasSuffix(got, self) {
			t.Errorf("owner is %q, want this process %s", got, self)
		}
	})
	if got := Owner(0) + Owner(1<<31); got != "" {
		t.Errorf("owner of no socket: %q", got)
	}
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
