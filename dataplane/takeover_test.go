package dataplane_test

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// another makes another switch of the same world on what the one before has left.
func (w *carriedWorld) another() {
	w.Lab.Restart(w.kernel)
	w.AddPort(secondUplink, porttest.New("up2"))
	w.Switch.SetNeighbors(w.reached)
	w.capture = nil
}

// restart is another switch that has taken over.
func (w *carriedWorld) restart() {
	w.another()
	w.Switch.TakeOver()
}

// tracked are the tracked flows of a switch in an order of their own, times roughly.
func tracked(sw *dataplane.Switch) []conntrack.Info {
	all := slices.DeleteFunc(sw.Flows(), func(f conntrack.Info) bool { return f.Kind == conntrack.KindBridged })
	slices.SortFunc(all, func(a, b conntrack.Info) int {
		return cmp.Or(slices.Compare(a.Orig.Src[:], b.Orig.Src[:]), slices.Compare(a.Orig.Dst[:], b.Orig.Dst[:]),
			cmp.Compare(a.Orig.SrcPort, b.Orig.SrcPort), cmp.Compare(a.Orig.DstPort, b.Orig.DstPort), cmp.Compare(a.Orig.Proto, b.Orig.Proto))
	})
	for i := range all {
		f := &all[i]
		f.Rate, f.Created = 0, 0
		f.Age, f.Idle, f.Expires = f.Age.Round(20*time.Millisecond), f.Idle.Round(20*time.Millisecond), f.Expires.Round(20*time.Millisecond)
	}
	return all
}

// TestTakeOver: the next switch has every flow that the kernel carries, as the one before had
// it, keeps every row, and decides about their frames alike.
func TestTakeOver(t *testing.T) {
	w := newCarriedWorld(t)
	before := make([]told, len(w.flows))
	for range 3 {
		for i, f := range w.flows {
			var ok bool
			if before[i], ok = w.carried(f); !ok {
				t.Fatalf("%s is not carried", f.name)
			}
		}
		w.Tock(100 * time.Millisecond)
	}
	w.Switch.Stats()
	flows, keys := tracked(w.Switch), maps.Clone(w.kernel.Keys)
	for restarts := range 2 {
		w.another()
		for i, f := range w.flows {
			if got, ok := w.carried(f); !ok || got != before[i] {
				t.Errorf("restart %d: %s is not carried as before while nobody has asked", restarts, f.name)
			}
		}
		if kept, ended := w.Switch.TakeOver(); ended != 0 || kept != len(keys) {
			t.Errorf("restart %d: %d rows kept, %d ended, want %d kept", restarts, kept, ended, len(keys))
		}
		if !maps.Equal(w.kernel.Keys, keys) {
			t.Errorf("restart %d: %d keys, before %d, or others", restarts, len(w.kernel.Keys), len(keys))
		}
		if err := w.Switch.CheckEntries(); err != nil {
			t.Errorf("restart %d: %v", restarts, err)
		}
	}
	w.Switch.Stats()
	after := tracked(w.Switch)
	for i := range flows { // carried twice since
		f := &flows[i]
		for d := range f.Packets {
			// No row has counted the frames before the FIN.
			if i < len(after) && (after[i].Packets[d] >= f.Packets[d] || f.State == "client-fin" && d == 0) {
				f.Packets[d], f.Bytes[d] = after[i].Packets[d], after[i].Bytes[d]
			}
		}
	}
	if len(after) != len(flows) {
		t.Fatalf("%d flows, before %d", len(after), len(flows))
	}
	for i := range flows {
		flows[i].Carried = after[i].Carried // by the rows of this process
		if flows[i] != after[i] {
			t.Errorf("a flow is\n%+v, before\n%+v", after[i], flows[i])
		}
	}
	for i, f := range w.flows {
		if got, ok := w.carried(f); !ok || got != before[i] {
			t.Errorf("%s: the kernel's side does another thing", f.name)
		}
		if got := w.stages(f); got != before[i] {
			t.Errorf("%s: the stages do another thing", f.name)
		}
	}
	// Each change finds the rows: all end at once where nothing may pass.
	w.Policy[0].Isolated = true
	w.Config.Ports = slices.DeleteFunc(slices.Clone(w.Config.Ports), func(p dataplane.PortConfig) bool { return p.Kind == dataplane.PortContainer })
	w.Config.Stations, w.Config.Publish = nil, nil
	w.Install()
	if len(w.kernel.Keys) != 0 {
		t.Errorf("%d rows outlive their containers", len(w.kernel.Keys))
	}
	w.Switch.FlushConns(conntrack.Selector{})
	if n := w.Peers.Len(); n != 0 {
		t.Errorf("%d peers are claimed by no flow", n)
	}
	for i, word := range w.Claims {
		if word != 0 {
			t.Fatalf("word %d of the ports in use is %#x at the end", i, word)
		}
	}
}

// TestTakeOverGoesOn: a connection that was taken over is checked as before when its frames come
// to the switch.
func TestTakeOverGoesOn(t *testing.T) {
	for _, f := range Families {
		w := newCarriedWorld(t)
		w.restart()
		segment := func(flags uint8, seq uint32) []byte {
			return Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: f.At("c1", 6006), Dst: f.At(f.World, 443), Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: 903, DF: true})
		}
		n := w.Dropped("c1", dataplane.DropBadReset)
		w.Send("c1", segment(RST, 500))
		w.ExpectNothing()
		if got := w.Dropped("c1", dataplane.DropBadReset) - n; got != 1 {
			t.Errorf("%s: %d of one forged resets were dropped", f.Name, got)
		}
		w.Send("c1", segment(ACK|FIN, 103))
		w.Expect("up")
		if got := states(w.Switch, f.At("c1", 6006), f.At(f.World, 443)); !slices.Equal(got, []string{"client-fin"}) {
			t.Errorf("%s: after the FIN the connection is %v", f.Name, got)
		}
		w.restart() // the answers are still carried
		if got := states(w.Switch, f.At("c1", 6006), f.At(f.World, 443)); !slices.Equal(got, []string{"client-fin"}) {
			t.Errorf("%s: half closed, the connection is %v in the next process", f.Name, got)
		}
	}
}

// states are the states of the TCP flows from one end to another.
func states(sw *dataplane.Switch, from, to string) (list []string) {
	for _, f := range sw.Flows() {
		if endOf(f.Orig.Src, f.Orig.SrcPort) == from && endOf(f.Orig.Dst, f.Orig.DstPort) == to && f.Orig.Proto == header.ProtoTCP {
			list = append(list, f.State)
		}
	}
	return list
}

// TestTakeOverBridged: a bridged flow is told as before, by whoever spoke first, and a row that
// was on its way to the kernel goes on from there.
func TestTakeOverBridged(t *testing.T) {
	l, maps := newFlowLab(t)
	l.Send("c2", Bytes(Packet{EthSrc: MAC("c2"), EthDst: MAC("c1"), Src: "10.1.0.12:7", Dst: "10.1.0.11:5000", Proto: header.ProtoUDP, Payload: []byte("x")}))
	l.Expect("c1")
	chat(l, 30)
	if rows := l.Switch.EnterOffers(); len(rows) != 1 || rows[0].State != flowmap.Pending {
		t.Fatalf("rows %+v", rows)
	}
	l.Restart(maps)
	if kept, ended := l.Switch.TakeOver(); kept != 1 || ended != 0 {
		t.Fatalf("%d rows kept, %d ended", kept, ended)
	}
	if f := l.Switch.Flows(); len(f) != 1 || f[0].Port != l.Port("c2") || f[0].Other != l.Port("c1") {
		t.Errorf("flows %+v", f)
	}
	for range 5 {
		l.Advance(2 * time.Millisecond)
		l.Switch.EnterOffers()
	}
	if rows := l.Switch.EnterOffers(); len(rows) != 1 || rows[0].State != flowmap.Ready {
		t.Errorf("rows %+v", rows)
	}
}

// TestTakeOverRefuses: a row that nobody can have written goes.
func TestTakeOverRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*flowmap.Entry){
		"another key":        func(m *flowmap.Entry) { m.Key.Ports[0]++ },
		"no kind":            func(m *flowmap.Entry) { m.Conn = 0 },
		"a kind that cannot": func(m *flowmap.Entry) { m.Conn |= 0xf },
		"a state of UDP":     func(m *flowmap.Entry) { m.Conn = m.Conn&^0xff0000 | 2<<16 },
		"no such slot":       func(m *flowmap.Entry) { m.Conn |= 0xff00 },
		"no such tenant":     func(m *flowmap.Entry) { m.Holder = 0xffff },
		"ended":              func(m *flowmap.Entry) { m.End() },
	} {
		t.Run(name, func(t *testing.T) {
			w := newCarriedWorld(t)
			i := slices.IndexFunc(w.kernel.Rows, func(m flowmap.Entry) bool {
				return m.Flags&flowmap.Rewrite != 0 && m.Key.Proto == header.ProtoTCP && !m.IsOff()
			})
			// The other direction has no row to tell of it.
			other := &w.kernel.Rows[i^1]
			delete(w.kernel.Keys, other.Key)
			other.End()
			n := len(w.kernel.Keys)
			spoil(&w.kernel.Rows[i])
			w.restart()
			if len(w.kernel.Keys) != n-1 || !w.kernel.Rows[i].IsOff() && name != "another key" {
				t.Errorf("%d rows of %d are left", len(w.kernel.Keys), n)
			}
			if err := w.Switch.CheckEntries(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTakeOverClaims: peers of flows that nobody has taken over stay claimed for a minute, in which
// the container may go on; then they are the host's.
func TestTakeOverClaims(t *testing.T) {
	l, maps := newFlowLab(t)
	for port := range uint16(3) {
		l.Send("c1", UDP("c1", 5000+port, World+":53", "x"))
		l.Expect("up")
	}
	if l.Peers.Len() != 3 {
		t.Fatalf("%d peers are claimed", l.Peers.Len())
	}
	l.Restart(maps)
	l.Neighbor(NextHop, NextHopMAC)
	l.Switch.TakeOver()
	l.Advance(50 * time.Second)
	if l.Peers.Len() != 3 {
		t.Errorf("%d peers are claimed, 50 s after", l.Peers.Len())
	}
	l.Send("c1", UDP("c1", 5001, World+":53", "x"))
	l.Expect("up")
	for range 20 {
		l.Advance(time.Second)
	}
	if l.Peers.Len() != 1 {
		t.Errorf("%d peers are claimed for one flow", l.Peers.Len())
	}
	for range 130 {
		l.Advance(time.Second)
	}
	if l.Peers.Len() != 0 {
		t.Errorf("%d peers are claimed for no flow", l.Peers.Len())
	}
}

// TestHairpinOfBefore: for a minute the host does not reset what a container sends in the middle of a
// connection to a port of masquerade. It gets what is for its own programs, and what begins now:
// it may send that on.
func TestHairpinOfBefore(t *testing.T) {
	for _, f := range Families {
		l := New(t)
		l.DualStack()
		var busy conntrack.BusyPorts
		busy.Set(header.ProtoTCP, 61001)
		l.Switch.SetBusyPorts(&busy)
		toHost := func(port uint16, flags uint8) {
			l.Send("c1", f.From("c1", 80, f.At(f.Host, port), Packet{Proto: header.ProtoTCP, Flags: flags}))
		}
		toHost(61000, ACK)
		l.ExpectDrop("c1", dataplane.DropUnclaimed, 1)
		for _, c := range []struct {
			port  uint16
			flags uint8
		}{{61000, SYN}, {61000, ACK}, {61001, ACK}, {22, ACK}} {
			toHost(c.port, c.flags)
			l.Expect("host1")
		}
		toHost(61002, ACK)
		l.ExpectDrop("c1", dataplane.DropUnclaimed, 2)
		for range 61 {
			l.Tock(time.Second)
		}
		toHost(61002, ACK)
		l.Expect("host1")
	}
}
