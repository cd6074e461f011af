package dataplane

import "github.com/vswitch/vswitch/dataplane/header"

// allows reports whether a flow that an older snapshot allowed may go on as it
// is: the container is still at its port and the port still published to it. A
// flow that may not is forgotten, and its next packet goes where a new one goes.
func (s *Snapshot) allows(c *conn) bool {
	switch c.kind {
	case ConnPublish, ConnHairpin:
		o := &c.orig
		iv := s.publish.find(o.Proto, o.Dst, o.DstPort)
		if iv == nil || iv.addr != c.reply.Src || iv.target+o.DstPort-iv.first != c.reply.SrcPort {
			return false
		}
		if c.kind == ConnHairpin {
			h := s.hosts[o.Src]
			return h != nil && h.port == c.port
		}
		return s.hosts[iv.addr].port == c.port
	case ConnInbound:
		h := s.hosts[c.reply.Src]
		return h != nil && h.port == c.port && h.network.Filter == FilterEIF
	case ConnMasquerade:
		h := s.hosts[c.orig.Src]
		slot, ours := s.slots[c.reply.Dst]
		return h != nil && h.port == c.port && !h.network.Internal && ours && slot == int(c.slot)
	}
	// Routed: within a network, to an exempt destination, or from outside.
	from, to := s.hosts[c.orig.Src], s.hosts[c.orig.Dst]
	switch {
	case from == nil:
		if to == nil {
			return false
		}
		return to.network.NoHostAccess && s.isLocal(c.orig.Src) || to.port == c.port && s.welcomes(&c.orig)
	case to != nil:
		return to.network == from.network
	}
	return from.port == c.port && !from.network.Internal && from.network.exempts(c.orig.Dst)
}

// exempts reports whether a destination sees the containers' own addresses.
func (n *network) exempts(a header.Addr) bool {
	if n.Modes[family(a)] == GatewayRouted {
		return true
	}
	if len(n.Exempt) == 0 {
		return false
	}
	ip := a.NetIP()
	for _, p := range n.Exempt {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// hostsOwn reports whether packets to a destination are for the host whatever
// their port is.
func (s *Snapshot) hostsOwn(t *header.Tuple) bool {
	r := s.lookup(t.Dst)
	return r != nil && r.Kind == RouteLocal &&
		len(s.publish[publishKey{t.Dst, t.Proto}]) == 0 && len(s.publish[publishKey{everyAddr(t.Dst), t.Proto}]) == 0
}
