package reserve

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/internal/netlab"
)

func TestReserved(t *testing.T) {
	var stored []Range
	var refuse error
	cfg := Config{Reserved: func(r []Range) error { stored = r; return refuse }}
	inHost(t, cfg, func(n *netlab.NS, p *Ports) {
		expect := func(what, want string, ours []Range) {
			t.Helper()
			b, err := os.ReadFile(reservedPath)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.TrimSpace(string(b)); got != want {
				t.Errorf("%s: reserved are %q, want %q", what, got, want)
			}
			if diff := cmp.Diff(ours, stored); diff != "" {
				t.Errorf("%s: stored (-want +got):\n%s", what, diff)
			}
		}
		take := func(proto uint8, first, last uint16) *Hold {
			t.Helper()
			h, err := p.Take(proto, everywhere, first, last, Keeper{})
			if err != nil {
				t.Fatal(err)
			}
			return h
		}
		if err := n.Sysctl("ipv4.ip_local_reserved_ports", "99,10100-10199,30000"); err != nil {
			t.Fatal(err)
		}
		a := take(tcp, 10000, 10300)
		expect("first", "99,10000-10300,30000", []Range{{10000, 10099}, {10200, 10300}})
		b := take(udp, 10250, 10400)
		expect("overlapping", "99,10000-10400,30000", []Range{{10000, 10099}, {10200, 10400}})
		refuse = errors.New("disk full")
		if _, err := p.Take(tcp, everywhere, 20000, 21000, Keeper{}); !errors.Is(err, refuse) {
			t.Errorf("Take that cannot be stored: %v", err)
		}
		refuse = nil
		stored = []Range{{10000, 10099}, {10200, 10400}}
		expect("refused", "99,10000-10400,30000", stored)
		if err := a.Release(); err != nil {
			t.Fatal(err)
		}
		expect("first released", "99,10100-10199,10250-10400,30000", []Range{{10250, 10400}})
		if err := b.Release(); err != nil {
			t.Fatal(err)
		}
		expect("all released", "99,10100-10199,30000", nil)

		// As after kill -9.
		take(tcp, 10000, 60000)
		if err := RestoreReserved(stored); err != nil {
			t.Fatal(err)
		}
		b1, _ := os.ReadFile(reservedPath)
		if got := strings.TrimSpace(string(b1)); got != "99,10100-10199,30000" {
			t.Errorf("restored are %q", got)
		}
	})
}

// Nobody gets a reserved port by chance.
func TestReservedPortsAreNotHandedOut(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		if err := n.Sysctl("ipv4.ip_local_port_range", "40000 40199"); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Take(tcp, everywhere, 40000, 40189, Keeper{}); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			l, err := n.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			if port := l.Addr().(*net.TCPAddr).Port; port < 40190 {
				t.Errorf("the kernel gave port %d", port)
			}
			l.Close()
		}
	})
}

func TestFreePort(t *testing.T) {
	starts := []int{}
	cfg := Config{Rand: func(n int) int {
		s := starts[0]
		starts = starts[1:]
		return min(s, n-1)
	}}
	inHost(t, cfg, func(n *netlab.NS, p *Ports) {
		for key, value := range map[string]string{
			"ipv4.ip_local_port_range":     "40000 40019",
			"ipv4.ip_local_reserved_ports": "40005",
		} {
			if err := n.Sysctl(key, value); err != nil {
				t.Fatal(err)
			}
		}
		start(t, n, "tcp4", "127.0.0.1:40010")
		if _, err := p.Take(tcp, everywhere, 40015, 40016, Keeper{}); err != nil {
			t.Fatal(err)
		}
		tests := []struct {
			proto    uint8
			start, n int
			want     uint16 // 0: none
		}{
			{tcp, 0, 1, 40000}, {tcp, 5, 1, 40006}, {tcp, 10, 1, 40011}, {tcp, 15, 1, 40017}, {tcp, 19, 1, 40019},
			{tcp, 3, 3, 40006}, {tcp, 6, 5, 40000}, {tcp, 0, 6, 0}, {tcp, 0, 21, 0}, {tcp, 0, 0, 0},
			{udp, 6, 14, 40006}, {udp, 10, 1, 40010},
		}
		for _, tt := range tests {
			starts = []int{tt.start}
			got, err := p.FreePort(tt.proto, everywhere, tt.n)
			if got != tt.want || (err == nil) != (tt.want != 0) {
				t.Errorf("%+v: got %d, %v", tt, got, err)
			}
		}
	})
}
