package dataplane_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// askedPort is a port that tells when it is asked what its kernel's side has lost.
type askedPort struct {
	*porttest.Port
	asked func()
}

func (p askedPort) KernelDrops() uint64 {
	p.asked()
	return p.Port.KernelDrops()
}

// TestEndedRowStaysOff: a row that is turned off while the table takes it a step on is
// not turned on again.
func TestEndedRowStaysOff(t *testing.T) {
	l, _ := newFlowLab(t)
	id := l.Port("c1")
	if err := l.Switch.RemovePort(id); err != nil {
		t.Fatal(err)
	}
	var row *flowmap.Entry
	asked := func() {
		if row != nil { // by the end of the connection
			atomic.StoreUint32(&row.State, flowmap.Off)
		}
	}
	l.AddPort(id, askedPort{porttest.New("c1"), asked})
	l.Switch.OfferFrame(id, chatFrame())
	rows := l.Switch.EnterOffers()
	if len(rows) != 1 || rows[0].State != flowmap.Pending {
		t.Fatalf("rows %+v", rows)
	}
	row = rows[0]
	l.Advance(2 * time.Millisecond)
	l.Switch.EnterOffers()
	if row.State != flowmap.Off {
		t.Errorf("state %d of a row that was turned off", row.State)
	}
}

// TestEntryRests: the entry of a row that has ended is no other row's while a program may
// still hold its number, however often somebody asks for the counters meanwhile.
func TestEntryRests(t *testing.T) {
	l, maps := NewWithKernel(t, 4096, 2)
	offer := func() []*flowmap.Entry {
		l.Switch.OfferFrame(l.Port("c1"), chatFrame())
		return l.Switch.EnterOffers()
	}
	rows := offer()
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	was := rows[0].Generation
	rows[0].State = flowmap.Off
	maps.Waits = 0
	for range 3 {
		l.Switch.Stats()
	}
	if rows = offer(); len(rows) > 0 && maps.Waits == 0 {
		t.Errorf("the entry is generation %d after %d, and nobody has waited", rows[0].Generation, was)
	}
	l.Advance(time.Second)
	l.Advance(time.Second)
	if rows = offer(); len(rows) != 1 || rows[0].Generation != was+1 {
		t.Errorf("rows %+v after the rest", rows)
	}
}

// TestClosedFlowLosesItsRow: the program that turns a row active does not see that the
// flow's end has turned it off in the same moment. The sweep does.
func TestClosedFlowLosesItsRow(t *testing.T) {
	l, maps := newFlowLab(t)
	f := &tcpFlow{Lab: l, port: 5000}
	f.open()
	rows := l.Switch.EnterOffers()
	if len(rows) != 2 {
		t.Fatalf("%d rows", len(rows))
	}
	f.pass(false, RST|ACK, 3001, 1001, "")
	f.wantState("transitory")
	if rows[0].State != flowmap.Off {
		t.Fatalf("state %d after the reset", rows[0].State)
	}
	atomic.StoreUint32(&rows[0].State, flowmap.Active)
	atomic.StoreUint64(&rows[0].Packets, 10)
	l.Advance(time.Second)
	if len(maps.Keys) != 0 || rows[0].State != flowmap.Off {
		t.Errorf("%d keys, state %d", len(maps.Keys), rows[0].State)
	}
}

// TestFlowThatTakesOver: what a container sends to a service of the host has no
// connection, and no row where masquerade may give the port to another container: one whose answers look
// the same then has them.
func TestFlowThatTakesOver(t *testing.T) {
	l, maps := newFlowLab(t)
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 20000, Last: 20000}}
	l.Publish(8080, "c1", 80)
	answer := Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("host1"), Src: "10.1.0.11:80", Dst: HostAddr + ":20000", Proto: header.ProtoUDP, DF: true, Payload: []byte("x")})
	l.Switch.OfferFrame(l.Port("c1"), answer)
	l.Switch.EnterOffers()
	maps.Activate()
	carry := func() (uint32, bool) {
		m := maps.Meet(flowtest.Cable, l.Ifindex(l.Port("c1")), true, answer, 0)
		return m.Out, m.Out != 0
	}
	if out, ok := carry(); ok {
		t.Fatalf("carried out of interface %d", out)
	}
	l.Send("c2", Bytes(Packet{EthSrc: MAC("c2"), EthDst: MAC("host1"), Src: "10.1.0.12:5000", Dst: HostAddr + ":8080", Proto: header.ProtoUDP, DF: true, Payload: []byte("x")}))
	l.Expect("c1")
	l.Advance(time.Second)
	if out, ok := carry(); ok {
		t.Errorf("the answer to c2 is carried out of interface %d", out)
	}
	l.Send("c1", answer)
	l.Expect("c2")
}
