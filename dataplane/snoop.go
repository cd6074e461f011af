package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// snoop follows the membership messages of IGMP and MLD and narrows the way of
// multicast down to the ports that asked for it (RFC 4541). Without a querier
// nobody repeats what he wants, and everything is flooded; so are groups without
// a member, and those of the link, which not all stations report.
func (w *worker) snoop(s *Snapshot) {
	keep := w.bridge[:0]
	for i := range w.bridge {
		b := &w.bridge[i]
		if l := &b.f.Layers; b.flooded && l.Kind >= header.KindIP && l.Tuple.Dst.IsMulticast() {
			if why := w.narrow(b, s); why != NotDropped {
				w.drop(b.f, why)
				continue
			}
		}
		keep = append(keep, *b)
	}
	w.bridge = keep
}

// narrow decides about one frame.
func (w *worker) narrow(b *bridged, s *Snapshot) DropReason {
	l, t := &b.f.Layers, w.sw.groups
	in := s.ports[b.f.In]
	d := fdb.Domain{Network: in.Network, VLAN: b.f.VLAN, IPv6: l.Flags&header.FlagIPv6 != 0}
	if !l.IsMembership() {
		if !t.Queried() || fdb.LinkScope(&l.Tuple.Dst) {
			return NotDropped
		}
		if ports, ok := t.Lookup(d, l.Tuple.Dst); ok {
			b.to, b.flooded = ports, false
		}
		return NotDropped
	}
	// Work on the table is bounded by the same credit as flooding is.
	b.flooded = false
	if !w.mayFlood(b.f, in) {
		w.tell(s, EventStorm, b.f, frame.NoPort)
		return DropStorm
	}
	var m header.Membership
	if !header.ReadMembership(b.f.Data(), l, &m) {
		return DropMalformedGroup
	}
	switch {
	case w.sw.ports[b.f.In].Load() == nil:
	case m.Query && !in.Guarded:
		t.Query(d, b.f.In, w.now)
	case m.Query: // a container is no router: it would draw all groups to itself
	default:
		t.Report(d, b.f.In, &m, w.now)
		if ports, ok := t.Queriers(d); ok {
			b.to = ports
		}
	}
	return NotDropped
}
