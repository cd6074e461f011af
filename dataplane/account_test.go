package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// onLink is a packet of a container to another of its network.
func onLink(from, to string, p Packet) []byte {
	p.EthSrc, p.EthDst = MAC(from), MAC(to)
	return Bytes(p)
}

func udpBetween(from, to, src, dst string) []byte {
	return onLink(from, to, Packet{Src: src, Dst: dst, Proto: header.ProtoUDP, Payload: []byte("hello")})
}

// flow is the one flow there is.
func flow(t *testing.T, l *Lab) conntrack.Info {
	t.Helper()
	list := l.Switch.Flows()
	if len(list) != 1 {
		t.Fatalf("%d flows, want 1: %+v", len(list), list)
	}
	return list[0]
}

func TestBridgedFlowsAreCounted(t *testing.T) {
	l := New(t)
	ask, answer := udpBetween("c1", "c2", "10.1.0.11:5000", "10.1.0.12:80"), udpBetween("c2", "c1", "10.1.0.12:80", "10.1.0.11:5000")
	l.Send("c1", ask)
	if f := flow(t, l); f.State != "unreplied" || f.Packets != [2]uint64{1, 0} || f.Kind != conntrack.KindBridged {
		t.Errorf("after one packet: %+v", f)
	}
	l.Advance(3 * time.Second)
	for range 3 {
		l.Send("c2", answer)
	}
	l.Send("c1", ask)
	l.Advance(time.Second)
	f := flow(t, l)
	if f.Packets != [2]uint64{2, 3} || f.Bytes != [2]uint64{uint64(2 * len(ask)), uint64(3 * len(answer))} {
		t.Errorf("counted %v packets, %v bytes", f.Packets, f.Bytes)
	}
	if f.State != "replied" || f.Port != l.Port("c1") || f.Other != l.Port("c2") || f.Orig.SrcPort != 5000 || f.Orig.DstPort != 80 {
		t.Errorf("listed as %+v", f)
	}
	if f.Age != 4*time.Second || f.Idle != time.Second {
		t.Errorf("age %s, idle %s, want 4s and 1s", f.Age, f.Idle)
	}
	if want := uint64(len(ask) + 3*len(answer)); f.Rate != want {
		t.Errorf("rate %d, want %d bytes in the last second", f.Rate, want)
	}
	l.Advance(time.Second)
	if f := flow(t, l); f.Rate != 0 {
		t.Errorf("rate %d of an idle flow", f.Rate)
	}
	l.Advance(time.Minute)
	if list := l.Switch.Flows(); len(list) != 0 {
		t.Errorf("after a minute: %+v", list)
	}
}

// What is flooded, and what has no addresses, is nobody's flow; the host's
// packets are.
func TestWhatIsNoFlow(t *testing.T) {
	l := New(t)
	l.Send("c1", l2(MAC("c2"), MAC("c1"), "no IP at all"))
	l.Send("c1", WhoHas("c1", "10.1.0.99"))
	b := Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.Broadcast, Src: "10.1.0.11:5000", Dst: "10.1.0.255:80", Proto: header.ProtoUDP})
	l.Send("c1", b)
	if list := l.Switch.Flows(); len(list) != 0 {
		t.Errorf("listed %+v", list)
	}
	l = New(t)
	l.Send("c1", onLink("c1", "host1", Packet{Src: "10.1.0.11:5000", Dst: "10.1.0.1:53", Proto: header.ProtoUDP}))
	l.Expect("host1")
	if f := flow(t, l); f.Other != l.Port("host1") {
		t.Errorf("to the host: %+v", f)
	}
}

func TestBridgedTCPStates(t *testing.T) {
	l := New(t)
	send := func(from, to, src, dst string, flags uint8) string {
		l.Send(from, onLink(from, to, Packet{Src: src, Dst: dst, Proto: header.ProtoTCP, Flags: flags}))
		return flow(t, l).State
	}
	a, b := "10.1.0.11:5000", "10.1.0.12:80"
	for i, step := range []struct {
		from, to, src, dst string
		flags              uint8
		want               string
	}{
		{"c1", "c2", a, b, SYN, "init"},
		{"c2", "c1", b, a, SYN | ACK, "established"},
		{"c1", "c2", a, b, ACK, "established"},
		{"c2", "c1", b, a, FIN | ACK, "server-fin"},
		{"c1", "c2", a, b, ACK, "server-fin"},
		{"c1", "c2", a, b, FIN | ACK, "closing"},
	} {
		if got := send(step.from, step.to, step.src, step.dst, step.flags); got != step.want {
			t.Errorf("step %d: %s, want %s", i, got, step.want)
		}
	}
	l.Advance(10 * time.Second)
	if list := l.Switch.Flows(); len(list) != 0 {
		t.Errorf("a closed flow is still there: %+v", list)
	}
}

// More flows than there is room for: busy ones stay, and none is lost to the log.
func TestBridgedFlowsGiveWay(t *testing.T) {
	l := New(t)
	l.Memory("c2").SetSink(func([]byte, frame.Offload) {})
	l.Switch.RecordFlows(true, true)
	busy := udpBetween("c1", "c2", "10.1.0.11:9", "10.1.0.12:9")
	const flows = 9000
	for i := range flows {
		f := udpBetween("c1", "c2", "10.1.0.11:1", "10.1.0.12:1")
		f[header.EthernetLen+20], f[header.EthernetLen+21] = byte(i>>8), byte(i) // source port
		f[header.EthernetLen+22] = 0x10                                          // another destination than busy's
		l.Memory("c1").Inject(f, none)
		l.Memory("c1").Inject(busy, none)
		if i%64 == 63 {
			l.Advance(time.Millisecond)
			l.Switch.Step()
		}
	}
	for l.Switch.Step() > 0 {
		l.Advance(time.Millisecond) // who was idle longest is told by the time of the batch
	}
	seen, packets := 0, uint64(0)
	for _, f := range l.Switch.Flows() {
		seen++
		packets += f.Packets[0]
		if f.Orig.SrcPort == 9 && f.Orig.DstPort == 9 && f.Packets[0] != flows {
			t.Errorf("the busy flow gave way: %d packets of %d", f.Packets[0], flows)
		}
	}
	if seen > 4096 || seen < 3500 {
		t.Errorf("%d flows are known, want about 4096", seen)
	}
	ended, lost := l.Switch.EndedFlows(nil)
	for _, f := range ended {
		packets += f.Packets[0]
	}
	if packets != 2*flows || lost != 0 {
		t.Errorf("%d packets in the table and the log, %d flows lost, want all of %d", packets, lost, 2*flows)
	}
}

func TestFlowsThatEndAreLogged(t *testing.T) {
	l := New(t)
	end := func() []conntrack.Info {
		l.Advance(2 * time.Hour)
		list, lost := l.Switch.EndedFlows(nil)
		if lost != 0 {
			t.Errorf("%d lost", lost)
		}
		return list
	}
	out := UDP("c1", 5000, web, "x")
	l.Send("c1", out)
	if list := end(); len(list) != 0 {
		t.Errorf("logged while nobody reads: %+v", list)
	}
	l.Switch.RecordFlows(true, true)
	l.Send("c1", out)
	l.Advance(5 * time.Second)
	l.Send("c1", out)
	l.Send("c1", udpBetween("c1", "c2", "10.1.0.11:1", "10.1.0.12:2"))
	forgetSent(l)
	kinds := map[conntrack.Kind]conntrack.Info{}
	for _, f := range end() {
		kinds[f.Kind] = f
	}
	if f := kinds[conntrack.KindMasquerade]; f.Packets[0] != 2 || f.Age != 5*time.Second || f.State != "unreplied" || f.Idle < time.Hour {
		t.Errorf("the routed flow: %+v", f)
	}
	if f := kinds[conntrack.KindBridged]; f.Packets[0] != 1 || len(kinds) != 2 {
		t.Errorf("the bridged flow: %+v", kinds)
	}
	if list := end(); len(list) != 0 {
		t.Errorf("read twice: %+v", list)
	}
	// Nobody waits for the reader.
	for i := range 10000 {
		l.Send("c1", UDP("c1", uint16(1024+i), web, "x"))
		l.Got("up")
		if i%1000 == 999 {
			l.Switch.FlushConns(conntrack.Selector{})
		}
	}
	list, lost := l.Switch.EndedFlows(nil)
	if len(list) != 8192 || len(list)+int(lost) != 10000 {
		t.Errorf("%d flows and %d lost, want 8192 of 10000", len(list), lost)
	}
	l.Switch.RecordFlows(false, false)
	l.Send("c1", out)
	if list := end(); len(list) != 0 {
		t.Errorf("logged when switched off: %+v", list)
	}
}

// With two workers each may see one direction of a flow.
func TestBridgedFlowsOfTwoWorkers(t *testing.T) {
	l := NewSized(t, 4096, func(c *dataplane.Config) { c.Workers = 2 })
	// Ports go to the workers in turn, so that c1 and c2 are different ones'.
	l.Send("c1", udpBetween("c1", "c2", "10.1.0.11:5000", "10.1.0.12:80"))
	l.Advance(time.Second)
	for range 2 {
		l.Send("c2", udpBetween("c2", "c1", "10.1.0.12:80", "10.1.0.11:5000"))
	}
	f := flow(t, l)
	if f.Packets != [2]uint64{1, 2} || f.State != "replied" || f.Port != l.Port("c1") || f.Orig.SrcPort != 5000 || f.Age != time.Second {
		t.Errorf("listed as %+v", f)
	}
}

// forgetSent takes what everybody got.
func forgetSent(l *Lab) {
	for name := range Stations {
		l.Got(name)
	}
}

// A container that begins flows in masses pushes out its own records: another's flow is known all the while.
func TestBridgedFlowsHaveShares(t *testing.T) {
	l := New(t)
	l.Send("c3", udpBetween("c3", "c2", "10.1.0.13:5000", "10.1.0.12:80"))
	for i := range 20_000 {
		l.Send("c1", udpBetween("c1", "c2", fmt.Sprintf("10.1.0.11:%d", 1000+i), "10.1.0.12:80"))
		if i%1000 == 0 {
			l.Advance(100 * time.Millisecond)
			l.Got("c2")
		}
	}
	l.Send("c2", udpBetween("c2", "c3", "10.1.0.12:80", "10.1.0.13:5000"))
	for _, f := range l.Switch.Flows() {
		if f.Port == l.Port("c3") && f.Packets == [2]uint64{1, 1} {
			return
		}
	}
	t.Error("the other container's flow has gone")
}
