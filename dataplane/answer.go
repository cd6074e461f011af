package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// answers is the memory for the answers of a turn: a frame has one at most.
type answers struct {
	frames [frame.BatchSize]frame.Frame
	bufs   [frame.BatchSize][frame.Headroom + header.MaxNeighborLen]byte
	used   int
}

// answer tells who asks for the MAC address of a container or of the gateway, in
// their place: what the switch knows need not be flooded, and nobody else gets
// the chance to answer. A question about the asker's own address, which is an
// announcement or duplicate address detection, goes on.
func (w *worker) answer(s *Snapshot) {
	w.ans.used = 0
	keep := w.live[:0]
	for _, f := range w.live {
		in, l, answered := s.ports[f.In], &f.Layers, false
		switch {
		case in.Kind == PortHost && in.network.closes(l) != nil:
		case in.Kind == PortUplink || !l.Dst.IsMulticast() && l.Dst != in.network.GatewayMAC:
		case l.Kind == header.KindARP:
			answered = w.answerARP(f, in, s)
		case l.ICMPType == header.ICMP6NeighborSolicit && l.Tuple.Proto == header.ProtoICMPv6:
			answered = w.answerND(f, in, s)
		}
		if !answered {
			keep = append(keep, f)
		}
	}
	w.live = keep
}

// answerARP reports whether a request is dealt with.
func (w *worker) answerARP(f *frame.Frame, in *portConfig, s *Snapshot) bool {
	a := header.ReadARP(f.Data(), &f.Layers)
	if a.Op != header.ARPRequest || a.SenderMAC != f.Layers.Src || a.Sender == a.Target {
		return false
	}
	mac, hidden := w.asked(&a.Target, f, in, s)
	if hidden || mac.IsZero() {
		return hidden
	}
	buf := w.ans.bufs[w.ans.used][:]
	out := header.AppendARPReply(buf[frame.Headroom:frame.Headroom], &a, mac)
	w.say(in, f, buf[:frame.Headroom+len(out)])
	return true
}

// answerND reports whether a solicitation is dealt with.
func (w *worker) answerND(f *frame.Frame, in *portConfig, s *Snapshot) bool {
	l := &f.Layers
	var n header.Neighbor
	if l.L4 == 0 || l.Flags&header.FlagFirstFragment != 0 || !header.ReadNeighbor(f.Data(), l, &n) {
		return false
	}
	mac, hidden := w.asked(&n.Target, f, in, s)
	if hidden || mac.IsZero() {
		return hidden
	}
	buf := w.ans.bufs[w.ans.used][:]
	out := header.AppendNeighborAdvert(buf[frame.Headroom:frame.Headroom], l.Src, l.Tuple.Src, n.Target, mac, mac == in.network.GatewayMAC)
	w.say(in, f, buf[:frame.Headroom+len(out)])
	return true
}

// asked is whoHas of a question. One whose answer the asker may not hear is dropped.
func (w *worker) asked(target *header.Addr, f *frame.Frame, in *portConfig, s *Snapshot) (mac header.MAC, hidden bool) {
	mac, row := s.whoHas(target, f, in)
	if row != nil {
		w.ruled = row.ID
		w.drop(f, DropIsolatedPort)
	}
	return mac, row != nil
}

// whoHas finds the MAC address that an asker hears, zero when the switch
// does not know or it is the asker's own. hidden is the row that parts it from the asker.
func (s *Snapshot) whoHas(target *header.Addr, f *frame.Frame, in *portConfig) (mac header.MAC, hidden *Rule) {
	if *target == in.network.gateway[family(*target)] && *target != (header.Addr{}) {
		if in.Kind == PortHost {
			return mac, nil
		}
		return in.network.GatewayMAC, nil
	}
	h := s.stations[*target]
	if h == nil || h.network != in.network || h.port == f.In {
		return mac, nil
	}
	at := s.ports[h.port]
	if in.Kind != PortHost && at.VLAN != f.VLAN {
		return mac, nil
	}
	return h.mac, s.bridges(in, at)
}

// say sends what was built in the next of the buffers back to where f came from.
func (w *worker) say(in *portConfig, f *frame.Frame, buf []byte) {
	a := &w.ans.frames[w.ans.used]
	w.ans.used++
	*a = frame.Frame{Buf: buf, In: f.In, VLAN: f.VLAN}
	w.mirror.answered(f, a)
	w.put(in, f.In, a)
}
