package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// classify splits the batch: IP for the gateway's MAC, and all that came from
// an uplink, is routed; the rest is bridged, to the port that the FDB knows or
// to all.
func (w *worker) classify(s *Snapshot) {
	w.bridge, w.routes = w.bridge[:0], w.routes[:0]
	db := w.sw.fdb
	db.RLock()
	defer db.RUnlock()
	for _, f := range w.live {
		in, l := s.ports[f.In], &f.Layers
		switch way, why := in.wayOf(l); way {
		case wayRouted:
			w.routes = append(w.routes, routed{f: f, in: in})
		case wayHost:
			w.toHost(f, in)
		case wayGroup, wayStation:
			if oversize(f, in.network.MTU) {
				w.drop(f, DropOversize) // a bridge cannot say so
			} else if way == wayGroup {
				w.bridge = append(w.bridge, bridged{f: f, out: frame.NoPort, to: listeners(f, in.network), flooded: true})
			} else {
				w.classifyUnicast(f, in, s)
			}
		default:
			w.drop(f, why)
		}
	}
}

// way is how a frame goes on.
type way uint8

const (
	wayNone    way = iota // nowhere, for a reason
	wayRouted             // by layer 3
	wayHost               // to the host's stack as it is
	wayGroup              // to a group's members
	wayStation            // to the port of a MAC address
)

// wayOf tells by the headers of a frame that came in at the port.
func (in *portConfig) wayOf(l *header.Layers) (way, DropReason) {
	switch {
	case in.Kind == PortUplink:
		if l.Kind < header.KindIP {
			return wayNone, DropUnclaimed
		}
		return wayRouted, NotDropped
	case !l.Dst.IsMulticast() && l.Dst == in.network.GatewayMAC:
		switch {
		case in.Kind == PortHost:
			return wayNone, DropSamePort
		case in.network.closes(l) != nil:
			return wayNone, DropInternal
		case l.Kind < header.KindIP:
			return wayHost, NotDropped
		}
		return wayRouted, NotDropped
	case in.Kind == PortHost && !l.Dst.IsMulticast() && in.network.closes(l) != nil:
		return wayNone, DropInternal
	case in.tracksHost(l):
		return wayRouted, NotDropped
	case l.Dst.IsMulticast():
		return wayGroup, NotDropped
	}
	return wayStation, NotDropped
}

// listeners are the ports a group's frame is flooded to. ARP requests that the
// answer stage left are not for the host: its kernel answers for each of its
// addresses, on whichever interface it is asked (arp_ignore 0).
func listeners(f *frame.Frame, n *network) []frame.PortID {
	if f.Layers.Kind == header.KindARP {
		if a := header.ReadARP(f.Data(), &f.Layers); a.Op == header.ARPRequest && a.Sender != a.Target {
			return n.guests
		}
	}
	return n.members
}

// toHost hands a frame as it is to the host's stack.
func (w *worker) toHost(f *frame.Frame, in *portConfig) {
	if in.network == nil || in.network.HostPort == frame.NoPort {
		w.drop(f, DropNoHostPort)
		return
	}
	w.bridge = append(w.bridge, bridged{f: f, out: in.network.HostPort})
}

// classifyUnicast finds the port of a station. It needs the FDB's lock.
func (w *worker) classifyUnicast(f *frame.Frame, in *portConfig, s *Snapshot) {
	out := w.sw.fdb.LookupLocked(fdb.KeyOf(in.Network, f.VLAN, f.Layers.Dst))
	switch {
	case out == frame.NoPort:
		w.bridge = append(w.bridge, bridged{f: f, out: out, to: in.network.members, flooded: true})
	case out == f.In:
		w.drop(f, DropSamePort)
	case s.ports[out] != nil && in.asks(s.ports[out]) && flows(&f.Layers):
		w.routes = append(w.routes, routed{f: f, in: in})
	case s.ports[out] != nil && w.parts(f, in, s.ports[out], s):
		w.drop(f, DropIsolatedPort)
	default:
		w.bridge = append(w.bridge, bridged{f: f, out: out})
	}
}

// parts reports whether a frame does not pass to a port as it is, and notes the row.
func (w *worker) parts(f *frame.Frame, in, out *portConfig, s *Snapshot) bool {
	r, parted := s.parts(in, out, &f.Layers, w.lists)
	if parted {
		w.ruled = r.id()
	}
	return parted
}
