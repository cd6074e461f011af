package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Two containers that learned from somebody outside by which address and port of the host each is
// known send to those (RFC 4787 REQ-9, RFC 5382 REQ-8). Such a packet never leaves: it takes the
// source that the outside would see, turns back, and is looked up once more as if it had come in. So
// two flows have it, one of each container, and the second container lets in whom it would let in from
// outside. Both flows are turned: no port has the packets of their outside end.

// turnsBack says whether a container's packet of no flow, for an address of the host, is for a
// port of masquerade, and begins a flow with it. Otherwise the host has it.
func (w *worker) turnsBack(r *routed, s *Snapshot) (bool, DropReason) {
	t := &r.f.Layers.Tuple
	if r.in.Kind != PortContainer || w.sw.busy.Load().Has(t.Proto, t.DstPort) || !w.isGiven(t, s) && !w.mayBeGiven(&r.f.Layers, s) {
		return false, NotDropped
	}
	from, to := r.in.behind(&t.Src), end{side: SideOutside, addr: &t.Dst}
	q := question{from: from, to: to, tuple: t, via: ViaAddress}
	if w.ask(r, s, &q) != NotDropped || s.keeps(from, to, t, w.lists) {
		r.rule = nil
		return false, NotDropped
	}
	r.kind, r.turned = conntrack.KindMasquerade, true
	if why := w.confirm(r, s); why != NotDropped {
		return true, why
	}
	return true, w.comesBack(r, s)
}

// mayTurn reports whether a port of the host that none of its programs has may be a container's
// next: its packets then turn back, and no row may carry them to the host meanwhile.
func (v *view) mayTurn(t *header.Tuple) bool {
	slot, ok := v.slots[t.Dst]
	return ok && flowmap.ClaimProto(t.Proto) < 2 && !v.busy.Has(t.Proto, t.DstPort) &&
		(v.pool.Has(t.DstPort) || v.conntrack.IsGiven(slot, t.Proto, t.DstPort))
}

// isGiven reports whether masquerade has given a port of the host to a container.
func (w *worker) isGiven(t *header.Tuple, s *Snapshot) bool {
	slot, ok := s.slots[t.Dst]
	return ok && flowmap.ClaimProto(t.Proto) < 2 && w.sw.conntrack.IsGiven(slot, t.Proto, t.DstPort)
}

// mayBeGiven reports whether a packet of no flow is for a port that a container may have had before
// the start: it has it again with its own next packet.
func (w *worker) mayBeGiven(l *header.Layers, s *Snapshot) bool {
	if _, ok := s.slots[l.Tuple.Dst]; !ok || l.Kind != header.KindL4 {
		return false
	}
	switch l.Tuple.Proto {
	case header.ProtoTCP:
		return l.TCPFlags&header.TCPSYN == 0 && w.sw.ofFlowBefore(&l.Tuple, s, w.now)
	case header.ProtoUDP:
		return w.now-w.sw.began < leftTime && s.pool.Has(l.Tuple.DstPort)
	}
	return false
}

// comesBack finds the second flow of a packet that has taken its outside source, and where that
// leads. A packet that nobody lets in ends without a word, so that the first of two that meet half-way
// does no harm: its own flow is there for the other's packet.
func (w *worker) comesBack(r *routed, s *Snapshot) DropReason {
	as := r.to
	r.tracked, r.route = false, nil
	if why := w.followAs(r, s, w.sw.conntrack.Hash(&as), &as); why != NotDropped {
		return why
	}
	if !r.tracked {
		if why := w.welcome(r, s, &as); why != NotDropped {
			return why
		}
	}
	if !r.tracked {
		return w.comesToHost(r, s)
	}
	if h := s.stations[r.to.Dst]; h != nil {
		q := question{from: r.in.behind(&r.f.Layers.Tuple.Src), to: s.container(h, &r.to.Dst), tuple: &r.to, via: ViaMapping, lists: w.lists}
		if rule := s.judge(&q); rule != nil && rule.Deny { // written about the two
			w.ruled = rule.id()
			return rule.Reason
		}
	}
	return NotDropped
}

// welcome begins the second flow where the network lets strangers in.
func (w *worker) welcome(r *routed, s *Snapshot, as *header.Tuple) DropReason {
	if !w.stranger(r, s, as) {
		return NotDropped
	}
	r.out = s.stations[r.to.Dst].port
	return w.begin(r, s, as, conntrack.Received(s.ports[r.out].tenant))
}

// comesToHost hands a packet that no container wants to a program of the host, if one can have the
// port.
func (w *worker) comesToHost(r *routed, s *Snapshot) DropReason {
	l := &r.f.Layers
	switch {
	case w.ofFlowBefore(l, s):
		return DropUnclaimed
	case !w.sw.busy.Load().Has(l.Tuple.Proto, l.Tuple.DstPort) && w.isGiven(&l.Tuple, s), w.mayReachHost(r, s) != NotDropped:
		return DropUninvited
	}
	r.to, r.tracked, r.local = l.Tuple, false, true
	return NotDropped
}

// outsideOf is the address of the host that others know a container's port by: the one of the
// packet's destination if it is mapped there, or another one where it is mapped.
func (w *worker) outsideOf(t *header.Tuple, s *Snapshot) (source header.Addr, slot int) {
	source, slot = t.Dst, s.slots[t.Dst]
	if w.sw.conntrack.IsMapped(t, slot) {
		return source, slot
	}
	found := flowmap.ClaimSlots
	for a, n := range s.slots {
		if n < found && family(a) == family(t.Dst) && w.sw.conntrack.IsMapped(t, n) {
			source, slot, found = a, n, n
		}
	}
	return source, slot
}

// errorComesBack is comesBack for an ICMP error: what it quotes is translated by the second flow,
// too (RFC 5508 REQ-7).
func (w *worker) errorComesBack(r *routed, s *Snapshot) DropReason {
	along := r.quotedTo.Reverse()
	ref, sh := w.sw.conntrack.Lookup(&along)
	if ref == 0 {
		return DropUnmatchedError
	}
	defer sh.RUnlock()
	c, reply := w.sw.conntrack.At(ref), ref.Reply()
	if !c.Turned || c.Outbound(reply) || !s.allowed(c, w.lists) || s.sleeps(c, w.lists) {
		return DropUnmatchedError
	}
	r.kind, r.inside = c.Kind, c.Port
	r.quotedTo = c.Towards(reply).Reverse()
	r.to.Dst, r.to.Src = r.quotedTo.Src, r.quotedTo.Dst
	return NotDropped
}
