package dataplane_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// flowMaps is the kernel's side without the kernel.
type flowMaps struct {
	slots []dataplane.FlowSlot
	port  port.Account
	keys  map[dataplane.FlowKey]uint32
}

func (m *flowMaps) Slots() []dataplane.FlowSlot { return m.slots }
func (m *flowMaps) Port(uint32) *port.Account   { return &m.port }
func (m *flowMaps) Insert(k dataplane.FlowKey, slot uint32) error {
	if _, ok := m.keys[k]; ok {
		return errors.New("inserted twice")
	}
	m.keys[k] = slot
	return nil
}
func (m *flowMaps) Delete(k dataplane.FlowKey) error {
	if _, ok := m.keys[k]; !ok {
		return errors.New("not there")
	}
	delete(m.keys, k)
	return nil
}

func newFlowLab(t *testing.T) (*Lab, *flowMaps) {
	maps := &flowMaps{slots: make([]dataplane.FlowSlot, 64), keys: make(map[dataplane.FlowKey]uint32)}
	l := NewSized(t, 4096, func(cfg *dataplane.Config) { cfg.Flows = maps })
	l.Guard()
	for i := range l.Config.Ports {
		p := &l.Config.Ports[i]
		p.Ifindex = 100 + uint32(p.ID)
	}
	l.Install()
	return l, maps
}

// chat sends n datagrams of c1 to c2.
func chat(l *Lab, n int) {
	for range n {
		l.Send("c1", Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("c2"), Src: "10.1.0.11:5000", Dst: "10.1.0.12:7", Proto: header.ProtoUDP, Payload: []byte("x")}))
		l.Expect("c2")
	}
}

func TestFlowIsOfferedWhenItGoesOn(t *testing.T) {
	l, maps := newFlowLab(t)
	chat(l, 23)
	if rows := l.Switch.EnterOffers(); len(rows) != 0 {
		t.Errorf("%d rows after 23 frames", len(rows))
	}
	chat(l, 1)
	rows := l.Switch.EnterOffers()
	if len(rows) != 1 || rows[0].State != dataplane.FlowPending || rows[0].Out != 100+uint32(l.Port("c2")) || rows[0].MTU != 1500 {
		t.Fatalf("rows %+v", rows)
	}
	// Frames from before may be under way: 3 were let through, 1 is done with.
	maps.port.In, maps.port.Taken = 3, 1
	l.Advance(2 * time.Millisecond)
	l.Switch.EnterOffers()
	if l.Switch.EnterOffers(); rows[0].State != dataplane.FlowPending {
		t.Errorf("state %d with two frames under way", rows[0].State)
	}
	maps.port.Taken, maps.port.Lost = 2, 1
	if l.Switch.EnterOffers(); rows[0].State != dataplane.FlowReady {
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
	if f := l.Switch.Flows(); len(f) != 1 || f[0].Packets != [2]uint64{34, 0} || f[0].Kind != dataplane.ConnBridged {
		t.Errorf("flows %+v", f)
	}
	if after.Flows.Frames != 10 || after.Flows.Rows != 1 {
		t.Errorf("flow table %+v", after.Flows)
	}
	// Idle rows end.
	l.Advance(4 * time.Second)
	if len(maps.keys) != 1 {
		t.Error("the row ended early")
	}
	l.Advance(4 * time.Second)
	if len(maps.keys) != 0 || rows[0].State != dataplane.FlowOff {
		t.Errorf("idle for 8 s: %d keys, state %d", len(maps.keys), rows[0].State)
	}
}

// TestFlowsComeBack: whatever may change a decision gives the flows back.
func TestFlowsComeBack(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(l *Lab)
	}{
		{"a snapshot", func(l *Lab) { l.Install() }},
		{"a capture", func(l *Lab) {
			if _, err := l.Switch.OpenCapture(dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c1")}}); err != nil {
				l.T.Fatal(err)
			}
		}},
		{"a port that goes", func(l *Lab) { _ = l.Switch.RemovePort(l.Port("c2")) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, maps := newFlowLab(t)
			chat(l, 24)
			rows := l.Switch.EnterOffers()
			if len(rows) != 1 || len(maps.keys) != 1 {
				t.Fatalf("%d rows", len(rows))
			}
			tc.do(l)
			if len(maps.keys) != 0 || rows[0].State != dataplane.FlowOff {
				t.Errorf("%d keys, state %d", len(maps.keys), rows[0].State)
			}
		})
	}
	t.Run("an offer of an older snapshot", func(t *testing.T) {
		l, maps := newFlowLab(t)
		chat(l, 24)
		l.Install()
		if l.Switch.EnterOffers(); len(maps.keys) != 0 {
			t.Error("it was entered")
		}
	})
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
			if l.Switch.EnterOffers(); len(maps.keys) != 0 {
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
	if len(rows) != 2 || len(maps.keys) != 2 {
		t.Fatalf("%d rows of two directions", len(rows))
	}
	var out, back *dataplane.FlowSlot
	for _, r := range rows {
		if r.SeqEnd == 1001 {
			out = r
		} else {
			back = r
		}
	}
	if out == nil || back == nil || out.Ack != 3001 || back.SeqEnd != 3001 || back.Ack != 1001 || out.Limit < 1<<20 {
		t.Fatalf("rows %+v, %+v", out, back)
	}
	// The server sends 3 GB, more than half of the sequence space.
	end := uint32(3001)
	end += 3 << 30
	atomic.StoreUint32(&back.SeqEnd, end)
	atomic.StoreUint32(&out.Ack, end)
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
	if back.SeqEnd != end+4 {
		t.Errorf("the row was not told of what came here: %d, want %d", back.SeqEnd, end+4)
	}
	f.pass(true, FIN|ACK, 1001, end+4, "")
	f.wantState("client-fin")
	f.pass(false, RST|ACK, end+4, 1002, "")
	f.wantState("transitory")
}

// TestFlushedFlowsComeBack: the rows of forgotten flows go with them, and an idle flow
// keeps what its rows have learned.
func TestFlushedFlowsComeBack(t *testing.T) {
	l, maps := newFlowLab(t)
	f := &tcpFlow{Lab: l, port: 5000}
	f.open()
	for range 24 {
		f.pass(true, ACK, 1001, 3001, "")
	}
	rows := l.Switch.EnterOffers()
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	atomic.StoreUint32(&rows[0].SeqEnd, 500_000)
	l.Advance(10 * time.Second) // idle
	if len(maps.keys) != 0 {
		t.Fatal("the idle row is there")
	}
	f.stopped(true, RST|ACK, 1002, 3001) // 1001 is what the server has acknowledged
	f.pass(true, RST|ACK, 500_000, 3001, "")

	f.open()
	for range 1100 {
		f.pass(true, ACK, 1001, 3001, "")
	}
	if l.Switch.EnterOffers(); len(maps.keys) != 1 {
		t.Fatalf("%d keys", len(maps.keys))
	}
	l.Switch.FlushConns(func(dataplane.ConnInfo) bool { return true })
	if len(maps.keys) != 0 {
		t.Error("the row outlived its flow")
	}
}
