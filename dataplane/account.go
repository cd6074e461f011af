package dataplane

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	accountSets   = 1024
	accountWays   = 4
	accountIdle   = int64(60 * time.Second)
	accountClosed = int64(5 * time.Second) // after FIN or RST
	accountChunk  = 4                      // sets that a reader looks at under one lock, which a worker may wait for
)

// account counts the packets of flows that are bridged, which conntrack does not
// know: unicast between containers, and between them and the host. It decides
// nothing.
func (w *worker) account(*Snapshot) {
	if !observed || len(w.bridge) == 0 {
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
		e.packets[dir]++
		e.bytes[dir] += uint64(b.f.Len())
		e.flags |= l.TCPFlags
		e.seen = w.now
	}
}

// bridgedFlows is what one worker knows of the flows it bridges: a cache of fixed
// size, sets of four in which the one that was idle longest gives way. mu is
// taken once a batch by the worker, and by readers for a part of the table.
type bridgedFlows struct {
	mu   sync.Mutex
	keys hashKeys
	sets [accountSets]bridgedSet
}

type bridgedSet struct {
	tags  [accountWays]uint32 // hashes: most of the flows need not be looked at
	flows [accountWays]bridgedFlow
}

type bridgedFlow struct {
	tuple          header.Tuple    // of the side that was heard first
	ports          [2]frame.PortID // of that side, of the other
	flags          uint8           // of TCP, all that were seen
	created, seen  int64           // ns, created 0: free
	packets, bytes [2]uint64       // of that side, of the other
	meter          meter
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
	hash := a.keys.pair(t)
	if e, dir := a.lookup(t, hash); e != nil {
		return e, dir
	}
	set, victim := &a.sets[hash%accountSets], 0
	for i := range set.flows {
		if set.flows[i].seen < set.flows[victim].seen {
			victim = i
		}
	}
	e := &set.flows[victim]
	w.sw.ended.bridged(e)
	set.tags[victim] = hash
	*e = bridgedFlow{tuple: *t, ports: [2]frame.PortID{b.f.In, b.out}, created: w.now}
	return e, 0
}

// carried adds what the kernel's flow table carried of a flow that was bridged here
// before.
func (a *bridgedFlows) carried(r *flowRow, packets, bytes uint64, now int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if e, dir := a.lookup(&r.tuple, a.keys.pair(&r.tuple)); e != nil {
		e.packets[dir] += packets
		e.bytes[dir] += bytes
		e.seen = now
	}
}

// pair hashes a tuple so that its reverse has the same hash.
func (k *hashKeys) pair(t *header.Tuple) uint32 {
	le := binary.LittleEndian
	side := func(a *header.Addr, port uint16) uint64 {
		return mix(le.Uint64(a[:])^k[0]^uint64(port), le.Uint64(a[8:])^k[1])
	}
	h := mix(side(&t.Src, t.SrcPort)+side(&t.Dst, t.DstPort)^k[2], uint64(t.Proto)^k[3])
	return uint32(h ^ h>>32)
}

// each calls f for every flow, a part of the table under one lock, and before for each
// part without it.
func (a *bridgedFlows) each(before func(), f func(*bridgedFlow)) {
	for from := 0; from < accountSets; from += accountChunk {
		before()
		a.mu.Lock()
		for i := range a.sets[from : from+accountChunk] {
			for j := range a.sets[from+i].flows {
				if e := &a.sets[from+i].flows[j]; e.created != 0 {
					f(e)
				}
			}
		}
		a.mu.Unlock()
	}
}

// sweep forgets what was idle for long and measures the rest.
func (a *bridgedFlows) sweep(now int64, ended *endedFlows) {
	a.each(func() {}, func(e *bridgedFlow) {
		idle := now - e.seen
		if idle >= accountIdle || idle >= accountClosed && e.flags&(tcpFIN|tcpRST) != 0 {
			ended.bridged(e)
			*e = bridgedFlow{}
			return
		}
		e.meter.note(now, e.created, e.bytes[0]+e.bytes[1])
	})
}

// state is the word for what was seen of a flow.
func (e *bridgedFlow) state() string {
	both := e.packets[1] > 0
	switch {
	case e.tuple.Proto != header.ProtoTCP && both:
		return stateNames[stateUDP]
	case e.tuple.Proto != header.ProtoTCP:
		return stateNames[stateUDPOnce]
	case e.flags&(tcpFIN|tcpRST) != 0:
		return stateNames[stateClosing]
	case both:
		return stateNames[stateEstablished]
	}
	return stateNames[stateInit]
}
