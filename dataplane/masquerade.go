package dataplane

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
)

// BusyPorts are the ports of the host that its programs hold, which masquerade
// must not use.
type BusyPorts struct {
	words [2][1024]uint64 // TCP, UDP
}

// Set marks a port as held; other protocols than TCP and UDP have no ports.
func (b *BusyPorts) Set(proto uint8, port uint16) {
	if i := ClaimProto(proto); i < len(b.words) {
		b.words[i][port>>6] |= 1 << (port & 63)
	}
}

func (b *BusyPorts) word(proto uint8, i int) uint64 {
	if p := ClaimProto(proto); p < len(b.words) {
		return b.words[p][i]
	}
	return 0
}

// endpoint is the inside of a mapping: a container's address and port, and the
// host address it is mapped on.
type endpoint struct {
	addr  header.Addr
	port  uint16
	proto uint8
	slot  uint8
}

// masquerade hands out ports of the host's addresses. A mapping is endpoint
// independent (RFC 4787 REQ-1): every flow from one inside address and port
// leaves from one outside port, which no other endpoint shares (REQ-3), as long
// as one of the flows lives. The plane of claims is the map of ports in use.
//
// A port below 1024 inside gets one below 1024 outside, and another one above
// (REQ-3 a), if the ranges have ports below 1024 at all: usually they have not,
// because those are the host's own. Parity is not kept (RFC 7857 section 8).
//
// The port is a keyed hash of the endpoint, and a random one when that is taken
// (RFC 6056, 3.3.3): nobody outside can guess it, and a switch that lost its
// memory but not its key finds the same one again, so that flows go on.
type masquerade struct {
	keys  hashKeys
	plane ClaimPlane
	mu    sync.Mutex
	maps  map[endpoint]mapping
	// inside finds a mapping by its outside, for networks with FilterEIF only.
	inside map[uint32]endpoint
	rest   restingPorts
	full   atomic.Uint64 // flows that found no port
	below  *masquerade   // of an overlay, otherwise nil
	pulled map[endpoint]bool
}

type mapping struct {
	port uint16
	open bool   // in inside: strangers may come in
	refs uint32 // flows
}

func newMasquerade(plane ClaimPlane, key [16]byte) *masquerade {
	keys := newHashKeys()
	if key != ([16]byte{}) {
		a, b := binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])
		keys = hashKeys{a, b, mix(a^keySpread, b), mix(b^keySpread, a)}
	}
	return &masquerade{keys: keys, plane: plane, maps: make(map[endpoint]mapping), inside: make(map[uint32]endpoint)}
}

// keySpread makes four words of two: the fraction of the golden ratio.
const keySpread = 0x9E3779B97F4A7C15

// outside is the key of a port of a host's address.
func outside(slot, proto uint8, port uint16) uint32 {
	return uint32(slot)<<24 | uint32(proto)<<16 | uint32(port)
}

// icmpIDs are the query identifiers that masquerade may use: they are nobody's
// listening port, so nearly all.
var icmpIDs = []PortRange{{1024, 65535}}

// portClasses are the ranges that masquerade may use: without privileged ports,
// and privileged ones only.
type portClasses [2][]PortRange

const firstUnprivileged = 1024

func newPortClasses(ranges []PortRange) (c portClasses) {
	for _, r := range ranges {
		if r.First < firstUnprivileged {
			c[1] = append(c[1], PortRange{max(r.First, 1), min(r.Last, firstUnprivileged-1)})
			r.First = firstUnprivileged
		}
		if r.First <= r.Last {
			c[0] = append(c[0], r)
		}
	}
	return c
}

// of returns the ranges for a port inside.
func (c *portClasses) of(proto uint8, port uint16) []PortRange {
	switch {
	case ClaimProto(proto) == 2:
		return icmpIDs
	case port < firstUnprivileged && len(c[1]) > 0:
		return c[1]
	}
	return c[0]
}

// acquire returns the outside port of an endpoint, a new one when it has none;
// false when no port is free. open lets strangers in. Each call is undone by
// one release.
func (m *masquerade) acquire(e endpoint, open bool, s *Snapshot, busy *BusyPorts, rng *mrand.Rand) (uint16, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.below != nil {
		m.pull(e)
	}
	if got, ok := m.maps[e]; ok {
		got.refs++
		m.maps[e] = got
		return got.port, true
	}
	ranges := s.masqPort.of(e.proto, e.port)
	p, ok := m.ownLocked(e, ranges, s, busy)
	for i := 0; !ok && i < len(ranges); i++ {
		p, ok = m.findLocked(e, ranges[i], s, busy, rng)
	}
	if !ok {
		m.full.Add(1)
		return 0, false
	}
	m.plane.Set(int(e.slot), e.proto, p)
	open = open && ClaimProto(e.proto) < 2
	m.maps[e] = mapping{port: p, refs: 1, open: open}
	if open {
		m.inside[outside(e.slot, e.proto, p)] = e
	}
	return p, true
}

// ownLocked returns the endpoint's own port of all the ranges, if it is free.
func (m *masquerade) ownLocked(e endpoint, ranges []PortRange, s *Snapshot, busy *BusyPorts) (uint16, bool) {
	total := uint32(0)
	for _, r := range ranges {
		total += uint32(r.Last-r.First) + 1
	}
	if total == 0 {
		return 0, false
	}
	n := m.keys.tuple(&header.Tuple{Src: e.addr, SrcPort: e.port, DstPort: uint16(e.slot), Proto: e.proto}) % total
	var p uint16
	for _, r := range ranges {
		if size := uint32(r.Last-r.First) + 1; n >= size {
			n -= size
			continue
		}
		p = r.First + uint16(n)
		break
	}
	free := m.freeLocked(e, int(p>>6), busy)&(1<<(p&63)) != 0
	return p, free && !s.publish.holds(e.proto, p)
}

// findLocked looks for a free port of a range from a random one on, 64 ports at
// a glance.
func (m *masquerade) findLocked(e endpoint, r PortRange, s *Snapshot, busy *BusyPorts, rng *mrand.Rand) (uint16, bool) {
	first, last := int(r.First>>6), int(r.Last>>6)
	words := last - first + 1
	from := int(r.First) + rng.IntN(int(r.Last-r.First)+1)
	start, turn := from>>6-first, from&63
	for n := range words {
		i := first + (start+n)%words
		free := m.freeLocked(e, i, busy)
		if i == first {
			free &= ^uint64(0) << (r.First & 63)
		}
		if i == last {
			free &= ^uint64(0) >> (63 - r.Last&63)
		}
		for free != 0 {
			// The first free bit from the random one on.
			bit := (bits.TrailingZeros64(bits.RotateLeft64(free, -turn)) + turn) & 63
			p := uint16(i<<6 | bit)
			if !s.publish.holds(e.proto, p) {
				return p, true
			}
			free &^= 1 << bit
		}
	}
	return 0, false
}

// freeLocked are the ports of the i-th 64 that nobody holds.
func (m *masquerade) freeLocked(e endpoint, i int, busy *BusyPorts) uint64 {
	return ^(m.plane[ClaimWord(int(e.slot), e.proto, 0)+i] | busy.word(e.proto, i))
}

// hold adds a flow to a mapping that is there already.
func (m *masquerade) hold(e endpoint, port uint16) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.below != nil {
		m.pull(e)
	}
	got, ok := m.maps[e]
	if !ok || got.port != port {
		return false
	}
	got.refs++
	m.maps[e] = got
	return true
}

// opened finds the inside of a mapping that lets strangers in.
func (m *masquerade) opened(slot, proto uint8, port uint16) (endpoint, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.below != nil {
		m.pullOpened(slot, proto, port)
	}
	e, ok := m.inside[outside(slot, proto, port)]
	return e, ok
}

// release ends one use of a mapping. A UDP port that was open to strangers rests
// before it is another's: they do not know that it changed hands. With
// filtering by address and port they are held back anyhow, and TCP flows are
// tracked to their end (RFC 6888 REQ-8 a, c).
func (m *masquerade) release(e endpoint, port uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.below != nil {
		m.pull(e)
	}
	got := m.maps[e]
	if got.refs--; got.refs > 0 {
		m.maps[e] = got
		return
	}
	delete(m.maps, e)
	if got.open {
		delete(m.inside, outside(e.slot, e.proto, port))
		if e.proto == header.ProtoUDP {
			m.rest.add(e.slot, e.proto, port)
			return
		}
	}
	m.plane.Clear(int(e.slot), e.proto, port)
}

// restTime is how long a port rests (RFC 6888 REQ-8). A switch that has begun
// less than that ago does not know which ports it should let rest; so long it
// lets no strangers in.
const restTime = int64(120 * time.Second)

// restingPorts are ports that are claimed but nobody's, in the order of their
// end. The clock is that of the last sweep: a port rests a tick longer at most.
type restingPorts struct {
	ports []restingPort
	now   int64
}

type restingPort struct {
	until int64
	key   uint32
}

func (r *restingPorts) add(slot, proto uint8, port uint16) {
	r.ports = append(r.ports, restingPort{r.now + restTime, outside(slot, proto, port)})
}

// awake gives the ports back that have rested.
func (m *masquerade) awake(now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := &m.rest
	r.now = now
	n := 0
	for ; n < len(r.ports) && r.ports[n].until <= now; n++ {
		k := r.ports[n].key
		m.plane.Clear(int(k>>24), uint8(k>>16), uint16(k))
	}
	r.ports = slices.Delete(r.ports, 0, n)
}

// seed comes from the system: port choice must not be predictable.
func seed() (b [32]byte) {
	if _, err := rand.Read(b[:]); err != nil {
		panic(fmt.Sprintf("no randomness: %v", err)) // never: crypto/rand aborts itself
	}
	return b
}
