package reserve

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/internal/netlab"
)

func TestBusy(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		start(t, n, "udp4", "127.0.0.1:20001")
		got, err := p.Busy()
		if err != nil || !slices.ContainsFunc(got, func(s host.Socket) bool { return s.Proto == udp && s.Port == 20001 }) {
			t.Errorf("busy are %+v, %v", got, err)
		}
	})
}

// TestHoldsAreNotCounted: the count of the host's UDP sockets leaves out those that hold published
// ports, also when they are beside a program's; masquerade keeps off them all the same.
func TestHoldsAreNotCounted(t *testing.T) {
	var counted []uint16
	cfg := Config{Recount: func(list func() ([]netip.AddrPort, error)) ([]netip.AddrPort, error) {
		sockets, err := list()
		counted = nil
		for _, s := range sockets {
			counted = append(counted, s.Port())
		}
		slices.Sort(counted)
		return nil, err
	}}
	inHost(t, cfg, func(n *netlab.NS, p *Ports) {
		start(t, n, "udp4", "198.51.100.1:20001")
		h, err := p.Take(udp, everywhere, 20002, 20004, Keeper{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.Busy()
		if err != nil || !slices.Equal(counted, []uint16{20001}) {
			t.Errorf("counted %v, %v, want the program's port alone", counted, err)
		}
		for port := uint16(20001); port <= 20004; port++ {
			if !slices.ContainsFunc(got, func(s host.Socket) bool { return s.Proto == udp && s.Port == port }) {
				t.Errorf("port %d is not busy", port)
			}
		}
		if err := h.Release(); err != nil {
			t.Fatal(err)
		}
		start(t, n, "udp4", "198.51.100.1:20003")
		if _, err := p.Busy(); err != nil || !slices.Equal(counted, []uint16{20001, 20003}) {
			t.Errorf("counted %v, %v, want the programs' ports", counted, err)
		}
	})
}
