package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// route finds the next hop: a container of one of the networks, the host, or
// the neighbour that the host's routes name. What lies between is enforced here: policy,
// TTL and MTU.
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
	way, asks := s.wayOf(r)
	if asks {
		r.route = &byRules
	}
	if r.route == nil {
		return DropNoRoute
	}
	if why := w.mayBegin(r, s); why != NotDropped {
		return why
	}
	if asks {
		if why := w.way(r, way); why != NotDropped {
			return why
		}
		if w.moved(r) {
			if why := w.mayBegin(r, s); why != NotDropped {
				return why
			}
		}
	}
	h, why := s.hop(r.route, &r.to.Dst, w.sw.neigh.Load())
	if why == DropNoHost && r.tracked {
		h, why = s.hopToAdded(r)
	}
	if why == DropNoNeighbor {
		if why = w.wait(r, awaited{hop: NeighborKey{r.route.Uplink, h.next}}); why == deferred {
			w.sw.frags.forget(r.f)
		}
	}
	if why != NotDropped {
		return why
	}
	h.neighbor.use()
	r.out, r.dst, r.src = h.out, h.dst, h.src
	if r.f.Layers.TTL <= 1 {
		return DropTTL
	}
	if oversize(r.f, h.mtu) {
		if r.f.Layers.Flags&header.FlagDontFragment != 0 || r.f.Offload.GSOType != frame.GSONone {
			return DropTooBig
		}
		r.cut = h.mtu
	}
	return NotDropped
}

// hop is where a routed packet goes.
type hop struct {
	out      frame.PortID
	dst, src header.MAC
	mtu      int         // of the link
	next     header.Addr // the station on an uplink's link that it is handed to
	neighbor *neighbor   // of next; nil inside a network
}

// hop follows a route. Of a station that has no MAC address yet, DropNoNeighbor, next
// is known.
func (s *Snapshot) hop(r *route, to *header.Addr, n *neighborTable) (h hop, why DropReason) {
	switch r.Kind {
	case routeNetwork:
		c := s.stations[*to]
		if c == nil {
			return h, DropNoHost
		}
		return hop{out: c.port, dst: c.mac, src: c.network.GatewayMAC, mtu: c.network.MTU}, NotDropped
	case RouteUplink:
		if h.next = r.via; h.next == (header.Addr{}) {
			h.next = *to
		}
		if r.uplink.Packets {
			h.out, h.mtu = r.Uplink, r.uplink.MTU
			return h, NotDropped
		}
		if h.neighbor = n.macs[NeighborKey{r.Uplink, h.next}]; h.neighbor == nil {
			return h, DropNoNeighbor
		}
		h.out, h.dst, h.src, h.mtu = r.Uplink, h.neighbor.mac, r.uplink.MAC, r.uplink.MTU
		return h, NotDropped
	}
	if r.Kind == RouteBroadcast {
		return h, DropBroadcast
	}
	return h, DropNoRoute // local without a published port any more, or unreachable
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
