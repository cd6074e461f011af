package dataplane

import (
	"encoding/binary"
	"math/bits"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// flowOffer is a flow that a worker thinks worth a row.
type flowOffer struct {
	snapshot  *Snapshot // that it was decided by
	in, out   frame.PortID
	key       FlowKey
	row       FlowSlot
	tuple, to header.Tuple // as it comes in, and as a routed flow leaves
}

// flowCounter counts the frames of flows by hash; of two with one place the later
// one has it.
type flowCounter [512]struct {
	hash  uint32
	count uint32
}

// due counts a frame and reports whether its flow should be offered.
func (c *flowCounter) due(hash uint32) bool {
	e := &c[hash%uint32(len(c))]
	if e.hash != hash {
		e.hash, e.count = hash, 0
	}
	e.count++
	return e.count%flowAgain == flowWorth
}

// offer is the stage that writes decided flows down for the kernel, {match, rewrite,
// output}. It comes before the frames are rewritten, drops nothing and changes nothing.
func (w *worker) offer(s *Snapshot) {
	t := w.sw.flows
	if t == nil {
		return
	}
	for i := range w.bridge {
		b := &w.bridge[i]
		l := &b.f.Layers
		if b.out == frame.NoPort || !flowable(l) {
			continue
		}
		in, out := s.ports[b.f.In], s.ports[b.out]
		if out == nil || !in.plain || !out.plain || l.Src != in.MAC || l.Dst != out.MAC || !w.offers.due(w.reply.keys.tuple(&l.Tuple)) {
			continue
		}
		o := flowOffer{snapshot: s, in: in.ID, out: out.ID, key: flowKey(in, l), tuple: l.Tuple}
		o.row = FlowSlot{Out: out.Ifindex, Flags: wayOut(in, out), MTU: uint32(in.network.MTU)}
		t.take(o)
	}
	for i := range w.routes {
		r := &w.routes[i]
		l := &r.f.Layers
		if !r.tracked || r.cut > 0 || r.quoted != nil || !flowable(l) {
			continue
		}
		in, out := r.in, s.ports[r.out]
		if out == nil || !in.carriesRouted() || !out.carriesRouted() || !w.offers.due(w.reply.keys.tuple(&l.Tuple)) {
			continue
		}
		o := flowOffer{snapshot: s, in: in.ID, out: out.ID, key: flowKey(in, l), tuple: l.Tuple, to: r.to}
		o.row = flowRewrite(r, l)
		o.row.Out, o.row.MTU = out.Ifindex, uint32(out.linkMTU())
		o.row.Flags |= wayOut(in, out)
		t.take(o)
	}
}

// take is for workers: what finds no room is offered again later.
func (t *flowTable) take(o flowOffer) {
	select {
	case t.offers <- o:
	default:
	}
}

// wayOut is how the kernel gets a frame out of a port. Straight into a container is
// only for what comes in by an interface (bpf_redirect_peer), and not for what has to
// wait in a queue of the cable.
func wayOut(in, out *portConfig) uint32 {
	switch {
	case out.Kind == PortHost:
		return FlowToStack
	case out.Kind == PortContainer && in.Kind != PortHost && !out.Queued:
		return FlowToPeer
	}
	return 0
}

// flowable reports whether a packet is of a kind that the kernel's programs know.
func flowable(l *header.Layers) bool {
	return l.Kind == header.KindL4 && (l.Tuple.Proto == header.ProtoTCP || l.Tuple.Proto == header.ProtoUDP) &&
		l.Flags&(header.FlagFragment|header.FlagFirstFragment|header.FlagOptions|header.FlagICMPError) == 0
}

// plainPort reports whether the flow table can speak of a port's bridged frames: they
// are of one station and carry no tag. What the host sends to where containers are kept
// from it is not bridged but tracked.
func (p *portConfig) plainPort() bool {
	switch p.Kind {
	case PortContainer:
		return p.Guarded && p.Ifindex != 0 && p.VLAN == 0 && p.trunk == nil
	case PortHost:
		return p.Ifindex != 0 && !p.network.NoHostAccess
	}
	return false
}

// carriesRouted is the same for routed flows, which an uplink has, too, and to which
// isolation between containers does not apply.
func (p *portConfig) carriesRouted() bool {
	return p.Ifindex != 0 && (p.Kind == PortUplink || p.Kind == PortContainer && p.Guarded && p.VLAN == 0 && p.trunk == nil)
}

func (p *portConfig) linkMTU() int {
	if p.uplink != nil {
		return p.uplink.MTU
	}
	return p.network.MTU
}

func flowKey(in *portConfig, l *header.Layers) FlowKey {
	k := FlowKey{Ifindex: in.Ifindex, Proto: l.Tuple.Proto, Src: l.Tuple.Src, Dst: l.Tuple.Dst}
	copy(k.MACs[:6], l.Dst[:])
	copy(k.MACs[6:], l.Src[:])
	k.Ports = flowPorts(&l.Tuple)
	return k
}

func flowPorts(t *header.Tuple) (b [4]byte) {
	binary.BigEndian.PutUint16(b[:], t.SrcPort)
	binary.BigEndian.PutUint16(b[2:], t.DstPort)
	return b
}

// flowRewrite is what postrouting does with a frame, for all frames of its flow.
func flowRewrite(r *routed, l *header.Layers) FlowSlot {
	m := FlowSlot{Flags: FlowRewrite, Ports: flowPorts(&r.to)}
	copy(m.MACs[:6], r.dst[:])
	copy(m.MACs[6:], r.src[:])
	from, ports := flowAddrs(&l.Tuple), flowPorts(&l.Tuple)
	m.Addrs = flowAddrs(&r.to)
	m.AddrDiff = sumDiff(from[:], m.Addrs[:])
	m.PortDiff = sumDiff(ports[:], m.Ports[:])
	// The word of TTL and protocol, from 1 to 0: a difference is the same for all.
	hop := sumDiff([]byte{1, 0}, []byte{0, 0})
	m.L3Diff = foldSum(m.AddrDiff + hop)
	if l.Flags&header.FlagIPv6 == 0 && r.to.Src != l.Tuple.Src {
		m.Flags |= FlowNeedsDF
	}
	return m
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
// order changes by when from becomes to.
func sumDiff(from, to []byte) uint32 {
	sum := uint32(0)
	for i := 0; i < len(from); i += 2 {
		sum += uint32(binary.NativeEndian.Uint16(to[i:])) + uint32(^binary.NativeEndian.Uint16(from[i:]))
	}
	return foldSum(sum)
}

func foldSum(sum uint32) uint32 {
	for bits.Len32(sum) > 16 {
		sum = sum>>16 + sum&0xffff
	}
	return sum
}
