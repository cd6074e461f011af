package dataplane_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// lentFlow is a connection whose two directions have rows: out is the client's.
func lentFlow(t *testing.T) (l *tcpFlow, carried func(bytes uint32), late *func(), out *flowmap.Entry) {
	lab, maps := newFlowLab(t)
	f := &tcpFlow{Lab: lab, port: 5000}
	f.open()
	for range 24 {
		f.pass(true, ACK, 1001, 3001, "")
		f.pass(false, ACK, 3001, 1001, "")
	}
	for _, r := range f.Switch.EnterOffers() {
		if r.Half.SeqEnd == 1001 {
			out = r
		}
	}
	if out == nil || len(maps.Keys) != 2 {
		t.Fatalf("%d keys", len(maps.Keys))
	}
	carried = func(bytes uint32) {
		atomic.AddUint32(&out.Half.SeqEnd, bytes)
		atomic.AddUint64(&out.Packets, 1)
		atomic.AddUint64(&out.Bytes, uint64(bytes))
	}
	return f, carried, &maps.OnWait, out
}

// TestLateProgramIsWaitedFor: a program on another CPU has found a row active and carries
// its segment while the sweep ends the row, so that others have room. The connection learns of the segment: the reset
// after it is exact, and one at the number before is a guess. No other flow gets the entry
// meanwhile.
func TestLateProgramIsWaitedFor(t *testing.T) {
	f, carried, late, out := lentFlow(t)
	runs := 0
	*late = func() {
		if runs++; runs == 1 {
			carried(500)
			if err := f.Switch.CheckEntries(); err == nil {
				t.Error("the entries are free while a program runs")
			}
		}
	}
	packets := f.Switch.Conns()[0].Packets[0]
	f.Advance(2 * time.Second)
	for port := range 24 { // room is needed, and its row is the idlest
		f.Switch.OfferFrame(f.Port("c1"), Bytes(Packet{
			EthSrc: MAC("c1"), EthDst: MAC("c3"), Src: fmt.Sprintf("%s:%d", Stations["c1"], 1000+port), Dst: Stations["c3"] + ":7", Proto: header.ProtoUDP,
		}))
		f.Switch.EnterOffers()
	}
	f.Advance(10 * time.Second)
	if runs == 0 || !out.IsOff() {
		t.Fatalf("waited %d times, off: %v", runs, out.IsOff())
	}
	if err := f.Switch.CheckEntries(); err != nil {
		t.Error(err)
	}
	if c := f.Switch.Conns(); c[0].Packets[0] != packets+1 {
		t.Errorf("%d packets are counted, want %d", c[0].Packets[0], packets+1)
	}
	f.stopped(true, RST|ACK, 1100, 3001)
	f.wantState("established")
	f.pass(true, RST|ACK, 1501, 3001, "")
	f.wantState("transitory")
}

// TestLateProgramTakesNothingBack: a program on another CPU has read a half before the
// switch moved it, and writes it after that. The connection keeps what the switch saw.
func TestLateProgramTakesNothingBack(t *testing.T) {
	for _, reset := range []bool{false, true} {
		f, carried, _, out := lentFlow(t)
		carried(100)
		half := out.Half
		f.pass(true, ACK, 1101, 3001, "too large to be carried")
		if out.Half.SeqEnd != 1124 {
			t.Fatalf("the half ends at %d", out.Half.SeqEnd)
		}
		atomic.StoreUint32(&out.Half.SeqEnd, half.SeqEnd)
		atomic.StoreUint32(&out.Half.Ack, half.Ack)
		atomic.StoreUint32(&out.Half.Edge, half.Edge)
		if reset {
			f.stopped(true, RST|ACK, 1100, 3001)
			f.pass(true, RST|ACK, 1124, 3001, "")
			f.wantState("transitory")
			continue
		}
		f.pass(true, FIN|ACK, 1124, 3001, "")
		f.wantState("client-fin")
		f.pass(false, ACK, 3001, 1125, "") // of all of it
		f.pass(false, RST|ACK, 3001, 1125, "")
		f.wantState("transitory")
	}
}

// TestLostNumbersAreCaughtUp: two programs have moved one half at once, and the numbers of
// one are lost, on both sides of a connection. Each side acknowledges what nobody knows of:
// its segments count, so that ends and resets are noticed. What lies further ahead is a guess.
func TestLostNumbersAreCaughtUp(t *testing.T) {
	const lost = 60_000 // of a window of 65,535
	t.Run("an end", func(t *testing.T) {
		f, _, _, _ := lentFlow(t)
		f.pass(false, FIN|ACK, 3001+lost, 1001+lost, "")
		f.wantState("server-fin")
		f.pass(true, FIN|ACK, 1001+lost, 3002+lost, "")
		f.wantState("closing")
	})
	t.Run("a reset", func(t *testing.T) {
		f, _, _, _ := lentFlow(t)
		f.stopped(true, RST|ACK, 1001+lost, 3001)
		f.pass(false, ACK, 3001+lost, 1001+lost, "")
		f.stopped(true, RST|ACK, 1000+lost, 3001)
		f.pass(true, RST|ACK, 1001+lost, 3001, "")
		f.wantState("transitory")
	})
	t.Run("a guess", func(t *testing.T) {
		f, _, _, out := lentFlow(t)
		half := out.Half
		far := uint32(1002 + 128<<10)
		f.pass(false, FIN|ACK, 3001, far, "")
		f.wantState("established")
		f.stopped(true, RST|ACK, far, 3001)
		if out.Half != half {
			t.Errorf("the half is %+v after a guess, before %+v", out.Half, half)
		}
	})
}

// TestUnprovenBeginnerIsExact: a beginner who has not shown that it hears the answers has to
// acknowledge what was sent to it, not something near.
func TestUnprovenBeginnerIsExact(t *testing.T) {
	l, _ := newFlowLab(t)
	f := &tcpFlow{Lab: l, port: 5000}
	f.pass(true, SYN, 1000, 0, "")
	f.pass(false, SYN|ACK, 3000, 1001, "")
	for _, ack := range []uint32{3002, 3001 + 1000, 3001 + 127<<10} {
		f.pass(true, ACK, 1001, ack, "")
		f.stopped(false, RST, ack, 0)
	}
}
