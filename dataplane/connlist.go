package dataplane

// listKind is the list that a flow is in.
type listKind uint8

const (
	listNone     listKind = iota
	listHalfOpen          // only one side wants the flow
	listClosed            // neither does
	numLists
)

// list is where a flow of the state belongs.
func (st connState) list() listKind {
	switch {
	case st.halfOpen():
		return listHalfOpen
	case st.closed():
		return listClosed
	}
	return listNone
}

// connList links flows in the order in which they came into the list.
type connList struct {
	first, last uint32
	count       int
}

// relist moves a flow to the end of a list, or out of all.
func (t *conntrack) relist(r connRef, to listKind) {
	t.mu.Lock()
	t.relistLocked(uint32(r>>1), to)
	t.mu.Unlock()
}

func (t *conntrack) relistLocked(i uint32, to listKind) {
	c := t.conn(i)
	if from := &t.lists[c.listed]; c.listed != listNone {
		from.count--
		if c.prev != 0 {
			t.conn(c.prev).next = c.next
		} else {
			from.first = c.next
		}
		if c.next != 0 {
			t.conn(c.next).prev = c.prev
		} else {
			from.last = c.prev
		}
	}
	c.listed, c.prev, c.next = to, 0, 0
	if to == listNone {
		return
	}
	l := &t.lists[to]
	if c.prev = l.last; l.last != 0 {
		t.conn(l.last).next = i
	} else {
		l.first = i
	}
	l.last = i
	l.count++
}

// evict ends a flow if it still belongs in the list.
func (t *conntrack) evict(i uint32, from listKind, m *masquerade) bool {
	ok := t.remove(connRef(i)<<1, m, func(c *conn) bool { return connState(c.state.Load()).list() == from })
	if ok {
		t.gone.Add(1)
	}
	return ok
}

// portsBack is how many closed flows are given up at once when masquerade has
// no port left, and portsLookedAt among how many they are searched.
const (
	portsBack     = 16
	portsLookedAt = 1024
)

// closedOf finds the oldest closed flows that hold a mapping of the kind of e.
func (t *conntrack) closedOf(e endpoint, found []uint32) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.lists[listClosed].first
	for n := 0; i != 0 && n < portsLookedAt && len(found) < cap(found); n++ {
		c := t.conn(i)
		if c.kind != ConnPublish && c.slot == e.slot && c.orig.Proto == e.proto {
			found = append(found, i)
		}
		i = c.next
	}
	return found
}

// reclaim gives up some closed flows for the ports that they hold.
func (t *conntrack) reclaim(e endpoint, m *masquerade) bool {
	var room [portsBack]uint32
	any := false
	for _, i := range t.closedOf(e, room[:0]) {
		any = t.evict(i, listClosed, m) || any
	}
	return any
}
