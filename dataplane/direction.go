package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// spoofs reports whether a packet of a flow came in at another port than those of its
// direction do.
func (s *Snapshot) spoofs(in *portConfig, c *conntrack.Conn, reply bool) bool {
	switch {
	case c.Turned && !c.Outbound(reply):
		return true // they turn back, and come in nowhere
	case c.Kind == conntrack.KindHairpin || c.Kind == conntrack.KindRouted:
		if reply {
			return !s.speaksFor(in, &c.Reply.Src)
		}
		return !s.speaksFor(in, &c.Orig.Src)
	case c.Outbound(reply):
		return in.ID != c.Port
	}
	return in.Kind != PortUplink
}

// speaksFor reports whether packets of a flow whose source is an address come in at a
// port: a container's at its own, the host's at a TAP, all others at an uplink.
func (s *Snapshot) speaksFor(in *portConfig, a *header.Addr) bool {
	if h := s.stations[*a]; h != nil {
		return h.port == in.ID
	}
	return s.leadsTo(in, a)
}

// leadsTo reports whether what has an address can be where a port leads to.
func (s *Snapshot) leadsTo(in *portConfig, a *header.Addr) bool {
	if in.Kind == PortUplink && !a.IsLinkLocal() {
		return !s.ours.has(a)
	}
	r := s.lookup(*a)
	switch in.Kind {
	case PortUplink:
		return r != nil && r.Kind == RouteUplink // where the host routes it
	case PortHost:
		return r != nil && r.Kind == RouteLocal
	}
	return r != nil && r.Kind == routeNetwork && r.network == in.network
}

// martian reports whether a packet that belongs to no flow has a source or a
// destination that it cannot have here (RFC 1812 5.3.7, RFC 2827).
func martian(r *routed, s *Snapshot) bool {
	t := &r.f.Layers.Tuple
	if t.Src == t.Dst || strangeAddr(&t.Src) || strangeAddr(&t.Dst) || !t.Src.Is4() && t.Src.IsLinkLocal() {
		return true
	}
	return !s.leadsTo(r.in, &t.Src)
}

// strangeAddr reports whether an address can be no host's on a routed link.
func strangeAddr(a *header.Addr) bool {
	if a.Is4() {
		return a[12] == 0 || a[12] == 127 || a[12] >= 224
	}
	return a[0] == 0xff || *a == header.Addr{} || *a == header.Addr{15: 1}
}
