package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// classify splits the batch: IP for the gateway's MAC, and all that came from
// an uplink, is routed; the rest is bridged, to the port that the FDB knows or
// to all.
func (w *worker) classify(s *Snapshot) {
	w.bridge, w.routes = w.bridge[:0], w.routes[:0]
	db := w.sw.fdb
	db.mu.RLock()
	defer db.mu.RUnlock()
	for _, f := range w.live {
		in, l := s.ports[f.In], &f.Layers
		switch {
		case in.Kind == PortUplink:
			if l.Kind < header.KindIP {
				w.drop(f, DropUnclaimed)
				continue
			}
			w.routes = append(w.routes, routed{f: f, in: in})
		case !l.Dst.IsMulticast() && l.Dst == in.network.GatewayMAC:
			w.classifyGateway(f, in)
		case in.tracksHost(l):
			w.routes = append(w.routes, routed{f: f, in: in})
		case oversize(f, in.network.MTU):
			w.drop(f, DropOversize) // a bridge cannot say so
		case l.Dst.IsMulticast():
			w.bridge = append(w.bridge, bridged{f: f, out: frame.NoPort, to: listeners(f, in.network), open: true})
		default:
			w.classifyUnicast(f, in, s)
		}
	}
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

// classifyGateway takes a frame for the gateway's MAC: IP is routed, the rest
// is the host's.
func (w *worker) classifyGateway(f *frame.Frame, in *portConfig) {
	switch {
	case in.Kind == PortHost:
		w.drop(f, DropSamePort)
	case f.Layers.Kind >= header.KindIP && in.network.Modes[family(f.Layers.Tuple.Src)] == GatewayIsolated:
		w.drop(f, DropInternal)
	case f.Layers.Kind >= header.KindIP:
		w.routes = append(w.routes, routed{f: f, in: in})
	default:
		w.toHost(f, in)
	}
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
	out := w.sw.fdb.lookupLocked(fdbKeyOf(in.Network, f.VLAN, f.Layers.Dst))
	switch {
	case out == frame.NoPort:
		w.bridge = append(w.bridge, bridged{f: f, out: out, to: in.network.members, open: true})
	case out == f.In:
		w.drop(f, DropSamePort)
	case in.isolated && s.ports[out] != nil && s.ports[out].isolated:
		w.drop(f, DropIsolatedPort)
	default:
		w.bridge = append(w.bridge, bridged{f: f, out: out})
	}
}
