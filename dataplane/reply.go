package dataplane

import (
	"math/rand/v2"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	replyBatch = 16   // ICMP errors in one turn
	replyRate  = 1000 // per second and port (RFC 1812 4.3.2.8)
	replyBurst = 50
	// To one destination, for all but "too big"; a traceroute asks three times.
	replyEach, replyEachBurst = 1, 6
	// The part of a second's errors that one destination behind an uplink may have as "too
	// big", or one station could take the whole.
	replyPart = 10
)

// replier builds the ICMP errors of a turn. Its memory is reused every turn.
type replier struct {
	frames [replyBatch]frame.Frame
	bufs   [replyBatch][frame.Headroom + header.MaxICMPErrorLen]byte
	used   int
	keys   conntrack.Keys
	world  [256]credit // what destinations behind uplinks were told, by a hash
}

// errorsOwed is the budget of a port's ICMP errors. Each has its own, since who provokes
// errors by the thousand must not take the neighbours'.
type errorsOwed struct {
	all credit
	to  [16]credit // by a hash of the destination, in a container's network
}

// allow takes one error to a destination from the budget of a port. How much an error
// takes is random, one on average: who could count exactly what is left would
// learn which ports are open (CVE-2020-25705). A "too big" counts on the port's whole
// only, or path MTU discovery would starve.
func (p *replier) allow(e *errorsOwed, now int64, to header.Addr, inside, tooBig bool, rng *rand.Rand) bool {
	const (
		each      = int64(time.Second) / replyRate
		replyCost = int64(time.Second) / replyEach
	)
	if p.used == replyBatch || e.all.used(now) > (replyBurst-1)*each {
		return false
	}
	at := p.keys.Tuple(&header.Tuple{Dst: to})
	world := &p.world[at%uint32(len(p.world))]
	switch {
	case inside:
		if !tooBig && !e.to[at%uint32(len(e.to))].take(now, replyCost, replyEachBurst*replyCost) {
			return false
		}
	case tooBig: // others to the same destination leave it a burst
		if !world.take(now, replyPart*each, replyEachBurst*replyCost+replyBurst/2*replyPart*each) {
			return false
		}
	case !world.take(now, replyCost, replyEachBurst*replyCost):
		return false
	}
	e.all.take(now, each*int64(rng.IntN(3)), (replyBurst+1)*each)
	return true
}

// icmpError is the type and code that tell a sender of a drop.
type icmpError struct{ typ, code uint8 }

// refusals are the drops that are answered: IPv4, IPv6. The isolation of
// networks is told as such, because a silent drop makes people suspect the
// network.
var refusals = map[DropReason][2]icmpError{
	DropTTL:            {{11, 0}, {3, 0}},
	DropNoRoute:        {{3, 0}, {1, 0}},
	DropNoEgress:       {{3, 0}, {1, 0}},
	DropNoHost:         {{3, 1}, {1, 3}},
	DropIsolated:       {{3, 13}, {1, 1}},
	DropInternal:       {{3, 13}, {1, 1}},
	DropHostAccess:     {{3, 13}, {1, 1}},
	DropTooBig:         {{3, 4}, {2, 0}},
	DropTableFull:      {{3, 1}, {1, 3}}, // RFC 6888 REQ-11
	DropShare:          {{3, 1}, {1, 3}},
	DropPortsExhausted: {{3, 1}, {1, 3}},
	DropQuota:          {{3, 1}, {1, 3}},
}

// refuse sends the sender of a dropped frame the ICMP error it is owed. The
// frame's bytes must still be as they came.
func (w *worker) refuse(r *routed, why DropReason) {
	codes, ok := refusals[why]
	if !ok {
		return
	}
	l := &r.f.Layers
	mac, src := header.MAC{}, l.Tuple.Dst
	switch {
	case r.in.network != nil:
		mac, src = r.in.network.GatewayMAC, r.in.network.gateway[family(l.Tuple.Src)]
	case why == DropTTL || why == DropTooBig:
		mac = r.in.uplink.MAC
	default:
		return // the world learns nothing about what is inside
	}
	e := w.sw.ports[r.in.ID].Load()
	if e == nil || src == (header.Addr{}) || r.in.NoICMPErrors || !w.reply.allow(&e.errors, w.now, l.Tuple.Src, r.in.network != nil, why == DropTooBig, w.rng) {
		return
	}
	info := uint32(0)
	if why == DropTooBig {
		info = uint32(w.mtuOf(r))
	}
	code := codes[family(l.Tuple.Src)]
	buf := w.reply.bufs[w.reply.used][:]
	out := header.AppendICMPError(buf[frame.Headroom:frame.Headroom], r.f.Data(), l, mac, src, code.typ, code.code, info)
	if out == nil {
		return
	}
	f := &w.reply.frames[w.reply.used]
	w.reply.used++
	*f = frame.Frame{Buf: buf[:frame.Headroom+len(out)], In: r.in.ID, VLAN: r.f.VLAN}
	w.mirror.answered(r.f, f)
	w.put(r.in, r.in.ID, f)
}

// mtuOf is the MTU of the link that a frame was too big for.
func (w *worker) mtuOf(r *routed) int {
	if r.route.uplink != nil {
		return r.route.uplink.MTU
	}
	return r.route.network.MTU
}
