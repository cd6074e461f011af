package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

// answersBefore reports whether a segment goes on with a connection from outside to a published
// port that this switch does not know, because it began before the start and the server speaks
// first. Taken for a connection that the container begins, it would leave from another port, and
// the client would reset it. It leaves from the published port, if the client might connect now.
//
// A container might send so where it may begin nothing, in the time that such connections are
// looked for. Such a segment is dropped and not refused: the client may go on.
func (w *worker) answersBefore(r *routed, s *Snapshot) (bool, DropReason) {
	l := &r.f.Layers
	const ofHandshake = header.TCPSYN | header.TCPRST | header.TCPACK
	if r.in.Kind != PortContainer || l.Kind != header.KindL4 || l.Tuple.Proto != header.ProtoTCP || l.TCPFlags&ofHandshake != header.TCPACK ||
		w.now-w.sw.began >= leftTime || r.gathered {
		return false, NotDropped
	}
	host, port, ok := s.publishedOnce(&l.Tuple)
	if !ok {
		return false, NotDropped
	}
	to := s.lookup(l.Tuple.Dst)
	if to == nil || to.Kind != RouteUplink {
		return false, NotDropped
	}
	outside, h := end{side: SideOutside, addr: &l.Tuple.Dst}, s.stations[l.Tuple.Src]
	out := question{from: r.in.behind(&l.Tuple.Src), to: outside, tuple: &r.to, via: ViaAddress}
	if h == nil || h.port != r.in.ID || s.keeps(out.from, outside, &r.to, w.lists) {
		return false, NotDropped
	}
	if host == everyAddr(host) {
		host = to.source
	} else if !s.isLocal(host) {
		return false, NotDropped
	}
	arrives := l.Tuple.Reverse()
	in := question{from: outside, to: s.container(h, &l.Tuple.Src), tuple: &arrives, via: ViaPublished}
	if w.ask(r, s, &in) != NotDropped {
		r.rule = nil
		return false, NotDropped
	}
	rule := r.rule
	if w.ask(r, s, &out) != NotDropped {
		return true, DropUnclaimed
	}
	r.rule, w.ruled = rule, rule.id()
	r.to.Src, r.to.SrcPort = host, port
	r.kind, r.answers, r.route = conntrack.KindPublish, true, to
	return true, NotDropped
}

// publishedOnce finds the only TCP port that leads to the source of a packet, and the host's
// address that it is published at, every one or one.
func (s *Snapshot) publishedOnce(t *header.Tuple) (host header.Addr, port uint16, ok bool) {
	for i := range s.outside[t.Src] {
		iv := &s.outside[t.Src][i]
		if past := t.SrcPort - iv.ContainerFirst; iv.Proto == t.Proto && iv.ContainerFirst <= t.SrcPort && past <= iv.HostLast-iv.HostFirst {
			if ok {
				return host, port, false
			}
			host, port, ok = iv.HostAddr, iv.HostFirst+past, true
		}
	}
	return host, port, ok
}
