package dataplane

import (
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/pages"
)

const (
	connShards    = 64
	connShardBits = 6
	connChunk     = 1024
)

// conntrack finds a flow by the tuple of either direction. The index is split
// into shards with a lock each; two shards are locked lower number first. The
// flows themselves lie in chunks that are made as the table grows and reused
// for ever.
//
// A flow that only one side wants is half open. Half-open flows take at most
// half of the table, and the oldest of them makes room when there is none: a
// flood of SYNs can neither end a flow that was answered nor keep new ones out.
// Before them go the flows that are closed and kept for late packets only.
type conntrack struct {
	keys   hashKeys
	peers  PeerClaims // nil: nobody reads them
	shards [connShards]connShard
	chunks []atomic.Pointer[[connChunk]conn]
	// What indexes and chunks are made of.
	indexMem, connMem *pages.Memory
	max               int
	rows              []FlowSlot // of the flow table, nil without one
	length            [numConnProtos]atomic.Int64
	// held counts the flows on each container's quota.
	held [MaxPorts]portFlows
	full atomic.Uint64 // flows that found no room
	gone atomic.Uint64 // half-open and closed flows that made room
	// ended hears of every flow that is removed.
	ended *endedFlows
	below *connsBelow // of an overlay, otherwise nil

	mu    sync.Mutex // guards what follows, taken under shard locks and conn.mu
	free  uint32     // conns linked by next
	made  uint32     // conns handed out at least once
	lists [numLists]connList

	sweeping sync.Mutex // one sweep at a time, guards ticks
	ticks    int
}

type connShard struct {
	mu    sync.RWMutex
	index connIndex
	_     [64]byte // no false sharing between locks
}

func newConntrack(max int, ended *endedFlows, peers PeerClaims) *conntrack {
	t := &conntrack{keys: newHashKeys(), peers: peers, max: max, ended: ended}
	t.chunks = make([]atomic.Pointer[[connChunk]conn], max/connChunk+1)
	t.connMem = pages.New(t, len(t.chunks)*connChunk*int(unsafe.Sizeof(conn{})))
	t.indexMem = pages.New(t, indexBytes(max))
	return t
}

// connProtos are the protocols that conntrack counts apart.
const (
	connTCP = iota
	connUDP
	connICMP
	connOther

	numConnProtos
)

func connProto(proto uint8) int {
	switch proto {
	case header.ProtoTCP:
		return connTCP
	case header.ProtoUDP:
		return connUDP
	case header.ProtoICMP, header.ProtoICMPv6:
		return connICMP
	}
	return connOther
}

func (t *conntrack) len() (n int) {
	for i := range t.length {
		n += int(t.length[i].Load())
	}
	return n
}

func (t *conntrack) conn(i uint32) *conn { return &t.chunks[i/connChunk].Load()[i%connChunk] }

func (t *conntrack) at(r connRef) *conn { return t.conn(uint32(r >> 1)) }

// tuple is the one that a ref stands for.
func (t *conntrack) tuple(r connRef) *header.Tuple {
	c := t.at(r)
	if r&1 == 1 {
		return &c.reply
	}
	return &c.orig
}

func (t *conntrack) shard(hash uint32) *connShard { return &t.shards[hash>>(32-connShardBits)] }

// lookup finds the flow of a tuple; 0 when there is none. When there is, its
// shard is locked for reading and the caller unlocks it when it is done with
// the conn.
func (t *conntrack) lookup(k *header.Tuple) (connRef, *connShard) {
	return t.lookupHashed(t.keys.tuple(k), k)
}

// lookupHashed is lookup for a tuple whose hash is known.
func (t *conntrack) lookupHashed(h uint32, k *header.Tuple) (connRef, *connShard) {
	sh := t.shard(h)
	sh.mu.RLock()
	if r := sh.index.find(t, h, k); r != 0 {
		return r, sh
	}
	sh.mu.RUnlock()
	if t.below != nil && t.pull(k) {
		return t.lookupHashed(h, k)
	}
	return 0, nil
}

// alloc returns a conn that is in no index, and 0 when the table is full of
// flows that were answered.
func (t *conntrack) alloc(m *masquerade) connRef {
	for range 4 {
		t.mu.Lock()
		half, closed := &t.lists[listHalfOpen], &t.lists[listClosed]
		victim, from := closed.first, listClosed
		switch {
		case half.count >= t.max/2 && half.first != 0:
			victim, from = half.first, listHalfOpen
		case t.free != 0:
			i := t.free
			t.free = t.conn(i).next
			t.mu.Unlock()
			return connRef(i) << 1
		case int(t.made) < t.max:
			t.made++
			i := t.made
			if c := &t.chunks[i/connChunk]; c.Load() == nil {
				c.Store((*[connChunk]conn)(pages.Take[conn](t.connMem, connChunk)))
			}
			t.mu.Unlock()
			return connRef(i) << 1
		case victim == 0:
			victim, from = half.first, listHalfOpen
		}
		t.mu.Unlock()
		if victim == 0 {
			break
		}
		t.evict(victim, from, m)
	}
	t.full.Add(1)
	return 0
}

// giveBack returns a conn that is in no index.
func (t *conntrack) giveBack(r connRef) {
	t.mu.Lock()
	t.freeLocked(uint32(r >> 1))
	t.mu.Unlock()
}

func (t *conntrack) freeLocked(i uint32) {
	t.conn(i).next = t.free
	t.free = i
}

// insert makes a conn visible under both its tuples, in its first state. It
// fails when one of them is taken; the caller gives the conn back.
func (t *conntrack) insert(r connRef) bool {
	c := t.at(r)
	if t.below != nil {
		t.pull(&c.orig)
		t.pull(&c.reply)
	}
	h0, h1 := t.keys.tuple(&c.orig), t.keys.tuple(&c.reply)
	a, b := t.lockPair(h0, h1)
	defer unlockPair(a, b)
	if a.index.find(t, h0, &c.orig) != 0 || b.index.find(t, h1, &c.reply) != 0 {
		return false
	}
	if c.isPeer() && t.peers != nil && t.peers.ClaimPeer(c.peer()) != nil {
		return false
	}
	c.hash[0].Store(h0)
	c.hash[1].Store(h1)
	c.state.Store(uint32(firstState(c.orig.Proto)))
	a.index.put(t.indexMem, h0, r)
	b.index.put(t.indexMem, h1, r|1)
	t.length[connProto(c.orig.Proto)].Add(1)
	t.charge(c, true)
	t.relist(r, listHalfOpen)
	return true
}

// charge counts a flow on its owner's quota, or no longer.
func (t *conntrack) charge(c *conn, on bool) {
	switch {
	case c.owner == frame.NoPort:
	case on:
		t.held[c.owner].add(c.orig.Proto, 1)
	default:
		t.held[c.owner].add(c.orig.Proto, -1)
	}
}

// lockPair locks the shards of two hashes, the lower number first.
func (t *conntrack) lockPair(h0, h1 uint32) (a, b *connShard) {
	a, b = t.shard(h0), t.shard(h1)
	i, j := h0>>(32-connShardBits), h1>>(32-connShardBits)
	t.shards[min(i, j)].mu.Lock()
	if i != j {
		t.shards[max(i, j)].mu.Lock()
	}
	return a, b
}

func unlockPair(a, b *connShard) {
	a.mu.Unlock()
	if a != b {
		b.mu.Unlock()
	}
}

// remove ends a flow if it still is as the caller has seen it: the conn may
// have been another's by the time that it is locked. Its mapping and its place
// on a quota go back, and its memory may be reused at once.
func (t *conntrack) remove(r connRef, m *masquerade, still func(*conn) bool) bool {
	r &^= 1
	c := t.at(r)
	h0, h1 := c.hash[0].Load(), c.hash[1].Load()
	a, b := t.lockPair(h0, h1)
	defer unlockPair(a, b)
	if c.state.Load() == uint32(stateFree) || c.hash[0].Load() != h0 || c.hash[1].Load() != h1 || !still(c) {
		return false
	}
	a.index.drop(h0, r)
	b.index.drop(h1, r|1)
	was := connState(c.state.Swap(uint32(stateFree)))
	if !was.closed() {
		t.charge(c, false)
	}
	t.ended.tracked(c, was)
	t.length[connProto(c.orig.Proto)].Add(-1)
	switch {
	case c.hasNAT:
		m.release(c.endpoint(), c.natPort())
	case c.isPeer() && t.peers != nil:
		t.peers.DropPeer(c.peer())
	}
	t.mu.Lock()
	t.relistLocked(uint32(r>>1), listNone)
	t.freeLocked(uint32(r >> 1))
	t.mu.Unlock()
	return true
}
