package dataplane

import (
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// The programs count the flows between stations in a table of their own, which no flow leaves
// before it was told. The sweep reads it: counters of ports are what flows have counted, and what
// was counted without one.

// stationClosed is how long a connection that both ends have closed, or one has reset, is kept
// for what still comes of it.
const stationClosed = int64(2 * time.Second)

// stationFlows are the flows that were read. A flow keeps its place as long as it is there.
type stationFlows struct {
	known         map[flowmap.Key]*stationFlow
	places        []*stationFlow
	free          []int
	round         int
	begun         uint64                     // by all stations, when the table was read
	untold        map[frame.PortID][4]uint64 // what was read of the counters of a row
	frames, other uint64                     // carried: all, and such of no flow that is told
}

// stationFlow is a flow as the accounts have them. turn is the direction of the key's source in it.
type stationFlow struct {
	bridgedFlow
	read  flowmap.StationFlow // what was read last
	base  [2][2]uint64        // packets and bytes that the switch has passed itself
	since int64               // ns, when the first one was carried
	turn  int
	owner frame.PortID // whose row has begun it
	place int
	round int
}

// sweep reads what the programs have counted, and ends flows that are over. measure says that a
// second has passed.
func (t *stationRows) sweep(sw *Switch, now int64, measure bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.restore {
		return
	}
	if measure {
		t.lost(sw)
	}
	t.sweepLocked(sw, now, measure, true)
}

// lost has the ports say what their rings had no room for, where a row waits for it.
func (t *stationRows) lost(sw *Switch) {
	for id := range t.used {
		e := sw.ports[id].Load()
		r := &t.rows[id]
		if e != nil && e.tally != nil && max(atomic.LoadUint64(&r.LastIn), atomic.LoadUint64(&r.LastUp)) > e.tally.Done() {
			e.port.KernelDrops()
		}
	}
}

// sweepLocked is sweep for who holds mu. fresh says that the counters are of this process.
func (t *stationRows) sweepLocked(sw *Switch, now int64, measure, fresh bool) {
	f := &t.flows
	begun := uint64(0)
	for i := range t.rows[:t.top.Load()] { // also of rows that have ended since
		begun += atomic.LoadUint64(&t.rows[i].Begun)
		t.readUntold(sw, frame.PortID(i), fresh)
	}
	if begun == f.begun && len(f.known) == 0 && fresh {
		return
	}
	f.begun = begun
	f.round++
	ticks, known := t.maps.Ticks()
	at := func(jiffies uint64) int64 {
		if !known {
			return now
		}
		return now - int64(max(0, int32(ticks-uint32(jiffies))))*int64(sw.flows.jiffy)
	}
	var over []flowmap.Key
	err := t.maps.StationFlows(func(k flowmap.Key, m flowmap.StationFlow) {
		e := f.known[k]
		began := e == nil
		if began {
			e = f.enter(k, &m, at(m.Created))
			e.owner = e.ports[0]
			t.of[e.owner].held.Add(1)
		}
		e.round = f.round
		if e.read.Packets != m.Packets {
			f.count(sw, e, &m, fresh)
			e.seen = max(e.seen, at(m.Seen))
		}
		if began && fresh && e.base == [2][2]uint64{} { // nobody has told of it
			sw.bridgedBegun(&e.bridgedFlow)
		}
		if measure {
			e.meter.Note(now, e.created, e.bytes[0]+e.bytes[1])
		}
		if e.over(now) {
			over = append(over, k)
		}
	})
	if err != nil {
		return // the next one tries again
	}
	t.endFlows(sw, over)
	for k, e := range f.known {
		if e.round != f.round { // somebody else has taken it out
			t.leave(sw, k, e)
		}
	}
	if fresh {
		t.endFlows(sw, t.pressed())
	}
	t.live.Store(int32(len(f.known)))
	t.lend()
}

// untold is what a row has counted of flows for which there was no room. It only grows, whoever has
// the row.
func untold(r *flowmap.StationRow) [4]uint64 {
	return [4]uint64{atomic.LoadUint64(&r.Sent), atomic.LoadUint64(&r.SentBytes), atomic.LoadUint64(&r.Got), atomic.LoadUint64(&r.GotBytes)}
}

// readUntold adds to the counters of a port what was carried without a flow that is told.
func (t *stationRows) readUntold(sw *Switch, id frame.PortID, fresh bool) {
	is, was := untold(&t.rows[id]), t.flows.untold[id]
	if is == was {
		return
	}
	t.flows.untold[id] = is
	if !fresh {
		return
	}
	t.flows.frames += is[0] - was[0]
	t.flows.other += is[0] - was[0]
	t.of[id].refused.Add(is[0] - was[0])
	if e := sw.ports[id].Load(); e != nil {
		c := &e.counters[0]
		c.rx.Add(is[0] - was[0])
		c.rxBytes.Add(is[1] - was[1])
		c.tx.Add(is[2] - was[2])
		c.txBytes.Add(is[3] - was[3])
	}
}

// enter makes a flow of the table one that is known.
func (f *stationFlows) enter(k flowmap.Key, m *flowmap.StationFlow, created int64) *stationFlow {
	e := &stationFlow{turn: int(m.Began)}
	e.tuple, e.created, e.seen, e.since = k.Tuple(), created, created, created
	e.ports = [2]frame.PortID{frame.PortID(m.Ports[0]), frame.PortID(m.Ports[1])}
	if e.turn == 1 {
		e.tuple, e.ports = e.tuple.Reverse(), [2]frame.PortID{e.ports[1], e.ports[0]}
	}
	if n := len(f.free); n > 0 {
		e.place, f.free = f.free[n-1], f.free[:n-1]
		f.places[e.place] = e
	} else {
		e.place = len(f.places)
		f.places = append(f.places, e)
	}
	f.known[k] = e
	return e
}

// count takes what the programs have counted since the last time, and what the switch has passed
// itself.
func (f *stationFlows) count(sw *Switch, e *stationFlow, m *flowmap.StationFlow, fresh bool) {
	for i := range 2 {
		packets, bytes := m.Packets[i]-e.read.Packets[i], m.Bytes[i]-e.read.Bytes[i]
		if packets == 0 || !fresh {
			continue
		}
		f.frames += packets
		if from := sw.ports[m.Ports[i]].Load(); from != nil {
			from.counters[0].rx.Add(packets)
			from.counters[0].rxBytes.Add(bytes)
		}
		if to := sw.ports[m.Ports[1-i]].Load(); to != nil {
			to.counters[0].tx.Add(packets)
			to.counters[0].txBytes.Add(bytes)
		}
	}
	e.read = *m
	for _, w := range sw.workers {
		w.accounts.giveTo(e, int64(sw.flows.jiffy))
	}
	for i := range 2 {
		dir := i ^ e.turn
		e.packets[dir], e.bytes[dir] = e.base[dir][0]+m.Packets[i], e.base[dir][1]+m.Bytes[i]
		e.flags[dir] |= m.Flags[i]
	}
}

// giveTo moves what the worker has passed of a flow out of its accounts, so that the flow is told
// once. The elder of both knows who began: within a jiffy, which is as exact as programs tell the time,
// that is the worker, whose frame the other side has answered.
func (a *bridgedFlows) giveTo(e *stationFlow, jiffy int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	o, dir := a.lookup(&e.tuple, a.keys.Pair(&e.tuple))
	if o == nil {
		return
	}
	if dir == 1 && o.created < e.created+jiffy {
		e.tuple, e.ports = o.tuple, o.ports
		e.base, e.flags = [2][2]uint64{e.base[1], e.base[0]}, [2]uint8{e.flags[1], e.flags[0]}
		e.turn ^= 1
		dir = 0
	}
	for i := range 2 {
		e.base[i][0] += o.packets[i^dir]
		e.base[i][1] += o.bytes[i^dir]
		e.flags[i] |= o.flags[i^dir]
	}
	e.created, e.seen = min(e.created, o.created), max(e.seen, o.seen)
	a.held[o.ports[0]].held.Add(-1)
	*o = bridgedFlow{}
}

// over reports whether a flow has ended: it is silent, and for some time if its ends have not
// closed it.
func (e *stationFlow) over(now int64) bool {
	idle := now - e.seen
	return idle >= accountIdle || idle >= stationClosed && e.closed()
}

// endFlows takes flows out of the table and tells them.
func (t *stationRows) endFlows(sw *Switch, over []flowmap.Key) {
	if len(over) == 0 {
		return
	}
	_ = t.maps.EndStationFlows(over)
	for _, k := range over {
		t.leave(sw, k, t.flows.known[k])
	}
	t.live.Store(int32(len(t.flows.known)))
}

func (t *stationRows) leave(sw *Switch, k flowmap.Key, e *stationFlow) {
	f := &t.flows
	t.of[e.owner].held.Add(-1)
	sw.bridgedEnded(&e.bridgedFlow)
	delete(f.known, k)
	f.places[e.place] = nil
	f.free = append(f.free, e.place)
}

// gone ends the flows of a port that is: its number may be another's soon.
func (t *stationRows) gone(sw *Switch, id frame.PortID) {
	if t == nil {
		return
	}
	t.renew(sw)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.restore {
		return
	}
	t.sweepLocked(sw, sw.now(), false, true)
	var over []flowmap.Key
	for k, e := range t.flows.known {
		if e.ports[0] == id || e.ports[1] == id {
			over = append(over, k)
		}
	}
	t.endFlows(sw, over)
}

// each calls fn for the flows from a place on until it returns false, and returns the place of
// the next one, 0 when there is none.
func (t *stationRows) each(from uint32, fn func(e *stationFlow, carries bool) bool) (next uint32) {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := int(from); i < len(t.flows.places); i++ {
		if e := t.flows.places[i]; e != nil && !fn(e, t.carries(e)) {
			return uint32(i)
		}
	}
	return 0
}

// carries reports whether the rows of a flow's stations are active.
func (t *stationRows) carries(e *stationFlow) bool {
	return atomic.LoadUint32(&t.rows[e.ports[0]].State) == flowmap.Active && atomic.LoadUint32(&t.rows[e.ports[1]].State) == flowmap.Active
}

// activity is FlowRows of stations: the flows that are told, and how often one began where there
// was none.
func (t *stationRows) activity() (live int, firsts uint64) {
	if t == nil {
		return 0, 0
	}
	begun := uint64(0)
	for i := range t.rows[:t.top.Load()] {
		begun += atomic.LoadUint64(&t.rows[i].Begun)
	}
	live = int(t.live.Load())
	if t.begun.Swap(begun) != begun && live == 0 {
		t.firsts.Add(1)
	}
	return live, t.firsts.Load()
}

// stats adds what the rows carry.
func (t *stationRows) stats(sw *Switch, st *FlowStats) {
	if t == nil {
		return
	}
	t.sweep(sw, sw.now(), false)
	t.mu.Lock()
	defer t.mu.Unlock()
	st.Stations, st.Between = len(t.used), len(t.flows.known)
	for _, e := range t.flows.known { // by direction, as rows of flows are
		for _, n := range e.read.Packets {
			if n > 0 && t.carries(e) {
				st.Rows++
				st.Active++
			}
		}
	}
	st.Frames += t.flows.frames
	st.Untold = t.flows.other
}
