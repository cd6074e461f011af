package dataplane_test

import (
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// What the tables say of themselves is what is in them.
func TestStatsOfTables(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	l.Send("c1", UDP("c1", 5000, web, "x"))
	l.Send("c1", UDP("c1", 5001, web, "x"))
	l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, ""))
	st := l.Switch.Stats()
	if c := st.Conntrack; c.UDP != 2 || c.TCP != 1 || c.ICMP != 0 || c.Other != 0 || st.Conns != 3 || c.Max != 4096 {
		t.Errorf("conntrack %+v of %d flows, want 2 of UDP and 1 of TCP", c, st.Conns)
	}
	learned, static := 0, 0
	for _, e := range l.Switch.FDB() {
		if e.Static {
			static++
		} else {
			learned++
		}
	}
	if f := st.FDB; f.Learned != learned || f.Static != static || static == 0 || f.Max != 64 {
		t.Errorf("FDB %+v, want %d learned and %d static", f, learned, static)
	}
	if l.Switch.FlushConns(conntrack.Selector{}) != 3 || l.Switch.Stats().Conntrack != (conntrack.Stats{Max: 4096}) {
		t.Errorf("after a flush: %+v", l.Switch.Stats().Conntrack)
	}
	turns := uint64(0)
	for _, w := range st.Workers {
		turns += w.Turns
	}
	if turns != 3 {
		t.Errorf("%d turns, want 3: one for each frame", turns)
	}
}

func TestStatsOfCaptures(t *testing.T) {
	l := New(t)
	c, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c1")}, BufferBytes: 132_000})
	if err != nil {
		t.Fatal(err)
	}
	for range 500 {
		l.Send("c1", UDP("c1", 5000, web, strings.Repeat("x", 1000)))
	}
	lost := c.Dropped()
	if got := l.Switch.Stats().Captures; got.Running != 1 || got.Lost != lost || lost == 0 {
		t.Errorf("got %+v, want one running that lost %d", got, lost)
	}
	c.Close()
	c.Close()
	if got := l.Switch.Stats().Captures; got.Running != 0 || got.Lost != lost {
		t.Errorf("after its end got %+v, want %d lost", got, lost)
	}
}

// What the kernel lost before a port could be read is counted there.
func TestStatsOfKernelDrops(t *testing.T) {
	l := New(t)
	l.Memory("c1").AddKernelDrops(7)
	for _, p := range l.Switch.Stats().Ports {
		want := uint64(0)
		if p.ID == l.Port("c1") {
			want = 7
		}
		if p.KernelDrops != want {
			t.Errorf("port %d: %d frames lost in the kernel, want %d", p.ID, p.KernelDrops, want)
		}
	}
}
