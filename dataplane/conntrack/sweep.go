package conntrack

// sweepWhole is the size up to which every sweep looks at the whole table;
// above it, at an eighth.
const (
	sweepWhole = 50_000
	sweepParts = 8
)

// Sweep removes the flows that were idle for too long. It goes through the
// conns in the order of memory and holds no lock while it looks.
func (t *Table) Sweep(now int64, limits *Limits) {
	defer t.peers.settle()
	t.nat.awake(now)
	tight := t.tight(limits)
	t.sweeping.Lock()
	defer t.sweeping.Unlock()
	t.ticks++
	part, parts := uint32(t.ticks%sweepParts), uint32(sweepParts)
	made := t.madeNow()
	if made <= sweepWhole {
		part, parts = 0, 1
	}
	over := func(c *Conn) bool { return now >= c.expires(&tight) }
	dead := func(c *Conn) bool { return over(c) && (!c.use(t) || over(c)) }
	for i := made*part/parts + 1; i <= made*(part+1)/parts; i++ {
		c := t.conn(i)
		switch {
		case c.state.Load() == uint32(stateFree):
		case dead(c):
			t.Remove(Ref(i)<<1, dead)
		case c.st().closed():
			if c.state.Load()&told == 0 {
				t.tellClosed(i, now)
			}
		default:
			c.meter.Note(now, c.created.Load(), c.bytes[0].Load()+c.bytes[1].Load())
		}
	}
}

// madeNow is the highest number of a conn.
func (t *Table) madeNow() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.header.made
}

// Read fills page with the flows from a place on and returns how many they are, and the
// place of the next page: 0 when there is none. Place 0 is the first. A flow that lives
// from the first page to the last is told once. Each is read under the lock of its shard,
// which is held for no other. An empty page is the last.
func (t *Table) Read(page []Info, place uint32, now int64, limits *Limits) (n int, next uint32) {
	if len(page) == 0 {
		return 0, 0
	}
	made, tight := t.madeNow(), t.tight(limits)
	for i := max(place, 1); i <= made; i++ {
		if n == len(page) {
			return n, i
		}
		t.live(i, func(c *Conn) {
			t.catchUp(c, Ref(i)<<1, now)
			page[n] = c.info(now, &tight)
			n++
		})
	}
	return n, 0
}

// Flush removes the flows of a selector and returns how many.
func (t *Table) Flush(which *Selector) (n int) {
	defer t.peers.settle()
	for i := range t.madeNow() {
		found := false
		t.live(i+1, func(c *Conn) { found = which.has(c) })
		if found && t.Remove(Ref(i+1)<<1, which.has) {
			n++
		}
	}
	return n
}

// live calls f for a conn, under the lock of its first tuple's shard, if it is a flow's.
func (t *Table) live(i uint32, f func(*Conn)) {
	c := t.conn(i)
	if c.state.Load() == uint32(stateFree) {
		return
	}
	h := c.hash[0].Load()
	sh := t.shard(h)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	// It may have been given to another flow, whose shard is another, before the lock.
	if c.state.Load() != uint32(stateFree) && c.hash[0].Load() == h {
		f(c)
	}
}

// Stats say how full the table is.
type Stats struct {
	TCP, UDP, ICMP, Other int // flows
	Max                   int
}

// Stats counts the flows.
func (t *Table) Stats() Stats {
	n := func(proto int) int { return int(t.length[proto].Load()) }
	return Stats{TCP: n(connTCP), UDP: n(connUDP), ICMP: n(connICMP), Other: n(connOther), Max: t.max}
}

// Pressure counts what the limits of the table cost.
type Pressure struct {
	TableFull      uint64 // flows refused: the table is full, and their tenants have no more than others
	Evicted        uint64 // flows that made room for new ones
	PortsExhausted uint64 // flows refused: no masquerade port is free
}

// Pressure is what was refused since the table was made.
func (t *Table) Pressure() Pressure {
	return Pressure{TableFull: t.full.Load(), Evicted: t.gone.Load(), PortsExhausted: t.nat.full.Load()}
}
