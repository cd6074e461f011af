package dataplane

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// A row of the flow table is decided by one function, decide. An offer writes what it
// answers, and every change asks it again: a row whose answer is not the same to the
// byte goes. So there is no list of what a row depends on that a feature could forget
// to extend. It asks what the stages ask (admit, wayOf, allows, spoofed, hop), with
// headers in place of a frame.

// flowID is what the frames of a row have in common: where they come in, and the bytes
// that the programs look up.
type flowID struct {
	in       frame.PortID
	dst, src header.MAC
	tuple    header.Tuple
}

// decision is what the stages do with every frame of a flow.
type decision struct {
	row   flowmap.Decision
	other flowmap.Key // of the flow's frames the other way
	out   frame.PortID
	// Of a flow that conntrack knows:
	routed bool
	to     header.Tuple // as it leaves
	next   NeighborKey  // the next hop on an uplink, or zero
}

// view is what decides, taken once for all that is asked in one go.
type view struct {
	*Snapshot
	neighbors *neighborTable
	lists     *listTable
	mirrors   *mirrorTable
	conntrack *conntrack.Table
	ids       *conntrack.Identifiers
	entries   *[MaxPorts]atomic.Pointer[portEntry]
	// ofBefore is Switch.ofFlowBefore.
	ofBefore func(*header.Tuple) bool
	ways     *ways
	busy     *conntrack.BusyPorts
}

func (s *Switch) view() *view {
	now, snapshot := s.now(), s.snapshot.Load()
	return &view{snapshot, s.neigh.Load(), s.lists.Load(), s.mirrors.Load(), s.conntrack, s.ids, &s.ports, func(t *header.Tuple) bool {
		return s.ofFlowBefore(t, snapshot, now)
	}, s.ways, s.busy.Load()}
}

// decide says what the stages do with the frames of a flow now. ok is false when the
// kernel must not carry them: they are dropped, a capture wants to see them, or the
// programs cannot say what the stages do.
func (v *view) decide(f *flowID) (d decision, ok bool) {
	in := v.ports[f.in]
	if in == nil || in.Ifindex == 0 || v.entries[f.in].Load() == nil {
		return d, false
	}
	sample := frame.Frame{In: f.in, VLAN: in.VLAN, Layers: f.layers()}
	if in.Kind == PortHost && in.network.vlans {
		sample.VLAN = vlanOf(&sample, in, v.Snapshot)
	}
	if admit(&sample, in, v.Snapshot) != NotDropped {
		return d, false
	}
	switch way, _ := in.wayOf(&sample.Layers); way {
	case wayRouted:
		ok = v.decideRouted(&d, &sample, in)
	case wayStation:
		id, known := v.pinned[fdb.KeyOf(in.Network, sample.VLAN, f.dst)]
		if ok = known && id != f.in && v.ports[id] != nil; ok && in.asks(v.ports[id]) {
			ok = v.decideRouted(&d, &sample, in)
		} else if ok {
			ok = v.decideBridged(&d, in, id)
		}
	}
	if !ok || v.ports[d.out].Missed || v.entries[d.out].Load() == nil || v.mirrors.sees(f.in, d.out) {
		return d, false
	}
	d.row.Key = in.keyOf(&f.tuple)
	d.row.In, d.row.Payer = in.Ifindex, uint32(in.ID)
	copy(d.row.Match[:6], f.dst[:])
	copy(d.row.Match[6:], f.src[:])
	back := f.tuple.Reverse()
	if d.routed {
		back = d.to.Reverse()
	}
	d.other = v.ports[d.out].keyOf(&back)
	return d, true
}

// keyOf is the key of a frame that comes in at the port.
func (p *portConfig) keyOf(t *header.Tuple) flowmap.Key {
	k := flowmap.Key{Side: p.Ifindex, Proto: t.Proto, Src: t.Src, Dst: t.Dst, Ports: flowPorts(t)}
	if p.Kind == PortUplink {
		k.Side = 0
	}
	return k
}

// layers are the headers of a whole packet of the flow.
func (f *flowID) layers() header.Layers {
	l := header.Layers{Dst: f.dst, Src: f.src, EtherType: header.TypeIPv4, Kind: header.KindL4, Tuple: f.tuple}
	if !f.tuple.Src.Is4() {
		l.EtherType, l.Flags = header.TypeIPv6, header.FlagIPv6
	}
	return l
}

// decideBridged is decide for a flow that goes to a port as it is.
func (v *view) decideBridged(d *decision, in *portConfig, id frame.PortID) bool {
	out := v.ports[id]
	if out == nil || !in.plain || !out.plain || v.bridges(in, out) != nil {
		return false
	}
	d.out = id
	d.row = flowmap.Decision{Out: out.Ifindex, Flags: wayOut(in, out), MTU: uint32(in.network.MTU)}
	if in.Kind == PortContainer && d.row.Flags == 0 {
		d.row.Flags = flowmap.ProveSum // the cable may finish checksums
	}
	return true
}

// decideRouted is decide for a flow that conntrack knows, in the direction of f, or
// that is for the host itself.
func (v *view) decideRouted(d *decision, f *frame.Frame, in *portConfig) bool {
	r := routed{f: f, in: in}
	t := &f.Layers.Tuple
	ref, sh := v.conntrack.Lookup(t)
	if ref == 0 {
		if !v.isForHost(&r) || !v.decideBridged(d, in, in.network.HostPort) {
			return false
		}
		d.row.Policy = uint32(r.rule.ID)
		return true
	}
	defer sh.RUnlock()
	c, reply := v.conntrack.At(ref), ref.Reply()
	if !in.carriesRouted() || !c.GoesOn() || c.Kind == conntrack.KindInbound || c.Turned || !v.allowed(c, v.lists) || v.sleeps(c, v.lists) || v.spoofs(in, c, reply) {
		return false
	}
	r.to, r.kind, r.came = c.Towards(reply), c.Kind, c.Came
	r.route = v.lookup(r.to.Dst)
	if k, asks := v.wayOf(&r); asks {
		// A flow that would leave from another address ends by its next packet, see moved.
		if r.route = v.ways.find(k); r.route != nil && c.Kind == conntrack.KindMasquerade && r.route.source != r.to.Src {
			return false
		}
	}
	if r.route == nil || r.answersHost(v.Snapshot) {
		return false
	}
	h, why := v.hop(r.route, &r.to.Dst, v.neighbors)
	if why != NotDropped {
		return false
	}
	out := v.ports[h.out]
	if out == nil || !out.carriesRouted() {
		return false
	}
	d.out, d.routed, d.to = h.out, true, r.to
	if h.neighbor != nil {
		d.next = NeighborKey{h.out, h.next}
	}
	d.row = rewriteOf(t, &r.to, &h)
	d.row.Out, d.row.MTU = out.Ifindex, uint32(h.mtu)
	d.row.Flags |= wayOut(in, out)
	if d.row.Flags&flowmap.NeedsDF != 0 {
		d.row.Flags |= v.ids.Flags(&r.to)
	}
	d.row.Policy = c.Rule.Load()
	if in.Kind == PortContainer {
		d.row.Flags |= flowmap.ProveSum
	}
	return true
}

// isForHost reports whether a container's packet of no flow is for a service of the
// host, whose port is not published.
func (v *view) isForHost(r *routed) bool {
	t := &r.f.Layers.Tuple
	if r.in.Kind != PortContainer || r.in.network.HostPort == frame.NoPort ||
		martian(r, v.Snapshot) || !v.isLocal(t.Dst) || v.published(t.Proto, t.Dst, t.DstPort) != nil {
		return false
	}
	if v.ofBefore(t) || v.mayTurn(t) {
		return false
	}
	q := r.toHost()
	q.lists = v.lists
	r.rule = v.judge(&q)
	return r.rule.verdict() == NotDropped
}

// wayOut is how the kernel gets a frame out of a port. Straight into a container is
// only for what comes in by an interface (bpf_redirect_peer), and not for what has to
// wait in a queue of the cable.
func wayOut(in, out *portConfig) uint32 {
	switch {
	case out.Kind == PortHost:
		return flowmap.ToStack
	case out.Kind == PortContainer && in.Kind != PortHost && !out.Queued:
		return flowmap.ToPeer
	}
	return 0
}

// plainPort reports whether the flow table can speak of a port's bridged frames: they
// are of one station and carry no tag. What the host sends to where containers are kept
// from it is not bridged but tracked.
func (p *portConfig) plainPort() bool {
	switch p.Kind {
	case PortContainer:
		return p.Guarded && p.Ifindex != 0 && p.VLAN == 0 && p.trunk == nil
	case PortHost:
		return p.Ifindex != 0 && !p.network.tracked
	}
	return false
}

// carriesRouted is the same for routed flows, which an uplink has, too, and to which
// isolation between containers does not apply.
func (p *portConfig) carriesRouted() bool {
	return p.Ifindex != 0 && (p.Kind == PortUplink || p.Kind == PortContainer && p.Guarded && p.VLAN == 0 && p.trunk == nil)
}

// rewriteOf is what postrouting does with a frame, for all frames of its flow.
func rewriteOf(from, to *header.Tuple, h *hop) flowmap.Decision {
	m := flowmap.Decision{Flags: flowmap.Rewrite, Ports: flowPorts(to)}
	copy(m.MACs[:6], h.dst[:])
	copy(m.MACs[6:], h.src[:])
	addrs, ports := flowAddrs(from), flowPorts(from)
	m.Addrs = flowAddrs(to)
	m.AddrDiff = sumDiff(addrs[:], m.Addrs[:])
	m.PortDiff = sumDiff(ports[:], m.Ports[:])
	// The word of TTL and protocol, from 1 to 0: a difference is the same for all.
	hop := sumDiff([]byte{1, 0}, []byte{0, 0})
	m.L3Diff = foldSum(m.AddrDiff + hop)
	if from.Src.Is4() && to.Src != from.Src {
		m.Flags |= flowmap.NeedsDF
	}
	return m
}

// flowPorts are a tuple's ports as a packet has them.
func flowPorts(t *header.Tuple) (b [4]byte) {
	binary.BigEndian.PutUint16(b[:], t.SrcPort)
	binary.BigEndian.PutUint16(b[2:], t.DstPort)
	return b
}

// flowAddrs are a tuple's addresses as a packet has them.
func flowAddrs(t *header.Tuple) (b [32]byte) {
	if t.Src.Is4() {
		copy(b[:], t.Src[12:])
		copy(b[4:], t.Dst[12:])
		return b
	}
	copy(b[:], t.Src[:])
	copy(b[16:], t.Dst[:])
	return b
}

// sumDiff is what a ones' complement sum (RFC 1071) over words in the machine's
// order changes by when from becomes to. 0 is written in one form only.
func sumDiff(from, to []byte) uint32 {
	sum := uint32(0)
	for i := 0; i < len(from); i += 2 {
		sum += uint32(binary.NativeEndian.Uint16(to[i:])) + uint32(^binary.NativeEndian.Uint16(from[i:]))
	}
	if sum = foldSum(sum); sum == 0xffff {
		return 0
	}
	return sum
}

func foldSum(sum uint32) uint32 {
	for bits.Len32(sum) > 16 {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}
