package conntrack

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/share"
)

// Tenant is whom a flow is counted on: a container, and whether the container began it or others
// did with it. A flood from outside at a published port takes nothing of what the container
// itself may begin.
type Tenant uint16

// Began is the tenant of the flows that a container began, by the port that it is counted on.
func Began(container frame.PortID) Tenant { return Tenant(container) << 1 }

// Received is the tenant of the flows that others began with a container.
func Received(container frame.PortID) Tenant { return Tenant(container)<<1 | 1 }

// Nobody holds what is no container's.
const Nobody = Tenant(flowmap.MaxPorts << 1)

const numTenants = int(Nobody) + 1

// began reports whether the tenant's container began its flows, which then count on its quota.
func (h Tenant) began() bool { return h&1 == 0 && h != Nobody }

// container is the port that the tenant is counted on, frame.NoPort for Nobody.
func (h Tenant) container() frame.PortID {
	if h == Nobody {
		return frame.NoPort
	}
	return frame.PortID(h >> 1)
}

// class is how much a flow is worth to its tenant, in the order in which flows give.
type class uint8

const (
	classClosed    class = iota // its ends have given it up
	classHalfOpen               // only one side wants it
	classUnassured              // both do, but its beginner has not shown that it hears the answers
	classAssured                // it has

	numClasses
)

// classKeeps is the part of its flows that a tenant keeps of the half-open and of the
// unassured ones when it has better ones: a handshake takes its time.
const classKeeps = 16

// ownIdle is how long an assured flow must have been idle to give to a new one of its own
// tenant, ns. To one of another tenant it gives at once.
const ownIdle = int64(30 * time.Second)

// assured is the bit of Conn.state that says that the beginner has shown that it hears the
// answers: of TCP by an ACK of the SYN with ACK, of the others by a packet assuredAfter the
// first answer. Somebody who spoofs the address does not know the number, and rarely has
// the patience. Both prove little, so they protect a flow against other tenants only.
const assured = uint32(1) << 31

// Conn.proof is of TCP the number that the beginner has to acknowledge, once the flow is
// established, and before that loosely when it was picked up in the middle, looselyBack when that
// was by a reply, or the time when it was reopened, in units; of the others it is the time of the
// first answer.
const (
	loosely     = 1
	looselyBack = 2
)

// loose reports whether an opening TCP flow was picked up in the middle.
func (c *Conn) loose() bool { p := c.proof.Load(); return p == loosely || p == looselyBack }

// unitShift makes ns units of a millisecond or so, which wrap after 52 days.
const unitShift = 20

// peered is the bit of Conn.state of a stranger's flow whose peer is claimed.
const peered = uint32(1) << 30

// told is the bit of Conn.state of a closed flow whose end was told: it is there for late packets only.
const told = uint32(1) << 29

const stateFlags = assured | peered | told

const assuredAfter = uint32(2 * time.Second >> unitShift)

func units(now int64) uint32 { return uint32(now >> unitShift) }

// st is the flow's state.
func (c *Conn) st() connState { return connState(c.state.Load() &^ stateFlags) }

// class is that of the flow as it is now.
func (c *Conn) class() class { return classOf(c.state.Load()) }

// Heard reports whether both sides want the flow.
func (c *Conn) Heard() bool { return c.class() >= classUnassured }

// Assured reports whether the flow's beginner has shown that it hears the answers.
func (c *Conn) Assured() bool { return c.class() == classAssured }

// classOf is the class of a value of Conn.state.
func classOf(v uint32) class {
	switch st := connState(v &^ stateFlags); {
	case st.closed():
		return classClosed
	case st.halfOpen(), st.reopens():
		return classHalfOpen
	case v&assured != 0:
		return classAssured
	}
	return classUnassured
}

// prove notes a packet of the beginner at a time, of a flow that is no TCP.
func (c *Conn) prove(t *Table, r Ref, now int64) {
	if c.class() == classUnassured && units(now)-c.proof.Load() >= assuredAfter {
		c.assure(t, r)
	}
}

// proveTCP looks at what the beginner has acknowledged. It needs Table.lock.
func (c *Conn) proveTCP(t *Table, r Ref) {
	if s := &c.win[0]; c.class() == classUnassured && s.acked && !after(c.proof.Load(), s.maxAck) {
		c.claimStranger(t)
		c.assure(t, r)
	}
}

func (c *Conn) assure(t *Table, r Ref) {
	c.state.Or(assured)
	if h := c.half(t.rows, 0); h != nil {
		atomic.StoreUint32(&h.Doubt, 0)
	}
	c.noteState(t)
	t.reclass(r)
}

// connEntries are the flows as their shares see them.
type connEntries Table

func (e *connEntries) Link(i uint32) *share.Link { return &e.conns[i].link }

// Seen is when a flow had its last packet: now, if the kernel carried any since they were
// counted last.
func (e *connEntries) Seen(i uint32) uint32 {
	c := &e.conns[i]
	c.use((*Table)(e))
	return units(c.lastSeen.Load())
}

// use notes that the kernel has carried packets of a flow since they were counted last.
func (c *Conn) use(t *Table) (used bool) {
	for dir := range c.rows {
		n := c.rows[dir].Load()
		if n == 0 {
			continue
		}
		if m := &t.rows[n-1]; atomic.LoadUint64(&m.Packets) != atomic.LoadUint64(&m.Counted.Packets) {
			used = true
			c.seen(dir == 1, t.Ended.now())
		}
	}
	return used
}

// seen notes a packet of a direction at a time.
func (c *Conn) seen(reply bool, now int64) {
	c.lastSeen.Store(now)
	if c.Outbound(reply) {
		c.lastOut.Store(units(now))
	}
}

func newShares(t *Table) *share.Table {
	return share.New((*connEntries)(t), numTenants, 0, classKeeps, classKeeps, 0)
}

// reclass puts a flow into the class that it has now.
func (t *Table) reclass(r Ref) {
	i := uint32(r >> 1)
	c := t.conn(i)
	t.mu.Lock()
	defer t.mu.Unlock()
	if to := uint8(c.class() + 1); c.listed != 0 && to != c.listed {
		t.shares.Move(i, int(c.Tenant), int(c.listed-1), int(to-1))
		t.classes[c.listed-1]--
		t.classes[to-1]++
		c.listed = to
	}
}

// enterLocked gives a flow to its tenant, leaveLocked takes it away.
func (t *Table) enterLocked(i uint32) {
	c := t.conn(i)
	of := c.class()
	c.listed = uint8(of + 1)
	t.shares.Enter(i, int(c.Tenant), int(of), 1)
	t.classes[of]++
}

func (t *Table) leaveLocked(i uint32) {
	c := t.conn(i)
	t.shares.Leave(i, int(c.Tenant), int(c.listed-1), 1)
	t.classes[c.listed-1]--
	c.listed = 0
}

// Alloc returns a conn that is in no index, for a flow of a tenant: one that is free, or
// that of the flow that gives. 0 when none may. The caller calls Conn.Init, sets Reply,
// and then either Insert or GiveBack.
func (t *Table) Alloc(h Tenant) Ref {
	if t.below != nil && !t.below.t.room(h) {
		return 0
	}
	for range 4 {
		t.mu.Lock()
		if i := t.unusedLocked(); i != 0 {
			t.mu.Unlock()
			return Ref(i) << 1
		}
		i, giver := t.shares.Victim(int(h))
		from, may := classClosed, i != 0
		if may {
			from = class(t.conn(i).listed - 1)
			may = from != classAssured || giver != int(h) || t.Ended.now()-t.conn(i).lastSeen.Load() >= ownIdle
		}
		t.mu.Unlock()
		if !may {
			break
		}
		t.evict(i, Tenant(giver), from)
	}
	t.full.Add(1)
	t.shares.Refuse(int(h))
	return 0
}

// unusedLocked takes a conn that is nobody's, 0 when there is none.
func (t *Table) unusedLocked() uint32 {
	switch i := t.free; {
	case i != 0:
		t.free = t.conn(i).link.Next
		return i
	case int(t.header.made) < t.max:
		t.header.made++
		return t.header.made
	}
	return 0
}

// room reports whether Alloc would find a conn for a tenant, and changes nothing.
func (t *Table) room(h Tenant) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free != 0 || int(t.header.made) < t.max {
		return true
	}
	giver := t.shares.Giver(int(h))
	if giver < 0 || giver != int(h) || class(t.shares.Class(giver)) != classAssured {
		return giver >= 0
	}
	now := t.Ended.now()
	for i, n := t.shares.Oldest(giver, int(classAssured)), 0; i != 0 && n < share.Looks; n++ {
		if now-t.conn(i).lastSeen.Load() >= ownIdle {
			return true
		}
		i = t.shares.Next(i)
	}
	return false
}

// evict ends a flow of a tenant if it still is of the class.
func (t *Table) evict(i uint32, h Tenant, from class) bool {
	ok := t.remove(Ref(i)<<1, func(c *Conn) bool { return c.Tenant == h && c.class() == from }, true)
	if ok {
		t.gone.Add(1)
		if from != classClosed { // nobody misses those
			t.shares.Gave(int(h))
		}
	}
	return ok
}

// Flows is what a container holds of the table: flows that it began, and that others
// began with it.
func (t *Table) Flows(container frame.PortID) (began, received share.Use) {
	return t.shares.Use(int(Began(container))), t.shares.Use(int(Received(container)))
}

// HalfOpen is how many flows only one side wants.
func (t *Table) HalfOpen() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.classes[classHalfOpen]
}
