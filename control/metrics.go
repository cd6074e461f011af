package control

import (
	"cmp"
	"maps"
	"slices"

	"github.com/vswitch/vswitch/control/metrics"
	"github.com/vswitch/vswitch/dataplane"
)

// reading is what a scrape of the metrics tells. It reads each counter once.
func (c *Controller) reading() metrics.Reading {
	st := c.sw.Stats()
	r := metrics.Reading{
		Drops:      make(map[string]uint64, len(st.Drops)),
		FDBLearned: st.FDB.Learned, FDBStatic: st.FDB.Static, FDBMax: st.FDB.Max, FDBMoves: st.FDB.Moves,
		Flows: map[string]int{
			"tcp": st.Conntrack.TCP, "udp": st.Conntrack.UDP, "icmp": st.Conntrack.ICMP, "other": st.Conntrack.Other,
		},
		MaxFlows: st.Conntrack.Max, HalfOpen: st.HalfOpen,
		TableFull: st.Pressure.TableFull, PortsExhausted: st.Pressure.PortsExhausted, Evicted: st.Pressure.Evicted,
		FlowRows: st.Flows.Rows, FlowActive: st.Flows.Active, FlowFrames: st.Flows.Frames,
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
	slots := c.readNames(&r, st)
	for _, a := range slots {
		p := c.sw.NATPorts(a.slot)
		for _, n := range []struct {
			proto string
			dataplane.NATPorts
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

// readNames fills in what the controller knows by name.
func (c *Controller) readNames(r *metrics.Reading, st dataplane.Stats) (slots []natSlot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.Ports = c.viewPortsLocked(st.Ports)
	for _, n := range c.networks {
		if n.ready {
			r.Networks++
		}
	}
	for _, ct := range c.sortedContainersLocked() {
		r.Containers++
		ports := make(map[string]int)
		for _, m := range ct.mappings {
			ports[protoName(m.proto)] += int(m.last-m.first) + 1
		}
		for _, proto := range slices.Sorted(maps.Keys(ports)) {
			r.Published = append(r.Published, metrics.Published{Container: ct.rec.Name, Proto: proto, Ports: ports[proto]})
		}
	}
	if c.relay != nil {
		rs := c.relay.Stats()
		r.RelayTCP, r.RelayUDP, r.RelayMaxTCP, r.RelayMaxUDP = rs.TCP, rs.UDP, rs.MaxTCP, rs.MaxUDP
	}
	if ups := c.world.uplinkConfigs; len(ups) > 0 {
		for addr, slot := range ups[0].Slots { // the same of every uplink
			slots = append(slots, natSlot{addr.String(), slot})
		}
	}
	slices.SortFunc(slots, func(a, b natSlot) int { return cmp.Compare(a.addr, b.addr) })
	return slots
}
