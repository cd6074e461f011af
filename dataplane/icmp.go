package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// destinationOfError finds the flow that an ICMP error speaks of by the packet
// it quotes (RFC 5508 section 4). The quoted packet went the other way, so its
// reversed tuple is the one that packets in the error's direction carry.
func (w *worker) destinationOfError(r *routed, q *header.Layers, s *Snapshot) DropReason {
	b, l := r.f.Data(), &r.f.Layers
	if why := soundError(r.f, q); why != NotDropped {
		return why
	}
	along := q.Tuple.Reverse()
	ref, sh := w.sw.conntrack.lookup(&along)
	if ref == 0 {
		if rt := s.lookup(l.Tuple.Dst); r.in.Kind == PortContainer && rt != nil && rt.Kind == RouteLocal && !r.in.network.NoHostAccess {
			r.local = true
			return NotDropped
		}
		return DropUnmatchedError
	}
	defer sh.mu.RUnlock()
	c, reply := w.sw.conntrack.at(ref), ref&1 == 1
	// It comes from where the packets of its direction come from.
	if h := s.hosts[along.Src]; h == nil && r.in.Kind == PortContainer || h != nil && h.port != r.in.ID {
		return DropUnmatchedError
	}
	if c.forged(w.sw.conntrack.rows, b, q, reply) {
		return DropForgedError
	}
	// An error neither refreshes nor ends a flow (RFC 5508 REQ-6, RFC 5382
	// REQ-10).
	r.tracked, r.kind = true, c.kind
	r.quoted, r.quotedTo = q, c.towards(reply).Reverse()
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

// forged reports whether an error quotes a TCP segment that its sender cannot
// have sent lately: who is not on the path does not know the numbers. reply is
// the direction of the error; the quoted segment went the other way.
func (c *conn) forged(rows []FlowSlot, b []byte, q *header.Layers, reply bool) bool {
	if q.Tuple.Proto != header.ProtoTCP || q.Kind != header.KindL4 {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recall(rows)
	s, o := &c.win[1], &c.win[0]
	if reply {
		s, o = o, s
	}
	return !s.sentLately(o, header.QuotedSeq(b, q))
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
