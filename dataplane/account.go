package dataplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	accountSets   = 1024
	accountWays   = 4
	accountIdle   = int64(60 * time.Second)
	accountClosed = int64(5 * time.Second) // after both FINs, or a RST
	accountChunk  = 4                      // sets that a reader looks at under one lock, which a worker may wait for
	accountParts  = accountSets / accountChunk
)

// BridgedPage is the shortest page that ReadBridged fills.
const BridgedPage = accountChunk * accountWays

// account counts the packets of flows that are bridged, which conntrack does not
// know: unicast between containers, and between them and the host. It decides
// nothing.
func (w *worker) account(*Snapshot) {
	if !frame.Observed {
		for i := range w.bridge {
			w.bridge[i].heard = true // nobody knows better
		}
		return
	}
	if len(w.bridge) == 0 {
		return
	}
	a := &w.accounts
	a.mu.Lock()
	defer a.mu.Unlock()
	var e *bridgedFlow
	var last *header.Tuple
	dir := 0
	for i := range w.bridge {
		b := &w.bridge[i]
		l := &b.f.Layers
		if b.out == frame.NoPort || l.Kind < header.KindIP {
			continue
		}
		if last == nil || *last != l.Tuple { // a batch is mostly one flow's
			e, dir = a.find(w, b)
			last = &l.Tuple
		}
		b.heard = e.packets[dir^1] != 0
		e.packets[dir]++
		e.bytes[dir] += uint64(b.f.Len())
		e.flags[dir] |= l.TCPFlags
		e.seen = w.now
	}
}

// bridgedFlows is what one worker knows of the flows it bridges: a cache of fixed
// size, sets of four in which the port that began most of all flows gives way, with the one of its
// that was idle longest. mu is taken once a batch by the worker, and by readers for a part of the
// table.
type bridgedFlows struct {
	mu    sync.Mutex
	keys  conntrack.Keys
	sets  [accountSets]bridgedSet
	held  [MaxPorts]bridgedUse // of who began them
	spare bridgedFlow          // in place of one that there is no room for
}

// bridgedUse is what a port has of the cache. One writer at a time, under mu.
type bridgedUse struct {
	held          atomic.Int32
	gave, refused atomic.Uint64
}

type bridgedSet struct {
	tags  [accountWays]uint32 // hashes: most of the flows need not be looked at
	flows [accountWays]bridgedFlow
}

type bridgedFlow struct {
	tuple          header.Tuple    // of the side that was heard first
	ports          [2]frame.PortID // of that side, of the other
	flags          [2]uint8        // of TCP, all that were seen of each side
	created, seen  int64           // ns, created 0: free
	packets, bytes [2]uint64       // of that side, of the other
	meter          conntrack.Meter
}

// lookup returns the flow of a tuple and the direction that the tuple goes in, nil
// when it is not there.
func (a *bridgedFlows) lookup(t *header.Tuple, hash uint32) (*bridgedFlow, int) {
	set := &a.sets[hash%accountSets]
	for i, tag := range set.tags {
		if tag != hash {
			continue
		}
		switch e := &set.flows[i]; {
		case e.created == 0:
		case e.tuple == *t:
			return e, 0
		case e.tuple == t.Reverse():
			return e, 1
		}
	}
	return nil, 0
}

// find is lookup of a frame's flow, which is entered when it is new.
func (a *bridgedFlows) find(w *worker, b *bridged) (*bridgedFlow, int) {
	t := &b.f.Layers.Tuple
	hash := a.keys.Pair(t)
	if e, dir := a.lookup(t, hash); e != nil {
		return e, dir
	}
	return a.enter(w.sw, *t, [2]frame.PortID{b.f.In, b.out}, w.now, hash), 0
}

// enter makes a flow that is not there one of the cache.
func (a *bridgedFlows) enter(sw *Switch, t header.Tuple, ports [2]frame.PortID, created int64, hash uint32) *bridgedFlow {
	set, victim := &a.sets[hash%accountSets], 0
	for i := range set.flows {
		if a.before(&set.flows[i], &set.flows[victim]) {
			victim = i
		}
	}
	e, who := &set.flows[victim], &a.held[ports[0]]
	spare := e.created != 0 && who.held.Load() > a.held[e.ports[0]].held.Load()
	if spare {
		who.refused.Add(1)
		e = &a.spare // it has more than anybody here
	} else {
		a.end(sw, e, true)
		who.held.Add(1)
		set.tags[victim] = hash
	}
	*e = bridgedFlow{tuple: t, ports: ports, created: created, seen: created}
	if !spare {
		sw.bridgedBegun(e)
	}
	return e
}

// before reports whether a flow gives way before another.
func (a *bridgedFlows) before(x, y *bridgedFlow) bool {
	if x.created == 0 || y.created == 0 {
		return y.created != 0
	}
	if m, n := a.held[x.ports[0]].held.Load(), a.held[y.ports[0]].held.Load(); m != n {
		return m > n
	}
	return x.seen < y.seen
}

// end forgets a flow, to another's good or not.
func (a *bridgedFlows) end(sw *Switch, e *bridgedFlow, gives bool) {
	if e.created != 0 {
		who := &a.held[e.ports[0]]
		who.held.Add(-1)
		if gives {
			who.gave.Add(1)
		}
	}
	sw.bridgedEnded(e)
	*e = bridgedFlow{}
}

// carried adds what the kernel's flow table carried of a bridged flow until a time. One that is
// not there, as it was silent for long or a process before has bridged it, began at another.
func (a *bridgedFlows) carried(sw *Switch, r *flowRow, packets, bytes uint64, began, seen int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t := r.flow.tuple
	hash := a.keys.Pair(&t)
	e, dir := a.lookup(&t, hash)
	if e == nil {
		ports := [2]frame.PortID{r.flow.in, r.out}
		if dir = conntrack.OriginDirection(sw.flows.entry(r).Conn); dir == 1 {
			t, ports = t.Reverse(), [2]frame.PortID{r.out, r.flow.in}
		}
		e = a.enter(sw, t, ports, began, hash)
	}
	e.packets[dir] += packets
	e.bytes[dir] += bytes
	e.seen = max(e.seen, seen)
}

// lent writes into the entry of a flow's row what another process needs to go on with it.
func (a *bridgedFlows) lent(m *flowmap.Entry, t *header.Tuple) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, dir := a.lookup(t, a.keys.Pair(t)); e != nil {
		m.Conn, m.Born = conntrack.BridgedOrigin(dir), conntrack.Born(e.created)
	}
}

// each calls f for every flow of a part of the table, under its lock.
func (a *bridgedFlows) each(part int, f func(*bridgedFlow)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range accountChunk {
		set := &a.sets[part*accountChunk+i]
		for j := range set.flows {
			if e := &set.flows[j]; e.created != 0 {
				f(e)
			}
		}
	}
}

// sweep forgets what was idle for long and measures the rest.
func (a *bridgedFlows) sweep(now int64, sw *Switch) {
	for part := range accountParts {
		a.each(part, func(e *bridgedFlow) {
			idle := now - e.seen
			if idle >= accountIdle || idle >= accountClosed && e.closed() {
				a.end(sw, e, false)
				return
			}
			e.meter.Note(now, e.created, e.bytes[0]+e.bytes[1])
		})
	}
}
