package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Policy at layer 2: what passes between two ports of a network as it is.

// bridges finds the row that parts two containers of a network, nil where none does: they
// do not reach each other at layer 2, nor by way of the gateway. It finds none either
// where each frame is asked about.
func (s *Snapshot) bridges(in, out *portConfig) *Rule {
	if !in.limited && !out.limited || in.asks(out) || in.Kind != PortContainer || out.Kind != PortContainer {
		return nil
	}
	return in.partedFrom(out)
}

// asks reports whether rows tell apart the frames between two containers: by ports,
// protocols or addresses, or by who begins. Then unicast IP between them is routed.
func (in *portConfig) asks(out *portConfig) bool {
	switch {
	case in.Kind != PortContainer || out.Kind != PortContainer:
		return false
	case in.asked || out.asked:
		return true
	}
	return (in.limited || out.limited) && (in.partedFrom(out) == nil) != (out.partedFrom(in) == nil)
}

// partedFrom finds the row that parts two containers as such, of which the first row that
// speaks of the two decides for each.
func (in *portConfig) partedFrom(out *portConfig) *Rule {
	q := question{from: in.behind(nil), to: out.behind(nil), via: ViaAddress}
	for _, l := range [...]*rowList{&in.layer2[Out], &out.layer2[In]} {
		if r := q.search(l, nil); r != nil && r.Deny {
			return r
		}
	}
	return nil
}

// Containers that are kept from the host must still answer it: health checks, and the
// host's own connections to published ports, which a relay makes. So in a network of
// which a row is about the host, what the host sends takes the way of routed packets,
// which are tracked, and answers are told apart from what a container begins.

// tracksHost reports whether a frame that is bridged elsewhere is routed, so that
// its flow is known.
func (in *portConfig) tracksHost(l *header.Layers) bool {
	return in.Kind == PortHost && in.network.tracked && l.Kind >= header.KindIP && !resolves(l) && !l.Dst.IsMulticast() &&
		!l.Tuple.Src.IsLinkLocal()
}

// answersHost reports whether a frame of a tracked flow is for the host.
func (r *routed) answersHost(s *Snapshot) bool {
	return r.in.Kind == PortContainer && r.in.network.tracked && r.kind == conntrack.KindRouted && s.isLocal(r.to.Dst)
}

// closes finds the row by which a frame does not pass between a container and the host.
func (n *network) closes(l *header.Layers) *Rule {
	switch {
	case l.Kind >= header.KindIP:
		return n.closed[family(l.Tuple.Src)]
	case l.EtherType == header.TypeARP:
		return n.closed[0]
	}
	return n.shut
}

// parts reports whether policy keeps a frame from going from one port to another of the
// network as it is, and finds the row. A flooded frame is asked about port by port: a
// service of the host could hear it. Frames that resolve addresses pass where anything
// does.
func (s *Snapshot) parts(in, out *portConfig, l *header.Layers, lists *listTable) (*Rule, bool) {
	var r *Rule
	switch host := in.Kind == PortHost || out.Kind == PortHost; {
	case host:
		if r = in.network.closes(l); r != nil || !in.network.tracked || l.Kind < header.KindIP || resolves(l) {
			return r, r != nil
		}
	case !in.asks(out):
		r = s.bridges(in, out)
		return r, r != nil
	case l.Kind < header.KindIP:
		if l.EtherType != header.TypeARP {
			r = in.partedFrom(out)
		}
		return r, r != nil
	case resolves(l):
		return nil, false
	}
	t := &l.Tuple
	r = s.judge(&question{from: in.behind(&t.Src), to: out.behind(&t.Dst), tuple: t, via: ViaAddress, lists: lists})
	return r, r.verdict() != NotDropped
}

// resolves reports whether a packet is of neighbour discovery.
func resolves(l *header.Layers) bool {
	return l.Tuple.Proto == header.ProtoICMPv6 && l.ICMPType >= header.ICMP6RouterSolicit && l.ICMPType <= header.ICMP6NeighborAdvert
}

// flows reports whether a packet between two containers can be routed as one of a flow.
// Addresses of the link stay on it, and neighbour discovery wants its hop limit.
func flows(l *header.Layers) bool {
	return l.Kind >= header.KindIP && !resolves(l) && !l.Tuple.Src.IsLinkLocal() && !l.Tuple.Dst.IsLinkLocal() && !l.Tuple.Dst.IsMulticast()
}
