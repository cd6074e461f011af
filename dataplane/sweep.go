package dataplane

// sweepWhole is the size up to which every sweep looks at the whole table;
// above it, at an eighth.
const (
	sweepWhole = 50_000
	sweepParts = 8
)

// sweep removes the flows that were idle for too long. It goes through the
// conns in the order of memory and holds no lock while it looks.
func (t *conntrack) sweep(now int64, limits *timeouts, m *masquerade) {
	tight := *limits
	if t.len()*100 > t.max*tightAt {
		tight.of[stateInit] = min(tight.of[stateInit], openingUnderPressure)
	}
	t.sweeping.Lock()
	defer t.sweeping.Unlock()
	t.ticks++
	part, parts := uint32(t.ticks%sweepParts), uint32(sweepParts)
	made := t.madeNow()
	if made <= sweepWhole {
		part, parts = 0, 1
	}
	dead := func(c *conn) bool { return now >= c.expires(&tight) }
	for i := made*part/parts + 1; i <= made*(part+1)/parts; i++ {
		c := t.conn(i)
		switch {
		case c.state.Load() == uint32(stateFree):
		case dead(c):
			t.remove(connRef(i)<<1, m, dead)
		default:
			c.meter.note(now, c.created.Load(), c.bytes[0].Load()+c.bytes[1].Load())
		}
	}
}

// madeNow is the highest number of a conn.
func (t *conntrack) madeNow() uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.made
}

// halfOpen is how many flows only one side wants.
func (t *conntrack) halfOpen() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lists[listHalfOpen].count
}

// each calls f for every flow, under the lock of its first tuple's shard.
func (t *conntrack) each(f func(connRef, *conn)) {
	for i := range t.shards {
		t.eachOf(i, f)
	}
}

func (t *conntrack) eachOf(shard int, f func(connRef, *conn)) {
	sh := &t.shards[shard]
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	for r := range sh.index.all {
		if r&1 == 0 {
			f(r, t.at(r))
		}
	}
}

// Conns lists the tracked flows in no particular order.
func (s *Switch) Conns() []ConnInfo {
	list := make([]ConnInfo, 0, s.conntrack.len())
	s.EachConn(func(i *ConnInfo) { list = append(list, *i) })
	return list
}

// EachConn calls fn for each tracked flow. Workers wait for the copy of a shard's
// flows at most: no lock is held while fn runs. What the pointer leads to is valid
// until fn returns.
func (s *Switch) EachConn(fn func(*ConnInfo)) {
	now, limits := s.cfg.Now(), &s.snapshot.Load().timeouts
	var part []ConnInfo
	for shard := range s.conntrack.shards {
		part = part[:0]
		s.conntrack.eachOf(shard, func(_ connRef, c *conn) { part = append(part, c.info(now, limits)) })
		for i := range part {
			fn(&part[i])
		}
	}
}

// FlushConns forgets the flows that match and returns how many. match is called
// with locks held and calls no method of the switch.
func (s *Switch) FlushConns(match func(ConnInfo) bool) int {
	now, limits := s.cfg.Now(), &s.snapshot.Load().timeouts
	matches := func(c *conn) bool { return match(c.info(now, limits)) }
	s.flows.flush(s, func(r *flowRow) bool { return r.routed })
	var found []connRef
	s.conntrack.each(func(r connRef, c *conn) {
		if matches(c) {
			found = append(found, r)
		}
	})
	n := 0
	for _, r := range found {
		if s.conntrack.remove(r, s.masq, matches) {
			n++
		}
	}
	return n
}
