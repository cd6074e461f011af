package dataplane

import "github.com/vswitch/vswitch/dataplane/header"

// Containers that are kept from the host must still answer it: health checks, and
// the host's own connections to published ports, which a relay makes. So in such
// a network what the host sends takes the way of routed packets, which are
// tracked, and what comes back is told apart from what a container begins.

// tracksHost reports whether a frame that is bridged elsewhere is routed, so that
// its flow is known.
func (in *portConfig) tracksHost(l *header.Layers) bool {
	return in.Kind == PortHost && in.network.NoHostAccess && l.Kind >= header.KindIP && !l.Dst.IsMulticast() &&
		!l.Tuple.Src.IsLinkLocal()
}

// answersHost reports whether a frame of a tracked flow is for the host.
func (r *routed) answersHost(s *Snapshot) bool {
	return r.in.Kind == PortContainer && r.in.network.NoHostAccess && r.kind == ConnRouted && s.isLocal(r.to.Dst)
}

func (s *Snapshot) isLocal(a header.Addr) bool {
	r := s.lookup(a)
	return r != nil && r.Kind == RouteLocal
}

// keptFrom reports whether a flooded frame is not for a port: a service of the
// host could hear it. What resolves addresses goes through.
func (out *portConfig) keptFrom(l *header.Layers) bool {
	if out.Kind != PortHost || !out.network.NoHostAccess || l.Kind < header.KindIP {
		return false
	}
	return l.Tuple.Proto != header.ProtoICMPv6 || l.ICMPType < header.ICMP6RouterSolicit || l.ICMPType > header.ICMP6NeighborAdvert
}
