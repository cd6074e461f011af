package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Policy: who may speak to whom. Two questions are asked, and both are answered here from
// the rows of the snapshot (rule.go): may this flow begin (judge), which route asks and
// prerouting for what comes uninvited; may this flow go on (allows), which every change
// of the snapshot or of a list asks of each flow anew. Whoever remembers an answer is
// asked again: a connection by its revision, a row of the kernel's flow table by decide.
//
// Bridged frames belong to no flow, so of two containers of a network only rows about
// the two as such are asked (bridges). Where other rows could tell their frames apart,
// they are routed, which makes flows of them (asks).

// end is one of the two that speak.
type end struct {
	side    Side
	network frame.NetworkID
	port    *portConfig // of a container
	addr    *header.Addr
}

// question is a flow that would begin, as its receiver sees it.
type question struct {
	from, to  end
	tuple     *header.Tuple
	via       Via
	otherVLAN bool
	lists     *listTable
}

// judge finds the row by which a flow may begin or not. nil: none allows it.
func (s *Snapshot) judge(q *question) *Rule {
	out := s.first(Out, &q.from, q)
	if out != nil && out.Deny {
		return out
	}
	in := s.first(In, &q.to, q)
	if out == nil || in != nil && (in.Deny || in.Tier < out.Tier) {
		return in
	}
	return out
}

// first finds the first row that matches among an end's rows of a direction.
func (s *Snapshot) first(d Direction, e *end, q *question) *Rule {
	r := q.search(&s.general[d], nil)
	if n := s.networks[e.network]; n != nil {
		r = q.search(&n.rules[d], r)
	}
	if e.port != nil {
		r = q.search(&e.port.rules[d], r)
	}
	return r
}

// search finds the first row that matches and comes before another.
func (q *question) search(l *rowList, before *Rule) *Rule {
	if l.index != nil {
		if r := l.index.first(q); r != nil && (before == nil || r.before(before)) {
			return r
		}
		return before
	}
	for _, r := range l.rows {
		if before != nil && !r.before(before) {
			break
		}
		if r.matches(q) {
			return r
		}
	}
	return before
}

func (r *Rule) before(o *Rule) bool {
	return r.Tier < o.Tier || r.Tier == o.Tier && r.Deny && !o.Deny
}

func (r *Rule) matches(q *question) bool {
	if r.Via != 0 && r.Via&q.via == 0 || r.OtherVLAN && !q.otherVLAN || !r.From.selects(&q.from, q.lists) || !r.To.selects(&q.to, q.lists) {
		return false
	}
	if r.Family != 0 && (r.Family == 4) != q.tuple.Dst.Is4() {
		return false
	}
	switch r.Proto {
	case 0:
		return r.Ports == conntrack.PortRange{} || r.Ports.First <= q.tuple.DstPort && q.tuple.DstPort <= r.Ports.Last
	case header.ProtoICMP, header.ProtoICMPv6:
		return r.Proto == q.tuple.Proto && q.tuple.DstPort == 0 // the side that asks
	}
	return r.Proto == q.tuple.Proto &&
		(r.Ports == conntrack.PortRange{} || r.Ports.First <= q.tuple.DstPort && q.tuple.DstPort <= r.Ports.Last)
}

// container is the end that has an address which was handed out.
func (s *Snapshot) container(h *station, a *header.Addr) end {
	return end{side: SideContainer, network: h.network.ID, port: s.ports[h.port], addr: a}
}

// behind is the end that sends by a port.
func (in *portConfig) behind(a *header.Addr) end {
	switch in.Kind {
	case PortUplink:
		return end{side: SideOutside, addr: a}
	case PortHost:
		return end{side: SideHost, network: in.Network, addr: a}
	}
	return end{side: SideContainer, network: in.Network, port: in, addr: a}
}

// viaOf is how a flow of a kind reaches its receiver, orig being its sender's tuple. A
// hairpin goes where the outside could go, or not.
func (s *Snapshot) viaOf(k conntrack.Kind, orig *header.Tuple, sender *network) Via {
	switch k {
	case conntrack.KindHairpin:
		if _, uplink := s.slots[orig.Dst]; uplink || sender != nil && s.atGateway(orig, sender) {
			return ViaPublished
		}
		return ViaPublishedInside
	case conntrack.KindPublish:
		return ViaPublished
	case conntrack.KindInbound:
		return ViaMapping
	}
	return ViaAddress
}

// atGateway reports whether a packet is for a port that is published at every address, at
// the gateway of its sender's network.
func (s *Snapshot) atGateway(orig *header.Tuple, sender *network) bool {
	if orig.Dst != sender.gateway[family(orig.Dst)] {
		return false
	}
	iv := s.published(orig.Proto, orig.Dst, orig.DstPort)
	return iv != nil && (iv.Inside || iv.HostAddr == everyAddr(orig.Dst))
}

// mayBegin says whether a packet of no flow may begin one by its route, and notes the
// row.
func (w *worker) mayBegin(r *routed, s *Snapshot) DropReason {
	if r.tracked || r.rule != nil {
		return NotDropped
	}
	q := question{from: r.in.behind(&r.f.Layers.Tuple.Src), to: end{side: SideOutside, addr: &r.to.Dst}, tuple: &r.to, via: s.viaOf(r.kind, &r.f.Layers.Tuple, r.in.network)}
	switch r.route.Kind {
	case routeNetwork:
		h := s.stations[r.to.Dst]
		if h == nil {
			return DropNoHost
		}
		q.to = s.container(h, &r.to.Dst)
		q.otherVLAN = r.in.Kind == PortContainer && r.in.network == h.network && q.to.port.VLAN != r.f.VLAN
		if r.kind == conntrack.KindMasquerade {
			r.kind = conntrack.KindRouted
		}
	case RouteUplink:
	default:
		return NotDropped // there is no hop
	}
	return w.ask(r, s, &q)
}

// mayCome says whether a packet of no flow that came from outside may go on to an address of a
// container that it knows, or by a mapping.
func (w *worker) mayCome(r *routed, s *Snapshot, from *header.Addr, to *header.Tuple, via Via) bool {
	q := question{from: end{side: SideOutside, addr: from}, to: end{side: SideHost, addr: &to.Dst}, tuple: to, via: via}
	h := s.stations[to.Dst]
	if h != nil {
		q.to = s.container(h, &to.Dst)
	}
	return w.ask(r, s, &q) == NotDropped && h != nil
}

// mayReachHost says whether a container's packet of no flow may go to an address of the
// host.
func (w *worker) mayReachHost(r *routed, s *Snapshot) DropReason {
	n, l := r.in.network, &r.f.Layers
	if !n.tracked || resolves(l) && (l.Tuple.Dst == n.linkLocal || l.Tuple.Dst == n.gateway[1]) {
		return NotDropped // no row says otherwise; the host must find whom it may speak to
	}
	q := r.toHost()
	return w.ask(r, s, &q)
}

func (r *routed) toHost() question {
	t := &r.f.Layers.Tuple
	return question{from: r.in.behind(&t.Src), to: end{side: SideHost, addr: &t.Dst}, tuple: t, via: ViaAddress}
}

// ask asks, and notes the row for the flow and for who wants to know.
func (w *worker) ask(r *routed, s *Snapshot, q *question) DropReason {
	q.lists = w.lists
	r.rule = s.judge(q)
	w.ruled = r.rule.id()
	return r.rule.verdict()
}

// verdict is the reason to drop what a row was found for.
func (r *Rule) verdict() DropReason {
	switch {
	case r == nil:
		return DropIsolated
	case r.Deny:
		return r.Reason
	}
	return NotDropped
}

func (r *Rule) id() RuleID {
	if r == nil {
		return 0
	}
	return r.ID
}

// keeps reports whether the outside sees a container's own address.
func (s *Snapshot) keeps(from, to end, t *header.Tuple, lists *listTable) bool {
	r := s.first(Keep, &from, &question{from: from, to: to, tuple: t, via: ViaAddress, lists: lists})
	return r != nil && !r.Deny
}

// allowed reports whether a flow may go on, and remembers it, unless the flow is asleep.
func (s *Snapshot) allowed(c *conntrack.Conn, lists *listTable) bool {
	rev := s.epoch(lists)
	if c.Revision.Load() == rev {
		return true
	}
	r := s.allows(c, lists)
	if r.verdict() != NotDropped {
		return false
	}
	c.Rule.Store(uint32(r.ID))
	if !s.asleep(c) {
		c.Revision.Store(rev)
	}
	return true
}

// asleep reports whether the address of the host that a flow leaves with, or came in by, is away.
// Nothing leaves with it meanwhile; what goes by hairpin leaves the host with none. The flow goes
// on when the address returns, unless another flow has needed its tuple (supplant).
func (s *Snapshot) asleep(c *conntrack.Conn) bool {
	switch c.Kind {
	case conntrack.KindMasquerade:
		return !s.isLocal(c.Reply.Dst)
	case conntrack.KindPublish, conntrack.KindInbound:
		return !s.isLocal(c.Orig.Dst)
	}
	return false
}

// hasAnotherWay reports whether a packet of a flow that is asleep can begin one that leaves with
// another address of the host.
func (s *Snapshot) hasAnotherWay(l *header.Layers) bool {
	if l.Tuple.Proto == header.ProtoTCP && !conntrack.Begins(l.TCPFlags) {
		return false
	}
	r := s.lookup(l.Tuple.Dst)
	return r != nil && r.Kind == RouteUplink && s.isLocal(r.source)
}

// sleeps is asleep of a flow that was allowed, without a look at the routes.
func (s *Snapshot) sleeps(c *conntrack.Conn, lists *listTable) bool {
	return c.Revision.Load() != s.epoch(lists)
}

// epoch numbers what policy answers by. Both numbers only grow, so a sum that was reached
// by an older one of the two is never reached again. 0 is a flow's that nothing has allowed in
// this process.
func (s *Snapshot) epoch(lists *listTable) uint32 {
	return (uint32(s.revision)+lists.generation)<<1 | 1
}

// allows finds the row by which a flow that was allowed before may go on as it is, or
// not: the container is still at its port, the port still published to it, and it could
// begin now. A flow that may not is forgotten, and its next packet goes where a new one
// goes. nil: it is no flow any more.
func (s *Snapshot) allows(c *conntrack.Conn, lists *listTable) *Rule {
	dst := c.Reply.Src
	arrives := c.Reply.Reverse()
	arrives.Src = c.Orig.Src
	q := question{
		from: end{side: SideOutside, addr: &c.Orig.Src}, to: end{side: SideOutside, addr: &dst}, tuple: &arrives, lists: lists,
	}
	from, to := s.stations[c.Orig.Src], s.stations[dst]
	var sender *network
	if from != nil {
		sender = from.network
		q.from = s.container(from, &c.Orig.Src)
	}
	if to != nil {
		q.to = s.container(to, &dst)
	}
	q.via = s.viaOf(c.Kind, &c.Orig, sender)
	stays := false
	switch c.Kind {
	case conntrack.KindPublish, conntrack.KindHairpin:
		o := &c.Orig
		iv := s.published(o.Proto, o.Dst, o.DstPort)
		stays = iv != nil && iv.ContainerAddr == c.Reply.Src && iv.port(o.DstPort) == c.Reply.SrcPort
		if c.Kind == conntrack.KindHairpin {
			stays = stays && from != nil && from.port == c.Port
		} else {
			stays = stays && to.port == c.Port
			q.from = end{side: SideOutside, addr: &c.Orig.Src}
		}
	case conntrack.KindInbound:
		stays = to != nil && to.port == c.Port
	case conntrack.KindMasquerade:
		slot, ours := s.slots[c.Reply.Dst]
		if in := s.ports[c.Port]; from == nil && in != nil && s.added(in, &c.Orig.Src) {
			q.from = in.behind(&c.Orig.Src)
			stays = ours && slot == int(c.Slot)
		} else {
			stays = from != nil && from.port == c.Port && ours && slot == int(c.Slot) && s.leavesAs(c)
		}
		if c.Turned {
			stays = stays && s.isLocal(dst) && s.published(c.Orig.Proto, dst, c.Reply.SrcPort) == nil
		}
		q.to = end{side: SideOutside, addr: &dst}
	default: // within a network, to where the own address is kept, or to a container
		switch {
		case from != nil && to != nil:
			stays = to.network == from.network
			q.otherVLAN = q.from.port.trunk == nil && q.from.port.VLAN != q.to.port.VLAN
		case from != nil && s.isLocal(dst):
			stays = from.port == c.Port && from.network.tracked
			q.to = end{side: SideHost, addr: &dst}
		case from != nil:
			stays = from.port == c.Port && s.keeps(q.from, q.to, &arrives, lists)
		case to != nil && s.isLocal(c.Orig.Src):
			stays = to.network.tracked
			q.from = end{side: SideHost, network: to.network.ID, addr: &c.Orig.Src}
		case to != nil:
			stays = to.port == c.Port
		}
	}
	if !stays {
		return nil
	}
	return s.judge(&q)
}

func (s *Snapshot) isLocal(a header.Addr) bool {
	r := s.lookup(a)
	return r != nil && r.Kind == RouteLocal
}

// hostsOwn reports whether packets to a destination are for the host whatever
// their port is.
func (s *Snapshot) hostsOwn(t *header.Tuple) bool {
	if _, maps := s.slots[t.Dst]; maps && flowmap.ClaimProto(t.Proto) < 2 {
		return false // it may be for a port of masquerade
	}
	return s.isLocal(t.Dst) &&
		len(s.publish[publishKey{t.Dst, t.Proto}]) == 0 && len(s.publish[publishKey{everyAddr(t.Dst), t.Proto}]) == 0
}

// stranger lets a packet in that nobody asked for, to a mapping of a network
// that filters endpoint independently. It comes from outside with a tuple.
func (w *worker) stranger(r *routed, s *Snapshot, as *header.Tuple) bool {
	l := &r.f.Layers
	if flowmap.ClaimProto(as.Proto) > 1 || w.now-w.sw.began < conntrack.RestTime {
		return false
	}
	slot, ok := s.slots[as.Dst]
	if !ok {
		return false
	}
	to := *as
	if to.Dst, to.DstPort, ok = w.sw.conntrack.Opened(uint8(slot), as.Proto, as.DstPort); !ok {
		return false
	}
	if !w.mayCome(r, s, &as.Src, &to, ViaMapping) {
		return false
	}
	if l.Tuple.Proto == header.ProtoTCP && l.TCPFlags&(header.TCPSYN|header.TCPACK|header.TCPRST) != header.TCPSYN {
		return false
	}
	r.to, r.kind, r.route = to, conntrack.KindInbound, nil
	return true
}
