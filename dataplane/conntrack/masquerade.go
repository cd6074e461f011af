package conntrack

import (
	"encoding/binary"
	"math/bits"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

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
// as one of the flows lives. A plane of bits is the map of ports in use.
//
// A port below 1024 inside gets one below 1024 outside, and another one above
// (REQ-3 a), if the ranges have ports below 1024 at all. Parity is not kept
// (RFC 7857 section 8).
//
// A port that lies in the ranges stays as it is while nobody has it. Otherwise it
// is a keyed hash of the endpoint, and a random one when that is taken
// (RFC 6056, 3.3.3): nobody outside can guess it, and a switch that lost its
// memory but not its key finds the same one again, so that flows go on.
type masquerade struct {
	keys   Keys
	plane  flowmap.ClaimPlane
	claims flowmap.ClaimPlane // of ports that are open to strangers; nil: nobody reads them
	mu     sync.Mutex
	maps   map[endpoint]mapping
	// inside finds a mapping by its outside, for networks with FilterEIF only.
	inside map[uint32]endpoint
	rest   restingPorts
	full   atomic.Uint64 // flows that found no port
	pools  [flowmap.ClaimSlots][flowmap.ClaimProtos]*portPool
	lent   map[uint32]int // flows that have a port for one peer, by its outside
	below  *masquerade    // of a dry run, otherwise nil
	pulled map[endpoint]bool
}

type mapping struct {
	port   uint16
	tenant uint16 // whose it is, see portTenant
	open   bool   // in inside: strangers may come in
	alone  bool   // it has had one flow only
	refs   uint32 // flows
}

func newMasquerade(plane, opened flowmap.ClaimPlane, key [16]byte) *masquerade {
	keys := NewKeys()
	if key != ([16]byte{}) {
		a, b := binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])
		keys = Keys{a, b, mix(a^keySpread, b), mix(b^keySpread, a)}
	}
	return &masquerade{keys: keys, plane: plane, claims: opened, maps: make(map[endpoint]mapping), inside: make(map[uint32]endpoint), lent: make(map[uint32]int)}
}

// keySpread makes four words of two: the fraction of the golden ratio.
const keySpread = 0x9E3779B97F4A7C15

// outside is the key of a port of a host's address.
func outside(slot, proto uint8, port uint16) uint32 {
	return uint32(slot)<<24 | uint32(proto)<<16 | uint32(port)
}

// Opened finds the inside of a mapping on a slot's host address that lets strangers in.
func (t *Table) Opened(slot, proto uint8, port uint16) (inside header.Addr, to uint16, ok bool) {
	e, ok := t.nat.opened(slot, proto, port)
	return e.addr, e.port, ok
}

// IsGiven reports whether a port of a slot's host address is somebody's, or rests.
func (t *Table) IsGiven(slot int, proto uint8, port uint16) bool {
	return t.nat.plane.Test(slot, proto, port)
}

// IsMapped reports whether the source of a packet has a mapping on a slot's host address.
func (t *Table) IsMapped(in *header.Tuple, slot int) bool {
	m, e := t.nat, endpoint{addr: in.Src, port: in.SrcPort, proto: in.Proto, slot: uint8(slot)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.below != nil {
		m.pull(e)
	}
	_, ok := m.maps[e]
	return ok
}

// acquire returns the outside port of an endpoint, see AcquirePort. Each call is
// undone by one release.
func (m *masquerade) acquire(e endpoint, who int, open bool, pool *Pool, busy *BusyPorts, rng *mrand.Rand) (uint16, natHold) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.below != nil {
		m.pull(e)
	}
	got, ok := m.maps[e]
	if ok {
		got.refs, got.alone = got.refs+1, false
		m.maps[e] = got
		return got.port, got.hold()
	}
	ranges, taken := pool.of(e.proto, e.port), m.takenLocked(e, pool, busy)
	p, ok := m.ownLocked(e, ranges, &taken)
	for i := 0; !ok && i < len(ranges); i++ {
		p, ok = findPort(ranges[i], &taken, rng)
	}
	if !ok {
		return 0, natNone
	}
	got = mapping{port: p, tenant: uint16(who), refs: 1, alone: true, open: open && flowmap.ClaimProto(e.proto) < 2}
	m.enterLocked(e, got)
	return p, got.hold()
}

// hold is what its flows hold.
func (m mapping) hold() natHold {
	if m.open {
		return natOpens
	}
	return natHolds
}

// enterLocked makes a mapping that is new.
func (m *masquerade) enterLocked(e endpoint, got mapping) {
	m.maps[e] = got
	m.plane.Set(int(e.slot), e.proto, got.port)
	p := m.pool(e.slot, e.proto)
	p.tenants.Weigh(int(got.tenant), 1)
	if !got.open {
		p.mapped.add(got.port, got.port)
		return
	}
	m.inside[outside(e.slot, e.proto, got.port)] = e
	if m.claims != nil {
		m.claims.Set(int(e.slot), e.proto, got.port)
	}
}

// ownLocked returns the endpoint's own port of all the ranges, if it is free: the one
// that it has inside, or that its hash chooses.
func (m *masquerade) ownLocked(e endpoint, ranges []PortRange, taken *takenPorts) (uint16, bool) {
	total := uint32(0)
	for _, r := range ranges {
		if r.First <= e.port && e.port <= r.Last && taken.isFree(e.port) {
			return e.port, true
		}
		total += uint32(r.Last-r.First) + 1
	}
	if total == 0 {
		return 0, false
	}
	n := m.keys.Tuple(&header.Tuple{Src: e.addr, SrcPort: e.port, DstPort: uint16(e.slot), Proto: e.proto}) % total
	var p uint16
	for _, r := range ranges {
		if size := uint32(r.Last-r.First) + 1; n >= size {
			n -= size
			continue
		}
		p = r.First + uint16(n)
		break
	}
	return p, taken.isFree(p)
}

// findPort looks for a free port of a range from a random one on, 64 ports at
// a glance.
func findPort(r PortRange, taken *takenPorts, rng *mrand.Rand) (uint16, bool) {
	first, last := int(r.First>>6), int(r.Last>>6)
	words := last - first + 1
	from := int(r.First) + rng.IntN(int(r.Last-r.First)+1)
	start, turn := from>>6-first, from&63
	for n := range words {
		i := first + (start+n)%words
		free := taken.free(i)
		if i == first {
			free &= ^uint64(0) << (r.First & 63)
		}
		if i == last {
			free &= ^uint64(0) >> (63 - r.Last&63)
		}
		if free != 0 { // the first free bit from the random one on
			return uint16(i<<6 | (bits.TrailingZeros64(bits.RotateLeft64(free, -turn))+turn)&63), true
		}
	}
	return 0, false
}

// takenPorts say who has the ports of one host address and protocol.
type takenPorts struct {
	claimed         []uint64 // 1024 words
	busy, published *portSet
}

func (m *masquerade) takenLocked(e endpoint, pool *Pool, busy *BusyPorts) takenPorts {
	return takenPorts{m.plane[flowmap.ClaimWord(int(e.slot), e.proto, 0):], busy.of(e.proto), pool.publishedOf(e.proto)}
}

// free are the ports of the i-th 64 that nobody has.
func (t *takenPorts) free(i int) uint64 { return ^(t.claimed[i] | t.busy[i] | t.published[i]) }

func (t *takenPorts) isFree(p uint16) bool { return t.free(int(p>>6))&(1<<(p&63)) != 0 }

// join adds a flow to a mapping that is there already.
func (m *masquerade) join(e endpoint, port uint16) natHold {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.below != nil {
		m.pull(e)
	}
	got, ok := m.maps[e]
	if !ok || got.port != port {
		return natNone
	}
	got.refs, got.alone = got.refs+1, false
	m.maps[e] = got
	return got.hold()
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
// tracked to their end (RFC 6888 REQ-8 a, c). It does not rest when its only flow gives it
// in need and was never answered: nobody has learned it.
func (m *masquerade) release(e endpoint, port uint16, atOnce bool) {
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
	p := m.pool(e.slot, e.proto)
	p.mapped.remove(port)
	p.tenants.Weigh(int(got.tenant), -1)
	if got.rests(e.proto) && !(atOnce && got.alone) {
		m.closeLocked(e, port)
		m.rest.add(e.slot, e.proto, port, got.tenant)
		p.resting[got.tenant]++
		return
	}
	if p.lent.has(port) {
		return // the last of those that share it gives it back
	}
	if got.open {
		m.closeLocked(e, port)
	}
	m.plane.Clear(int(e.slot), e.proto, port)
}

// close leaves a port that strangers came in by to its flows.
func (m *masquerade) close(slot, proto uint8, port uint16) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.inside[outside(slot, proto, port)]
	if !ok {
		return
	}
	got := m.maps[e]
	got.open = false
	m.maps[e] = got
	m.closeLocked(e, port)
	m.pool(slot, proto).mapped.add(port, port)
}

// closeLocked lets no stranger in by a port any more.
func (m *masquerade) closeLocked(e endpoint, port uint16) {
	delete(m.inside, outside(e.slot, e.proto, port))
	if m.claims != nil {
		m.claims.Clear(int(e.slot), e.proto, port)
	}
}

// rests reports whether the port of a mapping rests when nobody holds it any more.
func (m mapping) rests(proto uint8) bool { return m.open && proto == header.ProtoUDP }

// RestTime is how long a port rests (RFC 6888 REQ-8). A switch that has begun
// less than that ago does not know which ports it should let rest; so long it
// lets no strangers in.
const RestTime = int64(120 * time.Second)

// restingPorts are ports that are claimed but nobody's, in the order of their
// end. The clock is that of the last sweep: a port rests a tick longer at most.
type restingPorts struct {
	ports []restingPort
	now   int64
}

type restingPort struct {
	until  int64
	key    uint32
	tenant uint16 // whose it was, and still counts as; noTenant: nobody's, or that is not known
}

const noTenant = ^uint16(0)

func (r *restingPorts) add(slot, proto uint8, port, tenant uint16) {
	r.ports = append(r.ports, restingPort{r.now + RestTime, outside(slot, proto, port), tenant})
}

// rests reports whether a port rests.
func (m *masquerade) rests(slot, proto uint8, port uint16) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := outside(slot, proto, port)
	return slices.ContainsFunc(m.rest.ports, func(r restingPort) bool { return r.key == k })
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
		if h := r.ports[n].tenant; h != noTenant {
			m.pool(uint8(k>>24), uint8(k>>16)).resting[h]--
		}
	}
	r.ports = slices.Delete(r.ports, 0, n)
}
