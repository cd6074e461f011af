package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// route finds the next hop: a container of one of the networks, the host, or
// the neighbour that the host's routes name. It enforces what lies between:
// isolation of the networks, TTL and MTU.
func (w *worker) route(s *Snapshot) {
	keep := w.routes[:0]
	for i := range w.routes {
		r := &w.routes[i]
		if r.route == nil {
			r.route = s.lookup(r.to.Dst)
		}
		if why := w.nextHop(r, s); why != NotDropped {
			if why != deferred {
				w.refuse(r, why)
				w.drop(r.f, why)
			}
			continue
		}
		keep = append(keep, *r)
	}
	w.routes = keep
}

// nextHop decides about one frame.
func (w *worker) nextHop(r *routed, s *Snapshot) DropReason {
	mtu := 0
	switch {
	case r.route == nil:
		return DropNoRoute
	case r.route.Kind == routeNetwork:
		h := s.hosts[r.to.Dst]
		if h == nil {
			return DropNoHost
		}
		// Into a network go flows that were allowed when they began, what
		// prerouting let in, and what stays inside it.
		if !r.tracked && r.kind == ConnMasquerade {
			if r.in.network != h.network || r.in.isolatedFrom(s.ports[h.port], r.f.VLAN) {
				return DropIsolated
			}
			r.kind = ConnRouted
		}
		r.out, r.dst, r.src, mtu = h.port, h.mac, h.network.GatewayMAC, h.network.MTU
	case r.route.Kind == RouteUplink:
		switch {
		case r.in.network == nil && !r.tracked:
			return DropUnclaimed // from uplink to uplink: the switch is no router
		case r.in.network != nil && r.in.network.Internal && !r.tracked:
			return DropInternal
		}
		next := r.route.via
		if next == (header.Addr{}) {
			next = r.to.Dst
		}
		mac, ok := w.neighbor(r.route.Uplink, next)
		if !ok {
			why := w.wait(r, next)
			if why == deferred {
				w.sw.frags.forget(r.f)
			}
			return why
		}
		r.out, r.dst, r.src, mtu = r.route.Uplink, mac, r.route.uplink.MAC, r.route.uplink.MTU
	default: // local without a published port any more, or unreachable
		return DropNoRoute
	}
	if r.f.Layers.TTL <= 1 {
		return DropTTL
	}
	if oversize(r.f, mtu) {
		if r.f.Layers.Flags&header.FlagDontFragment != 0 || r.f.Offload.GSOType != frame.GSONone {
			return DropTooBig
		}
		r.cut = mtu
	}
	return NotDropped
}

// isolatedFrom reports whether two containers of a network must not reach each
// other at layer 2, so that they do not by way of the gateway either.
func (in *portConfig) isolatedFrom(out *portConfig, vlan uint16) bool {
	return in.isolated && out.isolated || in.Kind == PortContainer && out.VLAN != vlan
}

// oversize reports whether a frame's packet, or each segment of a GSO frame,
// is larger than an MTU; 0 is no limit.
func oversize(f *frame.Frame, mtu int) bool {
	if mtu == 0 {
		return false
	}
	l := &f.Layers
	if f.Offload.GSOType == frame.GSONone {
		return int(l.End)-int(l.L3) > mtu
	}
	return header.PayloadOffset(f.Data(), l)-int(l.L3)+int(f.Offload.GSOSize) > mtu
}
