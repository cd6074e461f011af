package dataplane

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/share"
)

// The flow table holds decided flows for the kernel, {match, output}: a program
// looks each frame up before userspace sees it, and carries on those it finds.
// What is looked up are the bytes that the stages decided by, so a frame that
// differs in any of them comes here as before.
//
// A flow never overtakes itself. While its row is pending or ready the frames still
// come here; the program turns it active in the moment when none of them is under
// way any more: flowmap.Tally counts what was let through and what was done with. That
// moment never comes while a flow fills its port's ring. Then frames are lost anyway,
// and the row loses all of them until the ring is empty (drain).

const (
	// flowWorth is how many frames of a flow pass here before it is worth a row, unless it is a
	// connection that begins early: what is over soon does not pay for the system calls.
	flowWorth = 8
	// flowAgain is after how many more frames it is offered again: a flow that a change has
	// given back returns soon, also one of few large frames.
	flowAgain = 128
	// flowIdle is how long a row goes without a frame before it gives way to others.
	flowIdle = 5 * time.Second
	// flowSettle is longer than a program runs: what it had not yet counted before
	// is counted then.
	flowSettle = time.Millisecond
	// flowPatience is how long a ready row is watched for frames that get lost, and
	// flowDrain how long a flow may lose all of them.
	flowPatience = 20 * time.Millisecond
	flowDrain    = 50 * time.Millisecond
)

// flowTable is the rows in use. Workers send offers, and enter a connection themselves where
// nobody else is at it (enterEarly); the goroutines run and lookForEnds, and the doors of Switch
// change it.
type flowTable struct {
	maps    bpfmap.Flows
	jiffy   time.Duration
	entries []flowmap.Entry // of which the first made are there
	offers  chan flowID
	nudge   chan struct{} // rows were entered that want to be settled, or the table wants to grow
	quiet   quietFlows    // of Tick
	ends    *flowmap.Ends
	rung    atomic.Uint64 // flowmap.Ends.Rung as far as conntrack has learned
	first   chan struct{} // there are rows

	mu      sync.Mutex // guards what follows
	rows    map[flowmap.Key]*flowRow
	made    int
	limit   int        // of pairs
	places  []place    // by number of an entry, in the order of memory
	free    []uint32   // pairs of entries; what was freed last is given out last
	resting []*flowRow // have ended, and a program may still hold their number
	pending []*flowRow
	off     []uint32        // rows of connections that have ended
	doubts  doubts          // pairs that have begun early
	found   []uint32        // rows of a process before that nobody has asked yet
	frames  uint64          // carried by the kernel
	leads   [MaxPorts]int32 // rows to a port
	shares  *share.Table    // of containers
	count   atomic.Int32    // rows
	firsts  atomic.Uint64   // how often a row led to a port that had none
}

// place is what userspace knows of an entry.
type place struct {
	link  share.Link
	row   *flowRow // nil: none
	rests bool     // a program may still hold its number
}

// flowRow is what userspace knows of a row.
type flowRow struct {
	flow flowID
	decision
	ports   [2]*portEntry // it comes in by and goes out by
	number  uint32        // of its entry
	tenant  int           // the container that it is counted on
	since   int64         // ns, when it took its state
	seen    int64         // ns, when packets was last found changed
	settled bool          // before is valid
	before  uint64        // flowmap.Tally.In when every earlier frame had been counted
	lost    uint64        // frames of the port, when it became ready
	// Read so far.
	packets, bytes uint64
}

// newFlowTable makes a table of no more pairs than there may be connections.
func newFlowTable(maps bpfmap.Flows, d *bpfmap.FlowDescriptor, conns int) *flowTable {
	if maps == nil {
		return nil
	}
	t := &flowTable{maps: maps, jiffy: time.Second / time.Duration(maps.InJiffies(time.Second)), entries: d.Entries, offers: make(chan flowID, 256), nudge: make(chan struct{}, 1), ends: d.Ends, first: make(chan struct{}, 1), rows: make(map[flowmap.Key]*flowRow)}
	t.shares = share.New((*rowEntries)(t), MaxPorts, 0)
	t.limit = min(len(t.entries)/2, conns)
	t.add(len(d.There()))
	return t
}

// entry is the memory of a row.
func (t *flowTable) entry(r *flowRow) *flowmap.Entry { return &t.entries[r.number] }

// number finds an entry for a decision: the other half of the pair that has the flow's
// frames the other way, or the first of a new one that its container may have.
func (t *flowTable) number(d *decision, tenant int) (uint32, bool) {
	if o := t.rows[d.other]; o != nil {
		p := &t.places[o.number^1]
		return o.number ^ 1, p.row == nil && !p.rests
	}
	if !t.mayTake(tenant) {
		return 0, false
	}
	return t.free[0] * 2, true
}

// assign gives a row its entry.
func (t *flowTable) assign(r *flowRow) {
	if t.places[r.number^1].row == nil {
		t.free = t.free[1:] // the pair is a new one
		t.wantMore()
	}
	t.enterRow(r)
}

// enterRow makes a row one of the table.
func (t *flowTable) enterRow(r *flowRow) {
	t.places[r.number].row = r
	t.rows[r.row.Key] = r
	t.shares.Enter(r.number+1, r.tenant, 0, 1)
	if t.count.Add(1) == 1 {
		select {
		case t.first <- struct{}{}:
		default:
		}
	}
	if t.leads[r.out]++; t.leads[r.out] == 1 {
		t.firsts.Add(1)
	}
}

// run enters offers until done is closed.
func (t *flowTable) run(sw *Switch, done <-chan struct{}) {
	tick := time.NewTicker(flowSettle)
	tick.Stop()
	for {
		select {
		case <-done:
			tick.Stop()
			return
		case f := <-t.offers:
			t.mu.Lock()
			if t.enter(f, sw, false) != nil {
				tick.Reset(flowSettle)
			}
			t.mu.Unlock()
		case <-t.nudge:
			t.grow()
			tick.Reset(flowSettle)
		case <-tick.C:
			t.mu.Lock()
			again := t.settle(sw)
			t.mu.Unlock()
			if !sw.stations.settle(sw) && !again {
				tick.Stop()
			}
		}
	}
}

// enter writes a row for a flow, if the kernel may carry it now, and returns it. It needs mu: a
// change that is made meanwhile asks the row again when it gets mu. early says that none of the
// flow's frames is under way, see enterEarly.
func (t *flowTable) enter(f flowID, sw *Switch, early bool) *flowRow {
	if len(t.found) > 0 {
		return nil
	}
	d, ok := sw.view().decide(&f)
	if !ok {
		return nil
	}
	ports := [2]*portEntry{sw.ports[f.in].Load(), sw.ports[d.out].Load()}
	if ports[0] == nil || ports[1] == nil || ports[0].tally == nil {
		return nil // one was removed a moment ago, or no program looks there
	}
	now := sw.now()
	if r := t.rows[d.row.Key]; r != nil {
		if r.decision == d && !t.isOff(r) {
			if r.since = now; !slices.Contains(t.pending, r) {
				t.pending = append(t.pending, r)
			}
			return r
		}
		t.end([]*flowRow{r})
		t.resting = append(t.resting, r)
		return nil // its entry rests; it is offered again
	}
	tenant := rowTenant(sw.snapshot.Load(), f.in, d.out)
	n, ok := t.number(&d, tenant)
	if !ok {
		return nil
	}
	r := &flowRow{flow: f, decision: d, ports: ports, number: n, tenant: tenant, since: now, seen: now}
	m := t.entry(r)
	// No program finds it yet. From lend on the end of the flow turns it off.
	m.Begin(&d.row)
	if t.places[n^1].row != nil { // the flow is no younger
		m.LastUse = atomic.LoadUint64(&t.entries[n^1].LastUse)
	}
	if early {
		m.State, m.LastIn = flowmap.Ready, atomic.LoadUint64(&ports[0].tally.In)
	}
	if r.routed && !sw.conntrack.Lend(&r.flow.tuple, r.to, r.number, early) {
		m.End()
		return nil
	}
	if !r.routed {
		m.Half.Ended = 0
		m.Timeout = t.maps.InJiffies(sw.snapshot.Load().timeouts.Lasting(f.tuple.Proto))
		ports[0].owner.accounts.lent(m, &r.flow.tuple)
	}
	if t.maps.Insert(d.row.Key, n) != nil {
		m.End()
		if r.routed {
			sw.conntrack.TakeBack(&r.flow.tuple, r.number)
		}
		return nil
	}
	// Lend has put into the entry the counts of before.
	r.packets, r.bytes = m.Packets, m.Bytes
	t.assign(r)
	if !early {
		t.pending = append(t.pending, r)
	}
	return r
}

// settle makes rows ready of whose flows no uncounted frame is under way, and drains
// those that would never be. It reports whether some want to be looked at again.
func (t *flowTable) settle(sw *Switch) bool {
	now := sw.now()
	keep := t.pending[:0]
	for _, r := range t.pending {
		if t.rows[r.row.Key] == r && t.advance(sw, r, now) {
			keep = append(keep, r)
		}
	}
	t.pending = keep
	return len(keep) > 0
}

// advance takes a row one step on.
func (t *flowTable) advance(sw *Switch, r *flowRow, now int64) (again bool) {
	state, p := &t.entry(r).State, r.ports[0].tally
	switch atomic.LoadUint32(state) {
	case flowmap.Pending:
		if !r.settled && now-r.since > int64(flowSettle) {
			r.settled, r.before = true, atomic.LoadUint64(&p.In)
		}
		if r.settled && p.Done() < r.before {
			sw.kernelDrops(r.flow.in) // some of them may be lost
		} else if r.settled {
			r.since, r.lost = now, sw.kernelDrops(r.flow.in)
			return atomic.CompareAndSwapUint32(state, flowmap.Pending, flowmap.Ready)
		}
	case flowmap.Ready:
		switch lost := sw.kernelDrops(r.flow.in) != r.lost; {
		case lost && atomic.CompareAndSwapUint32(state, flowmap.Ready, flowmap.Drain):
			r.since = now
		case now-r.since > int64(flowPatience):
			return false // until it is offered again
		}
	case flowmap.Drain:
		sw.kernelDrops(r.flow.in) // tells the program what was lost since
		if now-r.since > int64(flowDrain) && atomic.CompareAndSwapUint32(state, flowmap.Drain, flowmap.Ready) {
			return false
		}
	default:
		return false
	}
	return true
}

// kernelDrops is KernelDrops of a port that may be gone.
func (s *Switch) kernelDrops(id frame.PortID) uint64 {
	if e := s.ports[id].Load(); e != nil {
		return e.port.KernelDrops()
	}
	return 0
}

// StepFlows enters the flows that were offered and takes the rows one step on. Start has a
// goroutine for it; tests with their own clock call it themselves.
func (s *Switch) StepFlows() {
	t := s.flows
	t.grow()
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.offers) > 0 {
		t.enter(<-t.offers, s, false)
	}
	t.settle(s)
	s.stations.settle(s)
}

// ReapFlows is for tests, too: it gives back the rows of connections that have ended.
func (s *Switch) ReapFlows() { s.flows.reap(s) }
