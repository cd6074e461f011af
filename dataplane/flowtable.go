package dataplane

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// The flow table holds decided flows for the kernel, {match, output}: a program
// looks each frame up before userspace sees it, and carries on those it finds.
// What is looked up are the bytes that the stages decided by, so a frame that
// differs in any of them comes here as before.
//
// A flow never overtakes itself. While its row is pending or ready the frames still
// come here; the program turns it active in the moment when none of them is under
// way any more: port.Account counts what was let through and what was done with. That
// moment never comes while a flow fills its port's ring. Then frames are lost anyway,
// and the row loses all of them until the ring is empty (drain).

// FlowState is who carries the frames of a row on.
type FlowState = uint32

const (
	FlowOff     FlowState = iota // the switch
	FlowPending                  // the switch; frames from before the row may be under way
	FlowReady                    // the switch, until none of the flow's frames is under way
	FlowDrain                    // nobody, until then
	FlowActive                   // the kernel
)

// Flags of a FlowSlot.
const (
	FlowToPeer  = 1 << iota // into the namespace of the output's other end; otherwise out of it
	FlowRewrite             // routed: TTL, MACs, Addrs, Ports, and SeqEnd to Window are kept
	FlowNeedsDF             // IPv4 packets without DF need an identification of their own
	FlowSure                // active for long: no frame of before is under way between two programs
	FlowToStack             // the host's stack has it, as if the output had received it
)

// FlowSlot is one row, in memory that BPF programs read and write. The layout is
// part of the programs in control/kernel.
type FlowSlot struct {
	State   FlowState // written by both sides
	Out     uint32    // ifindex
	LastIn  uint64    // port.Account.In after the last frame that was let through
	Packets uint64    // carried by the kernel, super-packets as one
	Bytes   uint64
	Flags   uint32
	MTU     uint32 // of IP packets; larger ones are left to the switch

	// What FlowRewrite writes, in network order, and what it changes of checksums,
	// as ones' complement sums of words as the machine reads them.
	MACs                       [12]byte // destination, source
	Addrs                      [32]byte // source, destination; IPv4 in the first 8
	Ports                      [4]byte
	L3Diff, AddrDiff, PortDiff uint32

	// Of TCP with FlowRewrite, as the stages keep it for trackTCP: what may move it is
	// no further away than Limit.
	SeqEnd, Ack, Window, Limit uint32
	_                          [12]byte
}

// FlowAccount is port.Account, for the package that shares it with BPF programs.
type FlowAccount = port.Account

// FlowKey is what a row matches, laid out as the programs put it together: bytes
// in network order but for Ifindex. It has no padding.
type FlowKey struct {
	Ifindex  uint32 // where the frame came in
	Proto    uint8  // header.ProtoTCP or ProtoUDP
	_        [3]byte
	MACs     [12]byte // destination, source
	Src, Dst header.Addr
	Ports    [4]byte // source, destination
}

// FlowMaps is the kernel's side of the flow table; control/kernel has it. Safe for
// concurrent use.
type FlowMaps interface {
	// Slots is the memory of all rows, borrowed until the switch is closed.
	Slots() []FlowSlot
	// Port is the counters of a port's interface, nil when the programs do not
	// look at it.
	Port(ifindex uint32) *port.Account
	Insert(k FlowKey, slot uint32) error
	Delete(k FlowKey) error
}

const (
	// flowWorth is how many frames of a flow pass here before it is worth a row:
	// a short connection is over before a system call for it has paid.
	flowWorth = 24
	// flowAgain is after how many more frames it is offered again.
	flowAgain = 1024
	// flowIdle is how long a row may go without a frame.
	flowIdle = 5 * time.Second
	// flowSettle is longer than a program runs: what it had not yet counted before
	// is counted then.
	flowSettle = time.Millisecond
	// flowPatience is how long a ready row is watched for frames that get lost, and
	// flowDrain how long a flow may lose all of them.
	flowPatience = 20 * time.Millisecond
	flowDrain    = 50 * time.Millisecond
)

// flowTable is the rows in use. Workers only send offers; one goroutine, run, and
// the doors of Switch change it.
type flowTable struct {
	maps   FlowMaps
	slots  []FlowSlot
	offers chan flowOffer

	mu      sync.Mutex // guards what follows
	rows    map[FlowKey]*flowRow
	free    []uint32
	resting []uint32 // removed since the last sweep: a program may still hold them
	pending []*flowRow
	frames  uint64       // carried by the kernel
	mirrors *mirrorTable // captures that want to see every frame; nil: none
}

// flowRow is what userspace knows of a row.
type flowRow struct {
	key     FlowKey
	slot    uint32
	in, out frame.PortID
	since   int64  // ns, when it took its state
	seen    int64  // ns, when packets was last found changed
	settled bool   // before is valid
	before  uint64 // port.Account.In when every earlier frame had been counted
	lost    uint64 // frames of the port, when it became ready
	// Read so far.
	packets, bytes uint64
	tuple          header.Tuple // as the frames come in
	routed         bool         // conntrack knows it, otherwise account does
}

func newFlowTable(maps FlowMaps) *flowTable {
	if maps == nil {
		return nil
	}
	t := &flowTable{maps: maps, slots: maps.Slots(), offers: make(chan flowOffer, 256), rows: make(map[FlowKey]*flowRow)}
	for i := range t.slots {
		t.free = append(t.free, uint32(len(t.slots)-1-i))
	}
	return t
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
		case o := <-t.offers:
			t.mu.Lock()
			if t.enter(o, sw) {
				tick.Reset(flowSettle)
			}
			t.mu.Unlock()
		case <-tick.C:
			t.mu.Lock()
			if !t.settle(sw) {
				tick.Stop()
			}
			t.mu.Unlock()
		}
	}
}

// enter writes a row, unless what it was decided by has changed meanwhile. It
// needs mu; Install takes it after the new snapshot stands.
func (t *flowTable) enter(o flowOffer, sw *Switch) bool {
	p := t.maps.Port(o.key.Ifindex)
	if t.mirrors.sees(o.in, o.out) || sw.snapshot.Load() != o.snapshot || p == nil {
		return false
	}
	now := sw.cfg.Now()
	if r := t.rows[o.key]; r != nil && atomic.LoadUint32(&t.slots[r.slot].State) == FlowOff {
		t.remove(sw, r) // it ended, and began anew
	} else if r != nil {
		if r.since = now; !slices.Contains(t.pending, r) {
			t.pending = append(t.pending, r)
		}
		return true
	}
	if len(t.free) == 0 {
		return false
	}
	r := &flowRow{key: o.key, slot: t.free[len(t.free)-1], in: o.in, out: o.out, since: now, seen: now, tuple: o.tuple, routed: o.row.Flags&FlowRewrite != 0}
	m := &t.slots[r.slot]
	*m = o.row
	if r.routed && !sw.conntrack.lend(r, m, &o.to) {
		return false
	}
	atomic.StoreUint32(&m.State, FlowPending)
	if t.maps.Insert(o.key, r.slot) != nil {
		atomic.StoreUint32(&m.State, FlowOff)
		if r.routed {
			sw.conntrack.takeBack(r, m)
		}
		return false
	}
	t.free = t.free[:len(t.free)-1]
	t.rows[o.key] = r
	t.pending = append(t.pending, r)
	return true
}

// settle makes rows ready of whose flows no uncounted frame is under way, and drains
// those that would never be. It reports whether some want to be looked at again.
func (t *flowTable) settle(sw *Switch) bool {
	now := sw.cfg.Now()
	keep := t.pending[:0]
	for _, r := range t.pending {
		if p := t.maps.Port(r.key.Ifindex); p != nil && t.rows[r.key] == r && t.advance(sw, r, p, now) {
			keep = append(keep, r)
		}
	}
	t.pending = keep
	return len(keep) > 0
}

// advance takes a row one step on.
func (t *flowTable) advance(sw *Switch, r *flowRow, p *port.Account, now int64) (again bool) {
	state := &t.slots[r.slot].State
	switch atomic.LoadUint32(state) {
	case FlowPending:
		if !r.settled && now-r.since > int64(flowSettle) {
			r.settled, r.before = true, atomic.LoadUint64(&p.In)
		}
		if r.settled && p.Done() < r.before {
			sw.kernelDrops(r.in) // some of them may be lost
		} else if r.settled {
			r.since, r.lost = now, sw.kernelDrops(r.in)
			atomic.StoreUint32(state, FlowReady)
		}
	case FlowReady:
		switch lost := sw.kernelDrops(r.in) != r.lost; {
		case lost && atomic.CompareAndSwapUint32(state, FlowReady, FlowDrain):
			r.since = now
		case now-r.since > int64(flowPatience):
			return false // until it is offered again
		}
	case FlowDrain:
		sw.kernelDrops(r.in) // tells the program what was lost since
		if now-r.since > int64(flowDrain) && atomic.CompareAndSwapUint32(state, FlowDrain, FlowReady) {
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

// flush gives all flows that match back to the switch.
func (t *flowTable) flush(sw *Switch, match func(*flowRow) bool) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.rows {
		if match(r) {
			t.remove(sw, r)
		}
	}
}

// show keeps the flows of ports that are captured with the switch.
func (t *flowTable) show(sw *Switch, m *mirrorTable) {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.mirrors = m
	t.mu.Unlock()
	t.flush(sw, func(r *flowRow) bool { return m.sees(r.in, r.out) })
}

// sees reports whether a capture copies what comes in at one port or goes out at the
// other.
func (m *mirrorTable) sees(in, out frame.PortID) bool {
	return m != nil && len(m.ports[in])+len(m.ports[out]) > 0
}

// remove ends a row. Its slot rests until no program can hold it any more.
func (t *flowTable) remove(sw *Switch, r *flowRow) {
	atomic.StoreUint32(&t.slots[r.slot].State, FlowOff)
	_ = t.maps.Delete(r.key)
	t.read(sw, r, sw.cfg.Now())
	if r.routed {
		sw.conntrack.takeBack(r, &t.slots[r.slot])
	}
	delete(t.rows, r.key)
	t.resting = append(t.resting, r.slot)
}

// read adds what the kernel carried to the counters of the ports and of the flow. It
// reports whether there was something, and whether the flow still lives.
func (t *flowTable) read(sw *Switch, r *flowRow, now int64) (carried, lives bool) {
	m := &t.slots[r.slot]
	packets, bytes := atomic.LoadUint64(&m.Packets)-r.packets, atomic.LoadUint64(&m.Bytes)-r.bytes
	if packets == 0 {
		return false, true
	}
	r.packets += packets
	r.bytes += bytes
	t.frames += packets
	if e := sw.ports[r.in].Load(); e != nil {
		e.counters[0].rx.Add(packets)
		e.counters[0].rxBytes.Add(bytes)
		if !r.routed {
			e.owner.accounts.carried(r, packets, bytes, now)
		}
	}
	if e := sw.ports[r.out].Load(); e != nil {
		e.counters[0].tx.Add(packets)
		e.counters[0].txBytes.Add(bytes)
	}
	return true, !r.routed || sw.conntrack.carried(r, packets, bytes, now)
}

// sweep reads the counters and ends idle rows.
func (t *flowTable) sweep(sw *Switch, now int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free, t.resting = append(t.free, t.resting...), t.resting[:0]
	for _, r := range t.rows {
		carried, lives := t.read(sw, r, now)
		switch {
		case carried:
			r.seen = now
			t.slots[r.slot].Flags |= FlowSure
			if !lives {
				t.remove(sw, r)
			}
		case now-r.seen > int64(flowIdle):
			t.remove(sw, r)
		}
	}
}

// stats reads the counters.
func (t *flowTable) stats(sw *Switch) (st FlowStats) {
	if t == nil {
		return st
	}
	t.sweep(sw, sw.cfg.Now())
	t.mu.Lock()
	defer t.mu.Unlock()
	st.Rows, st.Frames = len(t.rows), t.frames
	for _, r := range t.rows {
		if atomic.LoadUint32(&t.slots[r.slot].State) == FlowActive {
			st.Active++
		}
	}
	return st
}
