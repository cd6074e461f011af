// Package conntrack tracks flows and translates their addresses: who began one, which
// tuple each direction has inside and outside, whether its end has come, and which
// ports of the host masquerade has given to whom. It knows ports of the switch by
// number and the ports that are published or busy as sets; whether a flow may begin
// or go on is decided by who asks it. Its methods are safe for concurrent use.
package conntrack

import (
	"errors"
	"sync"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/pages"
	"github.com/vswitch/vswitch/dataplane/share"
)

const (
	connShards    = 64
	connShardBits = 6
	connLocks     = 256 // that serialise the transitions of conns
)

// Table finds a flow by the tuple of either direction. The index is split
// into shards with a lock each; two shards are locked lower number first. The
// flows themselves lie in memory that Open is given, and are reused for ever; what
// the process adds to it, index, lists and locks, is made of it by adopt.
//
// Each flow has a tenant (Tenant) and a class. When the table is full, the tenant of the
// most flows gives one for a new one, of the class that is worth least: a flood can
// neither end the flows of others nor keep new ones of theirs out.
type Table struct {
	keys   Keys
	peers  peers
	shards [connShards]Shard
	conns  []Conn        // by number, from 1 on
	header *memoryHeader // in the place of conn 0
	locks  [connLocks]paddedMutex
	// What indexes are made of.
	indexMem *pages.Memory
	max      int
	rows     []flowmap.Entry          // of the flow table, nil without one: then no flow has any
	timeouts [numStates]atomic.Uint32 // of its rows, in jiffies
	length   [numConnProtos]atomic.Int64
	// held counts the flows on each container's quota.
	held [flowmap.MaxPorts]portFlows
	full atomic.Uint64 // flows that found no room
	gone atomic.Uint64 // flows that made room
	nat  *masquerade
	// Ended hears of every flow that its ends have closed, or that is removed before; Begun of every new one.
	Ended, Begun Log
	below        *connsBelow // of a dry run, otherwise nil

	mu      sync.Mutex // guards what follows, taken under shard locks and locks
	free    uint32     // conns linked by Next
	shares  *share.Table
	classes [numClasses]int // flows

	sweeping sync.Mutex // one sweep at a time, guards ticks
	ticks    int
}

// Shard is a part of the index with a lock of its own.
type Shard struct {
	mu    sync.RWMutex
	index connIndex
	_     [64]byte // no false sharing between locks
}

// RUnlock ends a Lookup that has found a flow: its Conn is not touched afterwards.
func (s *Shard) RUnlock() { s.mu.RUnlock() }

// Config is what a table is made with.
type Config struct {
	Max    int                // flows that have room
	Ports  flowmap.ClaimPlane // where ports in use are written down, of ClaimWords
	Opened flowmap.ClaimPlane // the ones that are open to strangers; nil: nobody reads them
	Peers  bpfmap.Peers       // of the flows that leave with an address of the host; nil: nobody reads them
	// PortKey makes a table find the same ports again for the same endpoints after a
	// restart. It is secret; zero: a random one.
	PortKey [16]byte
	Rows    []flowmap.Entry // of the kernel's flow table, nil without one
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

// Len is how many flows there are.
func (t *Table) Len() (n int) {
	for i := range t.length {
		n += int(t.length[i].Load())
	}
	return n
}

func (t *Table) conn(i uint32) *Conn { return &t.conns[i] }

// At is the flow of a Ref, for as long as one of its shards is locked.
func (t *Table) At(r Ref) *Conn { return t.conn(uint32(r >> 1)) }

// tuple is the one that a ref means.
func (t *Table) tuple(r Ref) *header.Tuple {
	c := t.At(r)
	if r&1 == 1 {
		return &c.Reply
	}
	return &c.Orig
}

func (t *Table) shard(hash uint32) *Shard { return &t.shards[hash>>(32-connShardBits)] }

// Hash is the hash of a tuple in this table.
func (t *Table) Hash(k *header.Tuple) uint32 { return t.keys.Tuple(k) }

// Lookup finds the flow of a tuple; 0 when there is none. When there is, its
// shard is locked for reading and the caller unlocks it when it is done with
// the Conn.
func (t *Table) Lookup(k *header.Tuple) (Ref, *Shard) {
	return t.LookupHashed(t.keys.Tuple(k), k)
}

// LookupHashed is Lookup for a tuple whose hash is known.
func (t *Table) LookupHashed(h uint32, k *header.Tuple) (Ref, *Shard) {
	sh := t.shard(h)
	sh.mu.RLock()
	if r := sh.index.find(t, h, k); r != 0 {
		return r, sh
	}
	sh.mu.RUnlock()
	if t.below != nil && t.pull(k) {
		return t.LookupHashed(h, k)
	}
	return 0, nil
}

// GiveBack returns a conn that is in no index, and the port that it holds.
func (t *Table) GiveBack(r Ref) {
	t.releasePort(t.At(r), false)
	t.mu.Lock()
	t.freeLocked(uint32(r >> 1))
	t.mu.Unlock()
}

func (t *Table) freeLocked(i uint32) {
	t.conn(i).link = share.Link{Next: t.free}
	t.free = i
}

// Insertion is what came of a new flow.
type Insertion uint8

const (
	Inserted    Insertion = iota
	TupleTaken            // one of its tuples is another flow's
	PeerRefused           // there is no room for the claim of its peer
	PeerTaken             // the host itself uses its peer
)

// Insert makes a conn visible under both its tuples, in its first state. Unless it
// is Inserted the caller gives the conn back.
func (t *Table) Insert(r Ref) Insertion {
	c := t.At(r)
	if t.below != nil {
		t.pull(&c.Orig)
		t.pull(&c.Reply)
	}
	h0, h1 := t.keys.Tuple(&c.Orig), t.keys.Tuple(&c.Reply)
	a, b := t.lockPair(h0, h1)
	defer unlockPair(a, b)
	if a.index.find(t, h0, &c.Orig) != 0 || b.index.find(t, h1, &c.Reply) != 0 {
		return TupleTaken
	}
	if c.claims() {
		switch err := t.peers.claim(c.peer(), c.Tenant); {
		case errors.Is(err, errPeerTaken):
			return PeerTaken
		case err != nil:
			return PeerRefused
		}
	}
	c.hash[0].Store(h0)
	c.hash[1].Store(h1)
	c.state.Store(uint32(firstState(c.Orig.Proto)))
	a.index.put(t.indexMem, h0, r)
	b.index.put(t.indexMem, h1, r|1)
	t.length[connProto(c.Orig.Proto)].Add(1)
	t.charge(c, true)
	t.mu.Lock()
	t.enterLocked(uint32(r >> 1))
	t.mu.Unlock()
	t.Begun.begun(c)
	return Inserted
}

// charge counts a flow on the quota of the container that began it, or no longer.
func (t *Table) charge(c *Conn, on bool) {
	switch h := c.Tenant; {
	case !h.began():
	case on:
		t.held[h.container()].add(c.Orig.Proto, 1)
	default:
		t.held[h.container()].add(c.Orig.Proto, -1)
	}
}

// lockPair locks the shards of two hashes, the lower number first.
func (t *Table) lockPair(h0, h1 uint32) (a, b *Shard) {
	a, b = t.shard(h0), t.shard(h1)
	i, j := h0>>(32-connShardBits), h1>>(32-connShardBits)
	t.shards[min(i, j)].mu.Lock()
	if i != j {
		t.shards[max(i, j)].mu.Lock()
	}
	return a, b
}

func unlockPair(a, b *Shard) {
	a.mu.Unlock()
	if a != b {
		b.mu.Unlock()
	}
}

// Remove ends a flow if it still is as the caller has seen it: the conn may
// have been another's by the time that it is locked. Its mapping and its place
// on a quota go back, and its memory may be reused at once.
func (t *Table) Remove(r Ref, still func(*Conn) bool) bool { return t.remove(r, still, false) }

// remove is Remove; inNeed says that another flow waits for the port.
func (t *Table) remove(r Ref, still func(*Conn) bool, inNeed bool) bool {
	r &^= 1
	c := t.At(r)
	h0, h1 := c.hash[0].Load(), c.hash[1].Load()
	a, b := t.lockPair(h0, h1)
	defer unlockPair(a, b)
	if c.state.Load() == uint32(stateFree) || c.hash[0].Load() != h0 || c.hash[1].Load() != h1 {
		return false
	}
	if t.catchUp(c, r, t.Ended.now()); !still(c) {
		return false
	}
	a.index.drop(h0, r)
	b.index.drop(h1, r|1)
	t.endRows(c)
	claimed := c.claims()
	raw := c.state.Swap(uint32(stateFree))
	was := connState(raw &^ stateFlags)
	if !was.closed() {
		t.charge(c, false)
	}
	if raw&told == 0 {
		t.Ended.tracked(c, was)
	}
	t.length[connProto(c.Orig.Proto)].Add(-1)
	if claimed {
		t.peers.drop(c.peer()) // before another flow may have the port
	}
	t.releasePort(c, inNeed && was.halfOpen())
	t.mu.Lock()
	t.leaveLocked(uint32(r >> 1))
	t.freeLocked(uint32(r >> 1))
	t.mu.Unlock()
	return true
}
