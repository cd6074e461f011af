package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// single turns a datagram that a station sends to all others of an uplink's link into one to the
// address of the host by which the station is answered, if its port is published at every address: a
// program of the host that had the port would hear it, and so the container does. The host's stack
// gets it as well.
func (w *worker) single(r *routed, s *Snapshot) {
	f, l := r.f, &r.f.Layers
	if l.Tuple.Proto != header.ProtoUDP || l.Kind != header.KindL4 || l.Flags&(header.FlagFragment|header.FlagFirstFragment) != 0 || !s.isBroadcast(l.Tuple.Dst) {
		return
	}
	back := s.lookup(l.Tuple.Src)
	if back == nil || back.Kind != RouteUplink || back.Uplink != r.in.ID {
		return
	}
	if iv := s.published(l.Tuple.Proto, back.source, l.Tuple.DstPort); iv == nil || iv.HostAddr != everyAddr(back.source) {
		return
	}
	to := l.Tuple
	to.Dst = back.source
	header.Rewrite(f.Data(), l, to, f.Offload.Csum == frame.CsumPartial && f.Offload.CsumStart == l.L4)
	l.Tuple = to
	r.hash = w.sw.conntrack.Hash(&l.Tuple)
}

// isBroadcast reports whether an address is that of all stations of a link (RFC 919, 7).
func (s *Snapshot) isBroadcast(a header.Addr) bool {
	if a == header.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return true
	}
	r := s.lookup(a)
	return r != nil && r.Kind == RouteBroadcast
}
