package dataplane

import "github.com/vswitch/vswitch/dataplane/header"

// prerouting finds out where each routed frame is bound for: a tracked flow's
// frame to the other end of its flow, a new one to the container behind a
// published port, any other to its own destination.
func (w *worker) prerouting(s *Snapshot) {
	w.sw.conntrack.fetch(w.routes)
	keep := w.routes[:0]
	for i := 0; i < len(w.routes); i++ { // fragments that were held come behind
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
	if l.Flags&header.FlagICMPError != 0 {
		return w.destinationOfError(r, &w.quotes[i], s)
	}
	if l.Flags&(header.FlagFragment|header.FlagFirstFragment) != 0 && hasPorts(l.Tuple.Proto) && !r.gathered {
		if l.Flags&header.FlagFragment != 0 && r.in.Kind != PortUplink && s.hostsOwn(&l.Tuple) && !r.in.network.NoHostAccess {
			r.local = true // the host puts its own together
			return NotDropped
		}
		if why := w.gather(r, s); why != NotDropped {
			return why
		}
		r.gathered = true
	}
	if r.gathered {
		r.hash = w.sw.conntrack.keys.tuple(&l.Tuple)
	}
	r.to = l.Tuple
	if why := w.follow(r, s); why != NotDropped || r.tracked {
		r.local = why == NotDropped && r.answersHost(s)
		return why
	}
	if martian(r, s) {
		return DropMartian
	}
	r.route = s.lookup(r.to.Dst)
	local := r.route != nil && r.route.Kind == RouteLocal
	later := l.Flags&header.FlagFragment != 0 && hasPorts(l.Tuple.Proto)
	if local && (later || l.Kind == header.KindL4) {
		if iv := s.publish.find(l.Tuple.Proto, l.Tuple.Dst, l.Tuple.DstPort); iv != nil {
			r.to.Dst, r.to.DstPort = iv.addr, iv.target+l.Tuple.DstPort-iv.first
			r.kind, r.route = ConnPublish, nil
			if r.in.Kind != PortUplink {
				r.kind = ConnHairpin
			}
			return NotDropped
		}
		if r.in.Kind == PortUplink && w.stranger(r, s) {
			return NotDropped
		}
	}
	switch {
	case r.in.Kind == PortUplink && (later || l.Kind == header.KindL4) && s.welcomes(&l.Tuple):
		r.kind = ConnRouted
	case r.in.Kind == PortUplink:
		return DropUnclaimed
	case local && r.in.network.NoHostAccess:
		return DropHostAccess
	case local:
		r.local = true // the host's own service, or its ping
	case l.Kind != header.KindL4 && !later:
		return unportable(l.Tuple.Proto)
	}
	return NotDropped
}

// follow finds the flow of a frame and notes the frame in it. A flow that an
// older snapshot allowed is looked at again; when it would not be allowed now,
// the frame is that of a new one.
func (w *worker) follow(r *routed, s *Snapshot) DropReason {
	t, l := w.sw.conntrack, &r.f.Layers
	ref, sh := t.lookupHashed(r.hash, &l.Tuple)
	if ref == 0 {
		return NotDropped
	}
	c, reply := t.at(ref), ref&1 == 1
	rev := uint32(s.revision)
	valid := c.revision.Load() == rev
	if !valid && s.allows(c) {
		c.revision.Store(rev)
		valid = true
	}
	if !valid || c.kind == ConnInbound && !c.open(reply && !refuses(l), w.sw.masq) {
		sh.mu.RUnlock()
		t.remove(ref, w.sw.masq, func(c *conn) bool {
			return c.kind == ConnInbound && !c.hasNAT || c.revision.Load() != rev && !s.allows(c)
		})
		return NotDropped
	}
	defer sh.mu.RUnlock()
	if c.spoofed(r.in, reply) {
		return DropMartian
	}
	if why := c.track(t, ref, l, r.f.Data(), w.now); why != NotDropped {
		return why
	}
	r.to, r.kind, r.tracked = c.towards(reply), c.kind, true
	return NotDropped
}

// spoofed reports whether a packet came in at another port than those of its
// flow do.
func (c *conn) spoofed(in *portConfig, reply bool) bool {
	switch {
	case c.kind == ConnHairpin:
		return !reply && in.ID != c.port
	case c.kind == ConnRouted:
		return false
	case c.outbound(reply):
		return in.ID != c.port
	}
	return in.Kind != PortUplink
}

// open reports whether the mapping that a stranger came in by is still there.
// The container's first answer makes the flow one of those that hold it.
func (c *conn) open(answer bool, m *masquerade) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hasNAT {
		return true
	}
	if answer {
		c.hasNAT = m.hold(c.endpoint(), c.natPort())
		return c.hasNAT
	}
	e, ok := m.opened(c.slot, c.orig.Proto, c.orig.DstPort)
	return ok && e == c.endpoint()
}

// refuses reports whether a container wants nothing of a flow.
func refuses(l *header.Layers) bool {
	return l.Tuple.Proto == header.ProtoTCP && l.Kind == header.KindL4 && l.TCPFlags&tcpRST != 0
}

// stranger lets a packet in that nobody asked for, to a mapping of a network
// that filters endpoint independently.
func (w *worker) stranger(r *routed, s *Snapshot) bool {
	l := &r.f.Layers
	if ClaimProto(l.Tuple.Proto) > 1 || w.now-w.sw.began < restTime {
		return false
	}
	slot, ok := s.slots[l.Tuple.Dst]
	if !ok {
		return false
	}
	e, ok := w.sw.masq.opened(uint8(slot), l.Tuple.Proto, l.Tuple.DstPort)
	if !ok {
		return false
	}
	if h := s.hosts[e.addr]; h == nil || h.network.Filter != FilterEIF {
		return false
	}
	if l.Tuple.Proto == header.ProtoTCP && l.TCPFlags&(tcpSYN|tcpACK|tcpRST) != tcpSYN {
		return false
	}
	r.to.Dst, r.to.DstPort, r.kind, r.route = e.addr, e.port, ConnInbound, nil
	return true
}

// martian reports whether a packet that belongs to no flow has a source or a
// destination that it cannot have here (RFC 1812 5.3.7, RFC 2827).
func martian(r *routed, s *Snapshot) bool {
	t := &r.f.Layers.Tuple
	if t.Src == t.Dst || strangeAddr(&t.Src) || strangeAddr(&t.Dst) {
		return true
	}
	src := s.lookup(t.Src)
	if r.in.Kind == PortUplink {
		return src != nil && (src.Kind == RouteLocal || src.Kind == routeNetwork)
	}
	if r.in.Kind == PortHost {
		return src == nil || src.Kind != RouteLocal
	}
	return src == nil || src.Kind != routeNetwork || src.network != r.in.network
}

// strangeAddr reports whether an address can be no host's on a routed link.
func strangeAddr(a *header.Addr) bool {
	if a.Is4() {
		return a[12] == 0 || a[12] == 127 || a[12] >= 224
	}
	return a[0] == 0xff || *a == header.Addr{} || *a == header.Addr{15: 1}
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
