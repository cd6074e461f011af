package reserve

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
)

// TestNotedPorts: a TCP port is noted when it is taken, until it has been seen that no connection
// of who had it before is left.
func TestNotedPorts(t *testing.T) {
	notes := make(map[uint16]int)
	cfg := Config{
		Recount: func(list func() ([]netip.AddrPort, error)) ([]netip.AddrPort, error) { return nil, nil },
		Note:    func(port uint16) { notes[port]++ },
		Unnote:  func(port uint16) { delete(notes, port) },
	}
	inHost(t, cfg, func(n *netlab.NS, p *Ports) {
		connected := func(used string) {
			t.Helper()
			l, err := n.Listen("tcp4", used)
			if err != nil {
				t.Fatal(err)
			}
			c, err := n.Dial("tcp4", used, 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
		connected("198.51.100.1:20011")
		connected("198.51.100.1:21030")
		for _, take := range []struct {
			proto       uint8
			first, last uint16
		}{{tcp, 20010, 20012}, {udp, 20020, 20020}, {tcp, 21000, 21000 + HoldMax}} {
			if _, err := p.Take(take.proto, everywhere, take.first, take.last, Keeper{}); err != nil {
				t.Fatal(err)
			}
		}
		want := map[uint16]int{20010: 1, 20011: 1, 20012: 1}
		for port := 21000; port <= 21000+HoldMax; port++ {
			want[uint16(port)] = 1
		}
		if !maps.Equal(notes, want) {
			t.Errorf("noted are %v", notes)
		}
		for range 2 {
			if _, err := p.Busy(); err != nil || !maps.Equal(notes, map[uint16]int{20011: 1, 21030: 1}) {
				t.Errorf("noted are %v, %v, want the ports with a connection", notes, err)
			}
		}
	})
}
