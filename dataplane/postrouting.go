package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// postrouting gives a new flow its outside address and enters it in conntrack,
// then writes the decided tuple, TTL and MAC addresses into the frame, and cuts
// what is too large.
func (w *worker) postrouting(s *Snapshot) {
	keep := w.routes[:0]
	for i := range w.routes {
		r := &w.routes[i]
		if !r.tracked {
			if why := w.confirm(r, s); why != NotDropped {
				w.refuse(r, why)
				w.drop(r.f, why)
				continue
			}
		}
		if r.quoted == nil && !header.PortsChangeable(&r.f.Layers, &r.to) {
			w.drop(r.f, DropFragment)
			continue
		}
		if w.mirror.on() {
			w.mirrorNAT(r, PointPreNAT)
		}
		w.rewrite(r)
		if w.mirror.on() {
			w.mirrorNAT(r, PointPostNAT)
		}
		if r.cut > 0 && !w.cut(r) {
			w.drop(r.f, DropTooBig)
			continue
		}
		keep = append(keep, *r)
	}
	w.routes = keep
}

// confirm tracks a new flow. Only now are both its tuples known.
func (w *worker) confirm(r *routed, s *Snapshot) DropReason {
	l := &r.f.Layers
	// An earlier frame of this batch, or another worker, may have begun it.
	if why := w.follow(r, s); why != NotDropped || r.tracked {
		return why
	}
	switch {
	case l.Tuple.Proto == header.ProtoTCP && !conntrack.Begins(l.TCPFlags), echoReply(l):
		return DropInvalidState
	case l.Flags&header.FlagFragment != 0 && hasPorts(l.Tuple.Proto):
		return DropFragment // its first fragment began none
	}
	why := w.charge(r)
	if why == DropQuota && w.hasEnded() {
		why = w.charge(r)
	}
	if why != NotDropped {
		w.tell(s, EventQuota, r.f, frame.NoPort)
		return why
	}
	return w.begin(r, s, &l.Tuple, r.tenant(s))
}

// begin tracks the flow whose first packet comes in with a tuple.
func (w *worker) begin(r *routed, s *Snapshot, orig *header.Tuple, tenant conntrack.Tenant) DropReason {
	t, l := w.sw.conntrack, &r.f.Layers
	ref := t.Alloc(tenant)
	if ref == 0 && w.hasEnded() {
		ref = t.Alloc(tenant)
	}
	if ref == 0 {
		return DropShare
	}
	c := t.At(ref)
	c.Init(*orig, r.kind, r.out, tenant)
	c.Turned = r.turned
	if why := w.translateSource(r, c, s); why != NotDropped {
		t.GiveBack(ref)
		return why
	}
	if c.Reply = r.to.Reverse(); r.answers {
		c.Init(c.Reply, r.kind, r.in.ID, tenant)
		c.Reply = *orig
		c.BeginBack(l, r.f.Data(), w.now)
	} else {
		c.Begin(l, r.f.Data(), w.now)
	}
	if r.in.Kind == PortUplink {
		c.Came = uint16(r.in.ID) + 1
	}
	c.Revision.Store(s.epoch(w.lists))
	c.Rule.Store(uint32(r.rule.id()))
	got := t.Insert(ref)
	if got == conntrack.TupleTaken {
		got = w.supplant(ref, s)
	}
	if got == conntrack.TupleTaken {
		got = w.anotherPort(r, ref)
	}
	switch got {
	case conntrack.TupleTaken, conntrack.PeerTaken:
		t.GiveBack(ref)
		return DropTupleConflict
	case conntrack.PeerRefused:
		t.GiveBack(ref)
		return DropTableFull
	}
	r.tracked = true
	return NotDropped
}

// translateSource sets the source that the other end sees.
func (w *worker) translateSource(r *routed, c *conntrack.Conn, s *Snapshot) DropReason {
	l := &r.f.Layers
	switch r.kind {
	case conntrack.KindInbound:
		c.Slot = uint8(s.slots[l.Tuple.Dst])
		return NotDropped
	case conntrack.KindPublish, conntrack.KindRouted:
		return NotDropped // the container sees the real client
	}
	h := s.stations[l.Tuple.Src]
	if h == nil && !s.added(r.in, &l.Tuple.Src) || h != nil && h.network != r.in.network {
		return DropUnknownSource
	}
	c.Port = r.in.ID
	source, slot := l.Tuple.Dst, s.slotOf(l.Tuple.Dst) // hairpin: RFC 4787 REQ-9
	if r.kind == conntrack.KindMasquerade {
		if s.keeps(r.in.behind(&l.Tuple.Src), end{side: SideOutside, addr: &r.to.Dst}, &r.to, w.lists) {
			c.Kind = conntrack.KindRouted
			return NotDropped
		}
		if source, slot = r.route.source, r.route.slot; r.turned {
			source, slot = w.outsideOf(&l.Tuple, s)
		}
	}
	r.to.Src = source
	c.Slot = uint8(slot)
	if !hasPorts(l.Tuple.Proto) || l.Tuple.Proto == header.ProtoSCTP {
		return translatePeer(r, s)
	}
	if r.kind == conntrack.KindMasquerade && l.Tuple.Proto == header.ProtoUDP {
		// Who published a port is asked there: SIP, RTP and WireGuard send from it, too.
		if port, ok := s.publishedAt(&l.Tuple.Src, l.Tuple.SrcPort, source); ok {
			r.to.SrcPort = port
			return NotDropped
		}
	}
	// Of an ICMP query the port is the identifier.
	open := r.kind == conntrack.KindMasquerade && h != nil && h.network.welcoming
	port, searches, ok := w.sw.conntrack.AcquirePort(c, r.to, open, s.pool, w.sw.busy.Load(), w.rng)
	if w.left -= frame.SearchCost(searches - 1); !ok && w.hasEnded() {
		port, searches, ok = w.sw.conntrack.AcquirePort(c, r.to, open, s.pool, w.sw.busy.Load(), w.rng)
		w.left -= frame.SearchCost(searches)
	}
	if !ok {
		return DropPortsExhausted
	}
	r.to.SrcPort = port
	return NotDropped
}

// rewrite writes what was decided.
func (w *worker) rewrite(r *routed) {
	f, l := r.f, &r.f.Layers
	b := f.Data()
	header.SetMACs(b, r.dst, r.src)
	header.DecrementTTL(b, l)
	if l.Flags&(header.FlagIPv6|header.FlagDontFragment) == 0 && r.to.Src != l.Tuple.Src {
		w.identify(r)
	}
	// A partial checksum further inside, of a tunnel, leaves ours finished.
	partial := f.Offload.Csum == frame.CsumPartial && f.Offload.CsumStart == l.L4
	switch {
	case r.quoted != nil:
		header.RewriteError(b, l, r.quoted, r.to.Src, r.to.Dst, r.quotedTo)
	case r.to != l.Tuple:
		header.Rewrite(b, l, r.to, partial)
	}
	if l.Tuple.Proto == header.ProtoTCP && l.Kind == header.KindL4 && l.TCPFlags&header.TCPSYN != 0 && r.quoted == nil {
		if limit := r.maxSegment(); limit > 0 {
			header.ClampMSS(b, l, limit, partial)
		}
	}
}

// identify gives a packet an identification that no other container's packet
// to the same destination has. All fragments of a datagram share theirs.
func (w *worker) identify(r *routed) {
	f, l := r.f, &r.f.Layers
	id := r.fragID
	if l.Flags&(header.FlagFragment|header.FlagFirstFragment) == 0 {
		n := 1
		if size := int(f.Offload.GSOSize); f.Offload.GSOType != frame.GSONone {
			n = (f.Len() + size - 1) / size // each segment takes one
		}
		id = w.sw.ids.Next(&r.to, n)
	} else if !hasPorts(l.Tuple.Proto) {
		return // not gathered: its fragments must keep what they have in common
	}
	header.SetID(f.Data(), l, id)
}

// cut makes fragments of a packet that is larger than the next MTU and may be
// cut (RFC 4787 REQ-13 a), in order, each a frame of its own.
func (w *worker) cut(r *routed) bool {
	f, l := r.f, &r.f.Layers
	b := f.Data()
	if f.Offload.Csum == frame.CsumPartial {
		header.FinishChecksum(b[:l.End], int(f.Offload.CsumStart), int(f.Offload.CsumOffset))
	}
	head := int(l.L3) + int(b[l.L3]&0xf)*4
	size := (r.cut - head + int(l.L3)) &^ 7
	if size <= 0 {
		return false
	}
	r.first, r.pieces = w.spare.used, 0
	for at, whole := 0, int(l.End)-head; at < whole; r.pieces++ {
		p := w.newFrame(head + min(size, whole-at))
		if p == nil {
			w.spare.used = r.first
			return false
		}
		p.In, p.VLAN, p.Note = f.In, f.VLAN, f.Note
		p.Buf, at = header.AppendFragment(p.Buf[:frame.Headroom], b, l, at, size)
	}
	return true
}
