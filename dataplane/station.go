package dataplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Between stations of a network the programs carry frames from the first one of a flow on, by a
// row for each station (ADR 39). One function decides about a row, station, which asks the same
// as the stages. Every change asks it again for all ports, and rows whose answer is another
// are off before the change's call returns.

// stationPatience is how long all rows that are pending wait for what is under way.
const stationPatience = 20 * time.Millisecond

// stationRows is the rows in use, and what is known of the flows that they carry.
type stationRows struct {
	maps bpfmap.Flows
	rows []flowmap.StationRow

	live   atomic.Int32  // flows that are told
	top    atomic.Int32  // no row in use has this number or a higher one
	begun  atomic.Uint64 // flows by all stations, when firsts was looked at
	firsts atomic.Uint64
	of     [MaxPorts]stationUse

	mu      sync.Mutex // guards what follows
	restore bool       // rows are of a process before, until TakeOver
	used    map[frame.PortID]bool
	placed  map[flowmap.StationKey]uint32
	waits   bool                    // some rows are pending
	since   int64                   // ns, when the last one became so
	before  map[frame.PortID]uint64 // Tally.In of each port some time after that; nil: not yet
	flows   stationFlows            // see stationflow.go
}

func newStationRows(maps bpfmap.Flows, rows []flowmap.StationRow) (*stationRows, error) {
	if maps == nil || len(rows) == 0 {
		return nil, nil
	}
	t := &stationRows{maps: maps, rows: rows, used: make(map[frame.PortID]bool)}
	t.flows.known, t.flows.untold = make(map[flowmap.Key]*stationFlow), make(map[frame.PortID][4]uint64)
	for i := range rows {
		if rows[i].State != flowmap.Off {
			rows[i].Resume()
			t.use(frame.PortID(i))
		}
		if was := untold(&rows[i]); was != [4]uint64{} { // by another process
			t.flows.untold[frame.PortID(i)] = was
		}
	}
	var err error
	t.placed, err = maps.Placed()
	t.restore = len(t.used)+len(t.placed) > 0
	return t, err
}

func (t *stationRows) use(id frame.PortID) {
	t.used[id] = true
	t.top.Store(max(t.top.Load(), int32(id)+1))
}

// station says what the row of a port is to say. ok is false when no frame from it or to it may
// be carried unseen.
func (v *view) station(p *portConfig, c *class) (d flowmap.StationDecision, ok bool) {
	e := v.entries[p.ID].Load()
	if !p.plain || e == nil || e.tally == nil || v.mirrors.sees(p.ID, p.ID) {
		return d, false
	}
	d = flowmap.StationDecision{
		Ifindex: p.Ifindex, Network: uint32(p.Network), Flags: flowmap.StationSends, MTU: uint32(p.network.MTU),
		MAC: p.MAC, Class: c.number(), Reach: c.reach(),
	}
	addrs, speaks := p.own.first, v.speaks
	switch {
	case p.Kind == PortHost:
		addrs, speaks = p.network.gateway, v.hostSpeaks
		d.MAC, d.Flags = p.network.GatewayMAC, d.Flags|flowmap.StationHost
	case p.asked: // it has what passes to and from the host
		d.Class, d.Reach = otherClass, 0
	}
	if v.pinned[fdb.KeyOf(p.Network, 0, d.MAC)] != p.ID {
		return d, false
	}
	if !p.Missed {
		d.Flags |= flowmap.StationReceives
	}
	if wayOut(p, p)&flowmap.ToPeer != 0 {
		d.Flags |= flowmap.StationPeer
	}
	for i, a := range addrs {
		if !speaks(p, a) {
			continue
		}
		if i == 0 {
			d.Addr4 = [4]byte(a[12:])
		} else {
			d.Addr6 = a
		}
	}
	return d, d.Addr4 != [4]byte{} || d.Addr6 != header.Addr{}
}

// speaks reports whether whole packets of TCP and UDP and echoes from an address of a port, to another
// station of the network, are bridged.
func (v *view) speaks(p *portConfig, a header.Addr) bool {
	at := v.stations[a]
	return at != nil && at.port == p.ID && at.mac == p.MAC && v.bridgesFrom(p, p.MAC, a, p.MAC)
}

// hostSpeaks reports the same of an address of the host. Answers are for the host then, by whatever
// port it has spoken, but of one that is published: at every address the programs know it, and
// where one is at this address the stages tell.
func (v *view) hostSpeaks(p *portConfig, a header.Addr) bool {
	return a != (header.Addr{}) && v.isLocal(a) &&
		len(v.publish[publishKey{a, header.ProtoTCP}]) == 0 && len(v.publish[publishKey{a, header.ProtoUDP}]) == 0 &&
		v.bridgesFrom(p, p.network.GatewayMAC, a, someStation)
}

// someStation is a MAC address of a station, whichever.
var someStation = header.MAC{2, 0, 0, 0, 0, 1}

// bridgesFrom asks the stages.
func (v *view) bridgesFrom(p *portConfig, mac header.MAC, a header.Addr, to header.MAC) bool {
	echo := uint8(header.ProtoICMP)
	if !a.Is4() {
		echo = header.ProtoICMPv6
	}
	for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP, echo} {
		id := flowID{in: p.ID, src: mac, dst: to, tuple: header.Tuple{Src: a, Dst: a, Proto: proto, SrcPort: 1, DstPort: 1}}
		f := frame.Frame{In: p.ID, Layers: id.layers()}
		f.Layers.L4, f.Layers.ICMPType = header.EthernetLen+40, 128 // an echo of ICMPv6
		if way, _ := p.wayOf(&f.Layers); way != wayStation || admit(&f, p, v.Snapshot) != NotDropped {
			return false
		}
	}
	return true
}

// plugged asks again when a port is there that the snapshot has named before.
func (t *stationRows) plugged(sw *Switch, id frame.PortID) {
	if sw.snapshot.Load().ports[id] != nil {
		t.renew(sw)
	}
}

// renew asks for all rows. Those whose answer is another end, and when it has returned, no
// program runs with what they have said. The caller has made the change visible and let the
// turns run out that began before it.
func (t *stationRows) renew(sw *Switch) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.restore {
		return
	}
	v := sw.view()
	classes := v.classes()
	want := make(map[frame.PortID]flowmap.StationDecision)
	place := make(map[flowmap.StationKey]uint32)
	for _, p := range v.ports {
		if p == nil {
			continue
		}
		d, ok := v.station(p, classes[p])
		if !ok {
			continue
		}
		want[p.ID] = d
		if d.Addr4 != [4]byte{} {
			place[flowmap.StationKey{Network: d.Network, Addr: header.AddrFrom4(d.Addr4)}] = uint32(p.ID)
		}
		if d.Addr6 != (header.Addr{}) {
			place[flowmap.StationKey{Network: d.Network, Addr: d.Addr6}] = uint32(p.ID)
		}
	}
	t.end(want, place)
	t.begin(sw, want, place)
}

// end takes unwanted rows back, and waits for the programs if there was some.
func (t *stationRows) end(want map[frame.PortID]flowmap.StationDecision, place map[flowmap.StationKey]uint32) {
	ended := false
	for id := range t.used {
		r := &t.rows[id]
		if d, ok := want[id]; !ok || d != r.StationDecision {
			r.Off()
			delete(t.used, id)
			ended = true
		}
	}
	var gone []flowmap.StationKey
	for k, n := range t.placed {
		if m, ok := place[k]; !ok || m != n {
			gone = append(gone, k)
			delete(t.placed, k)
		}
	}
	if len(gone) > 0 {
		_ = t.maps.Displace(gone) // a row tells its address
	}
	if ended {
		t.maps.Wait()
	}
}

// begin enters what is wanted and not there, as pending rows.
func (t *stationRows) begin(sw *Switch, want map[frame.PortID]flowmap.StationDecision, place map[flowmap.StationKey]uint32) {
	entered := false
	more := make(map[flowmap.StationKey]uint32)
	for k, n := range place {
		if _, ok := t.placed[k]; !ok {
			more[k], t.placed[k] = n, n
			if t.used[frame.PortID(n)] { // what came for it so far is nowhere counted
				atomic.StoreUint32(&t.rows[n].State, flowmap.Pending)
				entered = true
			}
		}
	}
	if len(more) > 0 && t.maps.Place(more) != nil {
		for k := range more {
			delete(t.placed, k) // the next change tries again
		}
	}
	for id, d := range want {
		if !t.used[id] {
			t.rows[id].Decide(&d)
			t.use(id)
			entered = true
		}
	}
	if entered {
		t.lend()
		t.settleSoon(sw)
	}
}

// settleSoon has all rows that are pending wait for what is under way by now.
func (t *stationRows) settleSoon(sw *Switch) {
	t.waits, t.since, t.before = true, sw.now(), nil
	select {
	case sw.flows.nudge <- struct{}{}:
	default:
	}
}

// settle makes rows active when no frame is under way that a program let through before it saw
// them: the row of the sender counts what it lets through since. A sender whose frames are still
// under way after stationPatience waits alone. It reports whether some want to be looked at again.
func (t *stationRows) settle(sw *Switch) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.waits {
		return false
	}
	if t.before == nil {
		if sw.now()-t.since <= int64(flowSettle) {
			return true
		}
		t.before = make(map[frame.PortID]uint64)
		for id := range t.used {
			if e := sw.ports[id].Load(); e != nil && e.tally != nil {
				t.before[id] = atomic.LoadUint64(&e.tally.In)
			}
		}
	}
	for id, in := range t.before {
		e := sw.ports[id].Load()
		if e == nil || e.tally == nil {
			continue
		}
		if e.tally.Done() < in {
			e.port.KernelDrops() // some of them may be lost
		}
		if e.tally.Done() < in {
			if sw.now()-t.since <= int64(stationPatience) {
				return true
			}
			t.rows[id].Await(in) // it has more than its turns take: that is no concern of others
		}
	}
	for id := range t.used {
		atomic.CompareAndSwapUint32(&t.rows[id].State, flowmap.Pending, flowmap.Active)
	}
	t.waits = false
	return false
}

// takeOver asks the rows that a process before has left, once all of its ports and networks are
// there again. Until then they stay, and none is entered.
func (t *stationRows) takeOver(sw *Switch) {
	if t == nil {
		return
	}
	t.mu.Lock()
	if t.restore {
		t.restore = false
		t.sweepLocked(sw, sw.now(), false, false)
	}
	t.mu.Unlock()
	t.renew(sw)
}
