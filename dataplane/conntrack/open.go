package conntrack

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"unsafe"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/pages"
	"github.com/vswitch/vswitch/dataplane/share"
)

// memoryHeader begins the memory of a table, in the place of conn 0.
type memoryHeader struct {
	layout uint64 // layoutNow; 0: nobody has used the memory
	max    uint32
	made   uint32 // conns handed out at least once; guarded by Table.mu
}

// layoutNow names the layout of a Conn. It changes with every change of one that another
// version of the program would misread.
const layoutNow = 5<<32 | uint64(unsafe.Sizeof(Conn{}))

// paddedMutex has a cache line of its own.
type paddedMutex struct {
	sync.Mutex
	_ [56]byte
}

// MemorySize is the length of the memory for so many flows.
func MemorySize(flows int) int { return (flows + 1) * int(unsafe.Sizeof(Conn{})) }

// New makes an empty table in memory of its own.
func New(clock func() int64, cfg Config) *Table {
	t := new(Table)
	size := MemorySize(cfg.Max)
	memory := pages.Take[byte](pages.New(t, size), size)
	if err := t.open(memory, NewKeys(), clock, cfg); err != nil {
		panic(err) // fresh memory of the right size
	}
	return t
}

// Open makes a table of memory, MemorySize(cfg.Max) long and aligned to 8 bytes. Zeros are
// an empty table. Memory that another table has used, which is not used any more, is taken
// over with its flows and mappings where it lies: it had the same keys, and clock
// goes on from its clock, in monotonic ns. The memory is the table's until nobody uses it.
// An error says that the memory is not of such a table, or the keys are others; nothing was changed.
func Open(memory []byte, keys Keys, clock func() int64, cfg Config) (*Table, error) {
	t := new(Table)
	if err := t.open(memory, keys, clock, cfg); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *Table) open(memory []byte, keys Keys, clock func() int64, cfg Config) error {
	if len(memory) < MemorySize(cfg.Max) || uintptr(unsafe.Pointer(&memory[0]))%8 != 0 {
		return fmt.Errorf("conntrack: %d bytes of memory: want %d, aligned to 8", len(memory), MemorySize(cfg.Max))
	}
	t.keys, t.max, t.rows, t.nat = keys, cfg.Max, cfg.Rows, newMasquerade(cfg.Ports, cfg.Opened, cfg.PortKey)
	t.peers.maps, t.peers.now, t.Ended.now, t.Begun.now = cfg.Peers, clock, clock, clock
	t.shares = newShares(t)
	t.conns = unsafe.Slice((*Conn)(unsafe.Pointer(&memory[0])), cfg.Max+1)
	t.header = (*memoryHeader)(unsafe.Pointer(&memory[0]))
	t.indexMem = pages.New(t, indexBytes(cfg.Max))
	switch h := t.header; {
	case h.layout == 0:
		*h = memoryHeader{layout: layoutNow, max: uint32(cfg.Max)}
		return nil
	case h.layout != layoutNow:
		return fmt.Errorf("conntrack: memory of layout %#x: want %#x", h.layout, layoutNow)
	case int(h.max) != cfg.Max || h.made > h.max:
		return fmt.Errorf("conntrack: memory of a table of %d flows: want %d", h.max, cfg.Max)
	}
	return t.adopt(clock())
}

// adopt makes of the conns what else a table has: index, lists, counts and mappings. The
// rows of the flow table are entered anew.
func (t *Table) adopt(now int64) error {
	var live []uint32
	made := t.header.made
	for i := uint32(1); i <= made; i++ {
		c := t.conn(i)
		if c.st() != stateFree && (c.hash[0].Load() != t.keys.Tuple(&c.Orig) || c.hash[1].Load() != t.keys.Tuple(&c.Reply)) {
			return fmt.Errorf("conntrack: flow %d of the memory is not of these keys", i)
		}
	}
	for i := made; i > 0; i-- {
		c, r := t.conn(i), Ref(i)<<1
		c.link, c.listed = share.Link{}, 0
		st := c.st()
		if st == stateFree {
			t.freeLocked(i)
			continue
		}
		for d := range c.hash {
			h := c.hash[d].Load()
			t.shard(h).index.put(t.indexMem, h, r|Ref(d))
			c.rows[d].Store(0)
		}
		c.Revision.Store(0) // the numbers of what allows are a process's own
		t.length[connProto(c.Orig.Proto)].Add(1)
		if !st.closed() {
			t.charge(c, true)
		}
		t.adoptPort(c)
		if c.claims() {
			_ = t.peers.claim(c.peer(), c.Tenant) // whoever wrote the memory has done so before
		}
		live = append(live, i)
	}
	// The order in which they came into their classes is nearly this.
	slices.SortFunc(live, func(a, b uint32) int {
		return cmp.Compare(t.conn(a).lastSeen.Load(), t.conn(b).lastSeen.Load())
	})
	for _, i := range live {
		t.enterLocked(i)
	}
	t.nat.restOthers(now)
	return nil
}

// lock is what serialises the transitions of a conn and guards its windows. It is the
// process's own, and that of other conns too: no two are held at once.
func (t *Table) lock(c *Conn) *paddedMutex {
	i := (uintptr(unsafe.Pointer(c)) - uintptr(unsafe.Pointer(&t.conns[0]))) / unsafe.Sizeof(Conn{})
	return &t.locks[i%connLocks]
}

// adopt enters the mapping of a flow that is there already.
func (m *masquerade) adopt(e endpoint, who int, port uint16, open bool) {
	got, ok := m.maps[e]
	switch open = open && flowmap.ClaimProto(e.proto) < 2; {
	case !ok:
		m.enterLocked(e, mapping{port: port, tenant: uint16(who), refs: 1, open: open})
		return
	case open && !got.open:
		m.enterLocked(e, mapping{port: port, tenant: got.tenant, open: true})
		p := m.pool(e.slot, e.proto)
		p.tenants.Weigh(int(got.tenant), -1)
		p.mapped.remove(port)
		got.open = true
	}
	got.refs++
	m.maps[e] = got
}

// restOthers lets the ports rest that the plane has claimed for nobody: whether they rested
// already is not known.
func (m *masquerade) restOthers(now int64) {
	held := make(map[uint32]bool, len(m.maps))
	for e, got := range m.maps {
		held[planeOf(e.slot, e.proto)|uint32(got.port)] = true
	}
	for k := range m.lent {
		held[planeOf(uint8(k>>24), uint8(k>>16))|k&0xffff] = true
	}
	m.rest.now = now
	for slot := range uint8(flowmap.ClaimSlots) {
		for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP, header.ProtoICMP} {
			for port := range 1 << 16 {
				if p := uint16(port); m.plane.Test(int(slot), proto, p) && !held[planeOf(slot, proto)|uint32(p)] {
					m.rest.add(slot, proto, p, noTenant)
				}
			}
		}
	}
}

// planeOf is the key of a slot's ports of a protocol, ICMP and ICMPv6 as one.
func planeOf(slot, proto uint8) uint32 {
	return uint32(slot)<<24 | uint32(flowmap.ClaimProto(proto))<<16
}
