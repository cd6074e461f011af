package dataplane_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

func newFlowLab(t *testing.T) (*Lab, *flowtest.Kernel) { return NewWithKernel(t, 4096, 64) }

// chat sends n datagrams of c1 to c2.
func chat(l *Lab, n int) {
	for range n {
		l.Send("c1", chatFrame())
		l.Expect("c2")
	}
}

func chatFrame() []byte {
	return Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("c2"), Src: "10.1.0.11:5000", Dst: "10.1.0.12:7", Proto: header.ProtoUDP, Payload: []byte("x")})
}

func TestFlowIsOfferedWhenItGoesOn(t *testing.T) {
	l, maps := newFlowLab(t)
	chat(l, 7)
	if rows := l.Switch.EnterOffers(); len(rows) != 0 {
		t.Errorf("%d rows after 7 frames", len(rows))
	}
	chat(l, 1)
	rows := l.Switch.EnterOffers()
	if len(rows) != 1 || rows[0].State != flowmap.Pending || rows[0].Out != 100+uint32(l.Port("c2")) || rows[0].MTU != 1500 {
		t.Fatalf("rows %+v", rows)
	}
	// Frames from before may be under way: 3 were let through, 1 is done with.
	maps.Tally(100+uint32(l.Port("c1"))).In, maps.Tally(100+uint32(l.Port("c1"))).Taken = 3, 1
	l.Advance(2 * time.Millisecond)
	l.Switch.EnterOffers()
	if l.Switch.EnterOffers(); rows[0].State != flowmap.Pending {
		t.Errorf("state %d with two frames under way", rows[0].State)
	}
	maps.Tally(100+uint32(l.Port("c1"))).Taken, maps.Tally(100+uint32(l.Port("c1"))).Lost = 2, 1
	if l.Switch.EnterOffers(); rows[0].State != flowmap.Ready {
		t.Errorf("state %d with none under way", rows[0].State)
	}
	// What the kernel carries is counted.
	before := l.Switch.Stats()
	atomic.StoreUint64(&rows[0].Packets, 10)
	atomic.StoreUint64(&rows[0].Bytes, 1000)
	after := l.Switch.Stats()
	for i := range after.Ports {
		a, b := after.Ports[i], before.Ports[i]
		switch a.ID {
		case l.Port("c1"):
			if a.Rx-b.Rx != 10 || a.RxBytes-b.RxBytes != 1000 {
				t.Errorf("c1 received %d frames, %d bytes more", a.Rx-b.Rx, a.RxBytes-b.RxBytes)
			}
		case l.Port("c2"):
			if a.Tx-b.Tx != 10 || a.TxBytes-b.TxBytes != 1000 {
				t.Errorf("c2 sent %d frames, %d bytes more", a.Tx-b.Tx, a.TxBytes-b.TxBytes)
			}
		}
	}
	if f := l.Switch.Flows(); len(f) != 1 || f[0].Packets != [2]uint64{18, 0} || f[0].Kind != conntrack.KindBridged {
		t.Errorf("flows %+v", f)
	}
	if after.Flows.Frames != 10 || after.Flows.Rows != 1 {
		t.Errorf("flow table %+v", after.Flows)
	}
	// The row ends with its flow.
	l.Advance(299 * time.Second)
	if len(maps.Keys) != 1 {
		t.Error("the row ended early")
	}
	l.Advance(4 * time.Second)
	if len(maps.Keys) != 0 || rows[0].State != flowmap.Off {
		t.Errorf("idle for 303 s: %d keys, state %d", len(maps.Keys), rows[0].State)
	}
}

// TestManyFlowsAreOffered: of flows that take turns each is offered when it has gone on for long
// enough, however many there are, also when they are due all at once.
func TestManyFlowsAreOffered(t *testing.T) {
	const flows = 3000
	l, maps := NewWithKernel(t, 4096, 2*flows)
	for n := range 26 {
		for i := range flows {
			l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("c2"), Src: fmt.Sprintf("10.1.0.11:%d", 5000+i), Dst: "10.1.0.12:7", Proto: header.ProtoUDP}))
			if n >= 23 && i%200 == 0 { // the goroutine that enters them takes turns as well
				l.Switch.EnterOffers()
			}
		}
		l.Advance(20 * time.Millisecond)
	}
	l.Switch.EnterOffers()
	if len(maps.Keys) < flows*99/100 {
		t.Errorf("%d of %d flows were entered", len(maps.Keys), flows)
	}
}

// TestRowsAreAskedAgain: a change ends the rows whose answer it changes, before the
// call returns, and no others.
func TestRowsAreAskedAgain(t *testing.T) {
	for _, tc := range []struct {
		name  string
		stays bool
		do    func(l *Lab)
	}{
		{"the same snapshot", true, func(l *Lab) { l.Install() }},
		{"another container's port", true, func(l *Lab) { l.Publish(8080, "c3", 80) }},
		{"a route", true, func(l *Lab) {
			l.Config.Routes = append(l.Config.Routes, dataplane.RouteConfig{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Kind: dataplane.RouteUnreachable})
			l.Install()
		}},
		{"a next hop", true, func(l *Lab) { l.Neighbor("198.51.100.10", MAC("c5")) }},
		{"a container that is not guarded any more", false, func(l *Lab) {
			l.Configure("c1", func(p *dataplane.PortConfig) { p.Guarded = false })
		}},
		{"containers kept apart", false, func(l *Lab) { l.Policy[0].Isolated = true; l.Install() }},
		{"another MTU", false, func(l *Lab) { l.Config.Networks[0].MTU = 1400; l.Install() }},
		{"a queue at the cable", false, func(l *Lab) {
			l.Configure("c2", func(p *dataplane.PortConfig) { p.Queued = true })
		}},
		{"a filter at the cable that sees nothing of what is carried", false, func(l *Lab) {
			l.Configure("c2", func(p *dataplane.PortConfig) { p.Missed = true })
		}},
		{"such a filter at the cable of the sender", true, func(l *Lab) {
			l.Configure("c1", func(p *dataplane.PortConfig) { p.Missed = true })
		}},
		{"another interface", false, func(l *Lab) {
			l.Configure("c1", func(p *dataplane.PortConfig) { p.Ifindex = 99 })
		}},
		{"the sender's address is another's", false, func(l *Lab) {
			l.Config.Stations = slices.DeleteFunc(l.Config.Stations, func(h dataplane.StationConfig) bool { return h.Addr.String() == "10.1.0.11" })
			l.Install()
		}},
		{"a capture", false, func(l *Lab) {
			if _, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c1")}}); err != nil {
				l.T.Fatal(err)
			}
		}},
		{"a capture of another", true, func(l *Lab) {
			if _, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c3")}}); err != nil {
				l.T.Fatal(err)
			}
		}},
		{"a port that goes", false, func(l *Lab) { _ = l.Switch.RemovePort(l.Port("c2")) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, maps := newFlowLab(t)
			chat(l, 24)
			rows := l.Switch.EnterOffers()
			if len(rows) != 1 || len(maps.Keys) != 1 {
				t.Fatalf("%d rows", len(rows))
			}
			maps.Waits = 0
			tc.do(l)
			if stays := len(maps.Keys) == 1 && rows[0].State == flowmap.Pending; stays != tc.stays {
				t.Errorf("%d keys, state %d", len(maps.Keys), rows[0].State)
			}
			if !tc.stays && maps.Waits == 0 {
				t.Error("nobody waited for the programs that run")
			}
		})
	}
}

// TestOffersAreDecidedLate: what is entered is what holds then, not what held when the
// flow was offered.
func TestOffersAreDecidedLate(t *testing.T) {
	l, _ := newFlowLab(t)
	chat(l, 24)
	l.Config.Networks[0].MTU = 1400
	l.Install()
	if rows := l.Switch.EnterOffers(); len(rows) != 1 || rows[0].MTU != 1400 {
		t.Errorf("rows %+v", rows)
	}
	l, maps := newFlowLab(t)
	chat(l, 24)
	l.Policy[0].Isolated = true
	l.Install()
	if l.Switch.EnterOffers(); len(maps.Keys) != 0 {
		t.Error("a flow was entered that is not allowed")
	}
}

// TestFlowsThatStay: flows that the kernel's programs could not hold to the rules are
// never offered.
func TestFlowsThatStay(t *testing.T) {
	for name, change := range map[string]func(*dataplane.PortConfig){
		"an unguarded port":       func(p *dataplane.PortConfig) { p.Guarded = false },
		"a port in a VLAN":        func(p *dataplane.PortConfig) { p.VLAN = 5 },
		"a trunk":                 func(p *dataplane.PortConfig) { p.Trunk = []dataplane.VLANRange{{First: 7, Last: 8}} },
		"a port without a number": func(p *dataplane.PortConfig) { p.Ifindex = 0 },
	} {
		t.Run(name, func(t *testing.T) {
			l, maps := newFlowLab(t)
			l.Configure("c1", change)
			for range 30 {
				l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("c2"), Src: "10.1.0.11:5000", Dst: "10.1.0.12:7", Proto: header.ProtoUDP, Payload: []byte("x")}))
			}
			if l.Switch.EnterOffers(); len(maps.Keys) != 0 {
				t.Error("its flow was entered")
			}
		})
	}
}

// TestLentFlowKeepsItsWindow: while the kernel carries a connection, what decides
// about resets moves on with it (N-30).
func TestLentFlowKeepsItsWindow(t *testing.T) {
	l, maps := newFlowLab(t)
	f := &tcpFlow{Lab: l, port: 5000}
	f.open()
	for range 24 {
		f.pass(true, ACK, 1001, 3001, "")
		f.pass(false, ACK, 3001, 1001, "")
	}
	rows := l.Switch.EnterOffers()
	if len(rows) != 2 || len(maps.Keys) != 2 {
		t.Fatalf("%d rows of two directions", len(rows))
	}
	var out, back *flowmap.Entry
	for _, r := range rows {
		if r.Half.SeqEnd == 1001 {
			out = r
		} else {
			back = r
		}
	}
	if out == nil || back == nil || out.Half.Ack != 3001 || back.Half.SeqEnd != 3001 || back.Half.Ack != 1001 || out.Half.Edge <= 3001 {
		t.Fatalf("rows %+v, %+v", out, back)
	}
	// The server sends 3 GB, more than half of the sequence space.
	end := uint32(3001)
	end += 3 << 30
	atomic.StoreUint32(&back.Half.SeqEnd, end)
	atomic.StoreUint32(&out.Half.Ack, end)
	atomic.StoreUint32(&out.Half.Edge, end+out.Half.Window)
	atomic.StoreUint64(&back.Packets, 50000)
	atomic.StoreUint64(&out.Packets, 20000)
	l.Advance(time.Second)
	if c := l.Switch.Conns(); len(c) != 1 || c[0].Packets[0]+c[0].Packets[1] < 70000 {
		t.Errorf("conns %+v", c)
	}
	f.stopped(false, RST|ACK, 3001, 1001)
	f.stopped(false, RST|ACK, end-1, 1001)
	f.wantState("established")
	f.pass(false, ACK, end, 1001, "more")
	if back.Half.SeqEnd != end+4 {
		t.Errorf("the row was not told of what came here: %d, want %d", back.Half.SeqEnd, end+4)
	}
	f.pass(true, FIN|ACK, 1001, end+4, "")
	f.wantState("client-fin")
	f.pass(false, RST|ACK, end+4, 1002, "")
	f.wantState("transitory")
}

// TestFlushedFlowsComeBack: the rows of forgotten flows go with them, and a flow keeps what its
// rows have learned.
func TestFlushedFlowsComeBack(t *testing.T) {
	l, maps := newFlowLab(t)
	f := &tcpFlow{Lab: l, port: 5000}
	f.open()
	rows := l.Switch.EnterOffers()
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	out := rows[0]
	if out.Key.Side == 0 { // the uplink's
		out = rows[1]
	}
	atomic.StoreUint32(&out.Half.SeqEnd, 500_000)
	l.Neighbor(NextHop, MAC("c5"))
	l.Neighbor(NextHop, NextHopMAC)
	if len(maps.Keys) != 1 { // what comes in has another next hop
		t.Fatal("the row outlived a change")
	}
	f.stopped(true, RST|ACK, 1002, 3001) // 1001 is what the server has acknowledged
	f.pass(true, RST|ACK, 500_000, 3001, "")

	l.Switch.ReapFlows()
	l.Switch.Sweep()
	f.open()
	if l.Switch.EnterOffers(); len(maps.Keys) != 2 {
		t.Fatalf("%d keys", len(maps.Keys))
	}
	l.Switch.FlushConns(conntrack.Selector{})
	if len(maps.Keys) != 0 {
		t.Error("the row outlived its flow")
	}
}
