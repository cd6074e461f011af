package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// destinationOfError finds the flow that an ICMP error speaks of by the packet
// it quotes (RFC 5508 section 4). The quoted packet went the other way, so its
// reversed tuple is the one that packets in the error's direction carry.
func (w *worker) destinationOfError(r *routed, q *header.Layers, s *Snapshot) DropReason {
	if why := soundError(r.f, q); why != NotDropped {
		return why
	}
	if why := w.errorOf(r, q, s); why != NotDropped || !r.turned {
		return why
	}
	return w.errorComesBack(r, s)
}

// errorOf finds the flow that an error speaks of, as its sender sees it.
func (w *worker) errorOf(r *routed, q *header.Layers, s *Snapshot) DropReason {
	b, l, along := r.f.Data(), &r.f.Layers, q.Tuple.Reverse()
	ref, sh := w.sw.conntrack.Lookup(&along)
	if ref == 0 {
		if r.in.Kind == PortContainer && s.isLocal(l.Tuple.Dst) && w.mayReachHost(r, s) == NotDropped {
			r.local = true
			return NotDropped
		}
		return DropUnmatchedError
	}
	defer sh.RUnlock()
	c, reply := w.sw.conntrack.At(ref), ref.Reply()
	if !s.allowed(c, w.lists) {
		return DropUnmatchedError // its next packet finds that the flow is over
	}
	if s.sleeps(c, w.lists) {
		return DropAsleep
	}
	// It comes from where the packets of its direction come from.
	if c.Turned && !c.Outbound(reply) || !s.speaksFor(r.in, &along.Src) {
		return DropUnmatchedError
	}
	if c.Forged(w.sw.conntrack, b, q, reply) {
		return DropForgedError
	}
	// An error neither refreshes nor ends a flow (RFC 5508 REQ-6, RFC 5382
	// REQ-10).
	r.tracked, r.turned, r.kind, r.came, r.inside = true, c.Turned, c.Kind, c.Came, c.Port
	r.quoted, r.quotedTo = q, c.Towards(reply).Reverse()
	r.to.Dst = r.quotedTo.Src
	// What is inside must not show outside: the error then comes from the
	// address that the peer knows (RFC 5508 REQ-5).
	if r.in.Kind != PortUplink || l.Tuple.Src == along.Src {
		r.to.Src = r.quotedTo.Dst
	}
	r.local = r.answersHost(s)
	return NotDropped
}

// soundError checks an ICMP error by itself (RFC 5508 REQ-3) and finds the
// packet that it quotes. The checksum of a quoted TCP or UDP header is not
// looked at: the quote is cut.
func soundError(f *frame.Frame, q *header.Layers) DropReason {
	b, l := f.Data(), &f.Layers
	switch {
	case !header.Translatable(l):
		return DropICMPType
	case l.Flags&header.FlagFirstFragment != 0:
		return DropFragment
	case !header.ParseQuoted(b, l, q), f.Offload.Csum == frame.CsumPartial && f.Offload.CsumStart == l.L4:
		return DropMalformed
	case f.Offload.Csum != frame.CsumValid && !header.ICMPSumOK(b, l), !header.QuotedSumOK(b, q):
		return DropBadChecksum
	}
	least := uint32(68) // RFC 791; RFC 8201, 4
	if l.Flags&header.FlagIPv6 != 0 {
		least = 1280
	}
	if mtu, ok := header.TooBigMTU(b, l); ok && mtu < least {
		return DropForgedError
	}
	return NotDropped
}

// echoReply reports whether a packet answers an ICMP query, and so begins none.
func echoReply(l *header.Layers) bool {
	switch {
	case l.Flags&header.FlagFragment != 0:
		return false
	case l.Tuple.Proto == header.ProtoICMP:
		return l.ICMPType == 0
	}
	return l.Tuple.Proto == header.ProtoICMPv6 && l.ICMPType == 129
}
