package dataplane

import (
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
		if l := &b.f.Layers; b.open && l.Kind >= header.KindIP && l.Tuple.Dst.IsMulticast() {
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
	d := domain{in.Network, b.f.VLAN, l.Flags&header.FlagIPv6 != 0}
	if !l.IsMembership() {
		if t.live.Load() == 0 || linkScope(&l.Tuple.Dst) {
			return NotDropped
		}
		if ports, ok := t.lookup(groupKey{d, l.Tuple.Dst}); ok {
			b.to, b.open = ports, false
		}
		return NotDropped
	}
	// Work on the table is bounded by the same credit as flooding is.
	b.open = false
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
		t.query(d, b.f.In, w.now)
	case m.Query: // a container is no router: it would draw all groups to itself
	default:
		t.report(d, b.f.In, &m, w.now)
		if ports, ok := t.queriers(d); ok {
			b.to = ports
		}
	}
	return NotDropped
}

// linkScope reports whether a group is never routed and always flooded:
// 224.0.0.0/24 and ff02::/16 (RFC 4541 2.1.2, 3).
func linkScope(a *header.Addr) bool {
	if a.Is4() {
		return a[12] == 224 && a[13] == 0 && a[14] == 0
	}
	return a[0] == 0xff && a[1]&0xf <= 2
}
