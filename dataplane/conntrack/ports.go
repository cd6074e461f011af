package conntrack

import (
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// PortRange is an interval of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// portSet has a bit for each port.
type portSet [1024]uint64

// noPorts is not written to.
var noPorts portSet

// add enters the ports from first to last.
func (s *portSet) add(first, last uint16) {
	for i := int(first >> 6); i <= int(last>>6); i++ {
		word := ^uint64(0)
		if i == int(first>>6) {
			word &= ^uint64(0) << (first & 63)
		}
		if i == int(last>>6) {
			word &= ^uint64(0) >> (63 - last&63)
		}
		s[i] |= word
	}
}

// BusyPorts are the ports of the host that its programs hold, which masquerade
// must not use.
type BusyPorts struct {
	sets    [2]portSet // TCP, UDP
	reached [2]portSet // those of them that packets from outside reach
}

// Set marks a port as held; other protocols than TCP and UDP have no ports.
func (b *BusyPorts) Set(proto uint8, port uint16) {
	if i := flowmap.ClaimProto(proto); i < len(b.sets) {
		b.sets[i].add(port, port)
	}
}

// Leave has masquerade leave out ports of a protocol, a bit for each: they are another switch's.
func (b *BusyPorts) Leave(proto uint8, ports *[1024]uint64) {
	i := flowmap.ClaimProto(proto)
	if i >= len(b.sets) {
		return
	}
	for word, w := range ports {
		b.sets[i][word] |= w
	}
}

// Has reports whether a port is marked as held.
func (b *BusyPorts) Has(proto uint8, port uint16) bool { return b.of(proto).has(port) }

// Reach marks a port as held at an address of the host that is not loopback: what comes
// there is the program's.
func (b *BusyPorts) Reach(proto uint8, port uint16) {
	if i := flowmap.ClaimProto(proto); i < len(b.reached) {
		b.reached[i].add(port, port)
	}
}

// Overtaken reports whether programs of the host hold UDP ports of mappings, see
// Selector.Overtaken. A port that rests is nobody's.
func (t *Table) Overtaken(busy *BusyPorts) bool {
	for slot := range flowmap.ClaimSlots {
		for i, held := range busy.reached[flowmap.ClaimProto(header.ProtoUDP)] {
			both := held & atomic.LoadUint64(&t.nat.plane[flowmap.ClaimWord(slot, header.ProtoUDP, uint16(i<<6))])
			for ; both != 0; both &= both - 1 {
				if !t.nat.rests(uint8(slot), header.ProtoUDP, uint16(i<<6|bits.TrailingZeros64(both))) {
					return true
				}
			}
		}
	}
	return false
}

// overtakes reports whether a flow holds a UDP port that a program of the host holds, too.
func (b *BusyPorts) overtakes(c *Conn) bool {
	return c.nat != natNone && c.Orig.Proto == header.ProtoUDP && b.reached[flowmap.ClaimProto(header.ProtoUDP)].has(c.natPort())
}

// CloseBusy lets no stranger in any more by TCP ports of mappings that programs of the host
// hold: what is new there is theirs, while the flows that there are go on.
func (t *Table) CloseBusy(busy *BusyPorts) {
	if t.nat.claims == nil {
		return
	}
	for slot := range flowmap.ClaimSlots {
		for i, held := range busy.reached[flowmap.ClaimProto(header.ProtoTCP)] {
			both := held & atomic.LoadUint64(&t.nat.claims[flowmap.ClaimWord(slot, header.ProtoTCP, uint16(i<<6))])
			for ; both != 0; both &= both - 1 {
				t.nat.close(uint8(slot), header.ProtoTCP, uint16(i<<6|bits.TrailingZeros64(both)))
			}
		}
	}
}

func (s *portSet) has(port uint16) bool { return s[port>>6]>>(port&63)&1 == 1 }

func (b *BusyPorts) of(proto uint8) *portSet {
	if i := flowmap.ClaimProto(proto); i < len(b.sets) {
		return &b.sets[i]
	}
	return &noPorts
}

// Pool is the ports that masquerade may use. It is made with a snapshot and does not
// change after that.
type Pool struct {
	ranges    [2][]PortRange     // without privileged ports, privileged ones only
	last      []PortRange        // the host's own, for single peers when there is nothing else
	published map[uint8]*portSet // by protocol, on any address: they are not used
}

// NewPool makes a pool of ranges, in the order in which they are used. last are the host's
// own, of which a flow has one for its peer alone when there is nothing else.
func NewPool(ranges, last []PortRange) *Pool {
	p := &Pool{published: make(map[uint8]*portSet), last: slices.Clone(last)}
	for _, r := range ranges {
		if r.First < firstUnprivileged {
			p.ranges[1] = append(p.ranges[1], PortRange{max(r.First, 1), min(r.Last, firstUnprivileged-1)})
			r.First = firstUnprivileged
		}
		if r.First <= r.Last {
			p.ranges[0] = append(p.ranges[0], r)
		}
	}
	return p
}

// Has reports whether a port is in one of the ranges, published or not.
func (p *Pool) Has(port uint16) bool {
	for _, list := range p.ranges {
		for _, r := range list {
			if r.First <= port && port <= r.Last {
				return true
			}
		}
	}
	return false
}

// Publish takes the ports from first to last of a protocol out of the pool.
func (p *Pool) Publish(proto uint8, first, last uint16) {
	if p.published[proto] == nil {
		p.published[proto] = new(portSet)
	}
	p.published[proto].add(first, last)
}

// Published reports whether a port is published on any address.
func (p *Pool) Published(proto uint8, port uint16) bool {
	return p.publishedOf(proto)[port>>6]&(1<<(port&63)) != 0
}

func (p *Pool) publishedOf(proto uint8) *portSet {
	if s := p.published[proto]; s != nil {
		return s
	}
	return &noPorts
}

// Equal reports whether two pools have the same ranges, whatever is published.
func (p *Pool) Equal(o *Pool) bool {
	return slices.Equal(p.ranges[0], o.ranges[0]) && slices.Equal(p.ranges[1], o.ranges[1]) && slices.Equal(p.last, o.last)
}

// icmpIDs are the query identifiers that masquerade may use: they are nobody's
// listening port, so nearly all.
var icmpIDs = []PortRange{{1024, 65535}}

const firstUnprivileged = 1024

// of returns the ranges for a port inside.
func (p *Pool) of(proto uint8, port uint16) []PortRange {
	switch {
	case flowmap.ClaimProto(proto) == 2:
		return icmpIDs
	case port < firstUnprivileged && len(p.ranges[1]) > 0:
		return p.ranges[1]
	}
	return p.ranges[0]
}

// NATPorts says how many ports of one host address masquerade has left for one
// protocol; of ICMP they are identifiers of queries.
type NATPorts struct {
	Used int // of live mappings, and of such that rest before they are another's
	Free int // a new mapping may take
}

// NATPortStats are the NATPorts of a host address.
type NATPortStats struct{ TCP, UDP, ICMP NATPorts }

// NATPorts counts the masquerade ports of a claim slot. It takes no lock that a
// worker waits for; the numbers are of about one moment.
func (t *Table) NATPorts(slot int, pool *Pool, busy *BusyPorts) NATPortStats {
	count := func(proto uint8) NATPorts { return t.nat.count(slot, proto, pool, busy) }
	return NATPortStats{TCP: count(header.ProtoTCP), UDP: count(header.ProtoUDP), ICMP: count(header.ProtoICMP)}
}

func (m *masquerade) count(slot int, proto uint8, pool *Pool, busy *BusyPorts) (n NATPorts) {
	var may portSet
	for _, port := range []uint16{0, firstUnprivileged} {
		for _, r := range pool.of(proto, port) {
			may.add(r.First, r.Last)
		}
	}
	claims, held, published := m.plane[flowmap.ClaimWord(slot, proto, 0):], busy.of(proto), pool.publishedOf(proto)
	for i := range may {
		claimed := atomic.LoadUint64(&claims[i])
		n.Used += bits.OnesCount64(claimed)
		n.Free += bits.OnesCount64(may[i] &^ (claimed | held[i] | published[i]))
	}
	return n
}
