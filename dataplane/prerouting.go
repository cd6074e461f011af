package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// prerouting finds out where each routed frame is bound for: a tracked flow's
// frame to the other end of its flow, a new one to the container behind a
// published port, any other to its own destination.
func (w *worker) prerouting(s *Snapshot) {
	fetch(w.sw.conntrack, w.routes)
	keep := w.routes[:0]
	for i := 0; i < len(w.routes); i++ { // fragments that were deferred come behind
		r := &w.routes[i]
		r.to = r.f.Layers.Tuple
		if why := w.destination(r, i, s); why != NotDropped {
			if why == DropHostAccess {
				w.refuse(r, why)
			}
			if why != deferred {
				w.drop(r.f, why)
			}
			continue
		}
		if r.local {
			w.toHost(r.f, r.in)
			continue
		}
		keep = append(keep, *r)
	}
	w.routes = keep
}

// destination decides about the i-th frame.
func (w *worker) destination(r *routed, i int, s *Snapshot) DropReason {
	l := &r.f.Layers
	if r.in.Kind == PortUplink && l.Dst == header.Broadcast {
		w.single(r, s)
	}
	if l.Flags&header.FlagICMPError != 0 {
		return w.destinationOfError(r, &w.quotes[i], s)
	}
	if l.Flags&(header.FlagFragment|header.FlagFirstFragment) != 0 && hasPorts(l.Tuple.Proto) && !r.gathered {
		if l.Flags&header.FlagFragment != 0 && r.in.Kind != PortUplink && s.hostsOwn(&l.Tuple) && !r.in.network.tracked {
			r.local = true // the host puts its own together
			return NotDropped
		}
		if why := w.gather(r, s); why != NotDropped {
			return why
		}
		r.gathered = true
	}
	if r.gathered {
		r.hash = w.sw.conntrack.Hash(&l.Tuple)
	}
	r.to = l.Tuple
	if why := w.follow(r, s); why != NotDropped || r.tracked {
		if why == NotDropped && r.turned {
			return w.comesBack(r, s)
		}
		r.local = why == NotDropped && r.answersHost(s)
		return why
	}
	if r.in.Kind == PortContainer && s.toHostOnLink(&l.Tuple, r.in.network) {
		r.local = true // as from bridge to host
		return w.mayReachHost(r, s)
	}
	if martian(r, s) {
		return DropMartian
	}
	if found, why := w.answersBefore(r, s); found {
		return why
	}
	r.route = s.lookup(r.to.Dst)
	local := r.route != nil && r.route.Kind == RouteLocal
	later := l.Flags&header.FlagFragment != 0 && hasPorts(l.Tuple.Proto)
	if local && (later || l.Kind == header.KindL4) {
		if iv := s.published(l.Tuple.Proto, l.Tuple.Dst, l.Tuple.DstPort); iv != nil {
			r.to.Dst, r.to.DstPort = iv.ContainerAddr, iv.port(l.Tuple.DstPort)
			r.kind, r.route = conntrack.KindPublish, nil
			if r.in.Kind != PortUplink {
				r.kind = conntrack.KindHairpin
			}
			return NotDropped
		}
		if r.in.Kind == PortUplink && w.stranger(r, s, &l.Tuple) {
			return NotDropped
		}
		if turns, why := w.turnsBack(r, s); turns {
			return why
		}
	}
	switch {
	case r.in.Kind == PortUplink:
		if !later && l.Kind != header.KindL4 || !w.mayCome(r, s, &l.Tuple.Src, &l.Tuple, ViaAddress) {
			return DropUnclaimed
		}
		r.kind = conntrack.KindRouted
	case local && w.ofFlowBefore(l, s):
		return DropUnclaimed
	case local:
		if why := w.mayReachHost(r, s); why != NotDropped {
			return why
		}
		r.local = true // the host's own service, or its ping
		if r.in.Kind == PortContainer && r.in.network.tracked {
			// So that the host's answers pass. What begins no flow is the host's to refuse.
			r.kind, r.out = conntrack.KindRouted, r.in.ID
			_ = w.confirm(r, s)
		}
	case l.Kind != header.KindL4 && !later:
		return unportable(l.Tuple.Proto)
	}
	return NotDropped
}

// toHostOnLink reports whether an IPv6 packet of a container stays on its network's link, by
// its source or its destination (RFC 4007, 9), and is the host's. A kernel asks from its
// link-local address whether a neighbour is still there (RFC 4861, 7.2.2).
func (s *Snapshot) toHostOnLink(t *header.Tuple, n *network) bool {
	if t.Dst.Is4() || t.Src == t.Dst {
		return false
	}
	return t.Dst == n.linkLocal || t.Src.IsLinkLocal() && s.isLocal(t.Dst) && s.published(t.Proto, t.Dst, t.DstPort) == nil
}

// follow finds the flow of a frame and notes the frame in it. A flow that an
// older snapshot allowed is looked at again; when it would not be allowed now,
// the frame is that of a new one.
func (w *worker) follow(r *routed, s *Snapshot) DropReason {
	return w.followAs(r, s, r.hash, &r.f.Layers.Tuple)
}

// followAs is follow by a tuple, which is not the frame's own when that has turned back.
func (w *worker) followAs(r *routed, s *Snapshot, hash uint32, as *header.Tuple) DropReason {
	t, l, back := w.sw.conntrack, &r.f.Layers, as != &r.f.Layers.Tuple
	ref, sh := t.LookupHashed(hash, as)
	if ref == 0 {
		return NotDropped
	}
	c, reply := t.At(ref), ref.Reply()
	if back && (!c.Turned || c.Outbound(reply)) {
		sh.RUnlock()
		return NotDropped
	}
	if !s.allowed(c, w.lists) || c.Kind == conntrack.KindInbound && !c.Mapped(t, reply && !refuses(l)) {
		sh.RUnlock()
		t.Remove(ref, func(c *conntrack.Conn) bool {
			return c.Kind == conntrack.KindInbound && !c.HoldsPort() || !s.allowed(c, w.lists)
		})
		return NotDropped
	}
	if !back && s.spoofs(r.in, c, reply) {
		sh.RUnlock()
		return DropMartian
	}
	if s.sleeps(c, w.lists) {
		yields := c.Outbound(reply) && s.hasAnotherWay(l)
		sh.RUnlock()
		if yields && t.Remove(ref, s.asleep) {
			return NotDropped
		}
		return DropAsleep
	}
	defer sh.RUnlock()
	// Two datagrams can be forged, an acknowledgment cannot.
	proves := l.Tuple.Proto == header.ProtoTCP && c.Kind == conntrack.KindPublish && !reply && !c.Assured()
	begins := reply && l.Kind == header.KindL4 && l.TCPFlags&header.TCPSYN != 0 && !c.Heard()
	if !c.Track(t, ref, l, r.f.Data(), w.now) {
		return DropBadReset
	}
	if proves && c.Assured() {
		w.sw.guests.note(&l.Tuple.Src)
	}
	r.begins = begins && c.Heard()
	r.to, r.kind, r.tracked, r.turned, r.heard, r.came, r.inside = c.Towards(reply), c.Kind, true, c.Turned, c.Heard(), c.Came, c.Port
	r.asked = reply && c.Kind == conntrack.KindMasquerade && !c.Assured()
	return NotDropped
}

// refuses reports whether a container wants nothing of a flow.
func refuses(l *header.Layers) bool {
	return l.Tuple.Proto == header.ProtoTCP && l.Kind == header.KindL4 && l.TCPFlags&header.TCPRST != 0
}

// hasPorts reports whether a protocol's packets are told apart by ports or
// query identifiers, which only a first fragment has.
func hasPorts(proto uint8) bool {
	switch proto {
	case header.ProtoTCP, header.ProtoUDP, header.ProtoSCTP, header.ProtoICMP, header.ProtoICMPv6:
		return true
	}
	return false
}

// Protocols that a change of the addresses breaks: they are link-local, or
// their checksum or authentication covers the addresses.
const (
	protoIGMP    = 2
	protoDCCP    = 33
	protoAH      = 51
	protoNoNext  = 59
	protoUDPLite = 136
)

// unportable says whether a packet without ports can be translated by its
// addresses alone, see peer.
func unportable(proto uint8) DropReason {
	switch proto {
	case header.ProtoICMP, header.ProtoICMPv6:
		return DropICMPType
	case protoIGMP, protoDCCP, protoAH, protoNoNext, protoUDPLite, header.ProtoTCP, header.ProtoUDP, header.ProtoSCTP:
		return DropUnsupportedProto
	}
	return NotDropped
}
