package observe

import (
	"cmp"
	"slices"

	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/metrics"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// Reading is what a scrape of the metrics tells. It reads each counter once.
func (o *Observer) Reading() metrics.Reading {
	st := o.sw.Stats()
	r := metrics.Reading{
		Drops:      make(map[string]uint64, len(st.Drops)),
		FDBLearned: st.FDB.Learned, FDBStatic: st.FDB.Static, FDBMax: st.FDB.Max, FDBMoves: st.FDB.Moves,
		Flows: map[string]int{
			"tcp": st.Conntrack.TCP, "udp": st.Conntrack.UDP, "icmp": st.Conntrack.ICMP, "other": st.Conntrack.Other,
		},
		MaxFlows: st.Conntrack.Max, HalfOpen: st.HalfOpen,
		TableFull: st.Pressure.TableFull, PortsExhausted: st.Pressure.PortsExhausted, Evicted: st.Pressure.Evicted,
		FlowRows: st.Flows.Rows, FlowActive: st.Flows.Active, FlowFrames: st.Flows.Frames,
		FlowBetween: st.Flows.Between, FlowUntold: st.Flows.Untold,
		Captures: st.Captures.Running, CaptureLost: st.Captures.Lost,
	}
	for why := dataplane.NotDropped + 1; why < dataplane.NumDropReasons; why++ {
		r.Drops[why.String()] = st.Drops[why]
	}
	for _, size := range dataplane.BatchSizes() {
		r.BatchSizes = append(r.BatchSizes, size)
	}
	for _, w := range st.Workers {
		r.Workers = append(r.Workers, metrics.Worker{
			Turns: w.Turns, Frames: w.Frames, Spins: w.Spins, Sleeps: w.Sleeps, Batches: w.Batches[:],
			Busy: w.Busy, Polling: w.Polling, Asleep: w.Asleep,
		})
	}
	for _, u := range o.readers.Uses() {
		r.Readers = append(r.Readers, metrics.ReaderUse{Kind: u.Kind.String(), Held: u.Held, Bound: u.Bound, Refused: u.Refused})
	}
	room, shares := o.sw.Shares()
	names := o.dir.Now()
	r.Ports = ViewPorts(names, st.Ports)
	r.Shares = ViewShares(names, room, shares)
	slots := readNames(&r, names)
	if o.relay != nil {
		r.Relay = o.relay()
	}
	if o.named != nil {
		r.Names = o.named()
	}
	for _, a := range slots {
		p := o.sw.NATPorts(a.slot)
		for _, n := range []struct {
			proto string
			conntrack.NATPorts
		}{{"tcp", p.TCP}, {"udp", p.UDP}, {"icmp", p.ICMP}} {
			r.NAT = append(r.NAT, metrics.NATPorts{Address: a.addr, Proto: n.proto, Used: n.Used, Free: n.Free})
		}
	}
	return r
}

// natSlot is an address of the host that masquerade uses.
type natSlot struct {
	addr string
	slot int
}

// readNames fills in what has names.
func readNames(r *metrics.Reading, names *directory.Directory) (slots []natSlot) {
	for range names.Networks() {
		r.Networks++
	}
	for ct := range names.Containers() {
		r.Containers++
		for _, p := range ct.Published {
			r.Published = append(r.Published, metrics.Published{Container: ct.Name, Proto: p.Proto, Ports: p.Ports})
		}
	}
	slices.SortStableFunc(r.Published, func(a, b metrics.Published) int { return cmp.Compare(a.Container, b.Container) })
	for addr, slot := range names.Slots() {
		slots = append(slots, natSlot{addr.String(), slot})
	}
	slices.SortFunc(slots, func(a, b natSlot) int { return cmp.Compare(a.addr, b.addr) })
	return slots
}
