package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A container without the guard may add addresses of its network, such as the virtual address of
// keepalived, which moves from one to another. It goes out with one as with its own, masqueraded, and
// its flows are counted on it. Nobody hands such an address out, so the answers go to the port that
// a flow began at: what moves is the next flow.

// added reports whether an address is one that the container at a port may have added.
func (s *Snapshot) added(in *portConfig, a *header.Addr) bool {
	if in.Kind != PortContainer || in.Guarded || s.stations[*a] != nil {
		return false
	}
	r := s.lookup(*a)
	return r != nil && r.Kind == routeNetwork && r.network == in.network
}

// hopToAdded is the hop of an answer to an address that a container has added.
func (s *Snapshot) hopToAdded(r *routed) (hop, DropReason) {
	p := s.ports[r.inside]
	if r.kind != conntrack.KindMasquerade || p == nil || !s.added(p, &r.to.Dst) {
		return hop{}, DropNoHost
	}
	return hop{out: p.ID, dst: p.MAC, src: p.network.GatewayMAC, mtu: p.network.MTU}, NotDropped
}
