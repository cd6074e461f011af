package dataplane_test

import (
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// earlyFlow is a connection of which each segment meets the programs first.
type earlyFlow struct {
	*Lab
	kernel                   *flowtest.Kernel
	client, server           string // stations
	from, to, answers, there string // ends as the client sees them, and as the server does
}

// Who has a segment.
const (
	bySwitch = "switch"
	byKernel = "kernel"
	lost     = "nobody"
)

func newEarlyLab(t *testing.T) (*Lab, *flowtest.Kernel) {
	l, k := NewWithKernel(t, 4096, 4096)
	l.Publish(8080, "c1", 80)
	return l, k
}

// published is a connection of a port of the world to a published port.
func published(l *Lab, k *flowtest.Kernel, port int) *earlyFlow {
	client := fmt.Sprintf("%s:%d", World, port)
	return &earlyFlow{l, k, "up", "c1", client, HostAddr + ":8080", "10.1.0.11:80", client}
}

// masqueraded is a connection of a container to the world.
func masqueraded(l *Lab, k *flowtest.Kernel, port int) *earlyFlow {
	return &earlyFlow{l, k, "c1", "up", fmt.Sprintf("10.1.0.11:%d", port), web, web, ""}
}

func (f *earlyFlow) frame(client bool, flags uint8, seq, ack uint32, payload string) (from, to string, frame []byte) {
	p := Packet{Proto: header.ProtoTCP, Flags: flags, Seq: seq, Ack: ack, Payload: []byte(payload), DF: true}
	from, to, p.Src, p.Dst = f.client, f.server, f.from, f.to
	if !client {
		from, to, p.Src, p.Dst = f.server, f.client, f.answers, f.there
	}
	p.EthSrc, p.EthDst = MAC(from), MAC("host1")
	if from == "up" {
		p.EthSrc, p.EthDst = NextHopMAC, MAC("up")
	}
	return from, to, Bytes(p)
}

// meet lets the programs have a segment and says who has it then. The switch has not yet looked.
func (f *earlyFlow) meet(client bool, flags uint8, seq, ack uint32, payload string) (who string, then func()) {
	from, _, frame := f.frame(client, flags, seq, ack, payload)
	at := flowtest.Cable
	if from == "up" {
		at = flowtest.Uplink
	}
	switch m := f.kernel.Meet(at, f.Ifindex(f.Port(from)), true, frame, 0); {
	case m.Out != 0:
		return byKernel, func() {}
	case !m.Switch && !m.Host: // nothing is claimed here
		return lost, func() {}
	}
	return bySwitch, func() {
		f.Send(from, frame)
		tally := f.kernel.Tally(f.Ifindex(f.Port(from)))
		atomic.StoreUint64(&tally.Taken, min(tally.Taken+1, tally.In))
	}
}

// want passes a segment, which has to go one way.
func (f *earlyFlow) want(who string, client bool, flags uint8, seq, ack uint32, payload string) {
	f.T.Helper()
	got, then := f.meet(client, flags, seq, ack, payload)
	if then(); got != who {
		f.T.Errorf("client %v, flags %#x, seq %d, ack %d: the %s has it, want the %s", client, flags, seq, ack, got, who)
	}
}

// begin passes the SYN and its answer.
func (f *earlyFlow) begin() {
	f.T.Helper()
	f.Got("c1")
	f.Got("up")
	f.want(bySwitch, true, SYN, 1000, 0, "")
	f.there = See(f.T, f.Expect(f.server)).From()
	f.want(bySwitch, false, SYN|ACK, 3000, 1001, "")
	f.Expect(f.client)
}

func (f *earlyFlow) state() (list []string) {
	for _, c := range f.Switch.Conns() {
		if endOf(c.Orig.Src, c.Orig.SrcPort) == f.from {
			list = append(list, c.State)
		}
	}
	return list
}

func (f *earlyFlow) wantState(states ...string) {
	f.T.Helper()
	if got := f.state(); !slices.Equal(got, states) {
		f.T.Errorf("the connection is %v, want %v", got, states)
	}
}

// TestEarly: of a short connection the switch has the SYN and its answer. The kernel carries the rest,
// the ends too, and the connection has closed as soon as somebody asks.
func TestEarly(t *testing.T) {
	for name, flow := range map[string]func(*Lab, *flowtest.Kernel, int) *earlyFlow{"published": published, "masqueraded": masqueraded} {
		t.Run(name, func(t *testing.T) {
			l, maps := newEarlyLab(t)
			f := flow(l, maps, 5000)
			f.begin()
			f.want(byKernel, true, ACK, 1001, 3001, "")
			f.want(byKernel, true, ACK|PSH, 1001, 3001, "request")
			f.want(byKernel, false, ACK|PSH, 3001, 1008, "response")
			f.wantState("established")
			f.want(byKernel, false, FIN|ACK, 3009, 1008, "")
			f.wantState("server-fin")
			f.want(byKernel, true, ACK, 1008, 3010, "")
			f.want(byKernel, true, FIN|ACK, 1008, 3010, "")
			f.want(byKernel, false, ACK, 3010, 1009, "")
			f.Switch.ReapFlows()
			if len(maps.Keys) != 0 || maps.Waits == 0 {
				t.Errorf("%d rows at the end, %d waits", len(maps.Keys), maps.Waits)
			}
			f.wantState("closing")
			c := l.Switch.Conns()[0]
			if c.Packets != [2]uint64{5, 4} || !c.Closed {
				t.Errorf("it is told as %+v", c)
			}
			if err := l.Switch.CheckEntries(); err != nil {
				t.Error(err)
			}
			l.Advance(241 * time.Second)
			f.wantState()
		})
	}
}

// TestEarlyMakesAGuest: who has shown that he hears the answers of a published port is a guest of it,
// though the switch has not seen the segment that showed it.
func TestEarlyMakesAGuest(t *testing.T) {
	l, maps := newEarlyLab(t)
	f := published(l, maps, 5000)
	f.begin()
	who := header.AddrFrom(netip.MustParseAddrPort(f.from).Addr())
	l.Advance(time.Second)
	if l.Switch.IsGuest(who) {
		t.Error("one is a guest who has shown nothing")
	}
	f.want(byKernel, true, ACK, 1001, 3001, "")
	l.Advance(time.Second)
	if !l.Switch.IsGuest(who) {
		t.Error("one is no guest whom the container has answered")
	}
	m := masqueraded(l, maps, 5001)
	m.begin()
	m.want(byKernel, true, ACK, 1001, 3001, "")
	l.Advance(time.Second)
	if l.Switch.IsGuest(header.AddrFrom(netip.MustParseAddrPort(m.from).Addr())) {
		t.Error("a container is a guest of what it connected to")
	}
}

// TestEarlyIsStrict: until the beginner has acknowledged the number of the SYN that answered, and in
// the window, nothing of the connection is carried.
func TestEarlyIsStrict(t *testing.T) {
	l, maps := newEarlyLab(t)
	f := published(l, maps, 5000)
	f.begin()
	for _, s := range []struct {
		flags    uint8
		seq, ack uint32
	}{
		{ACK, 1001, 3000}, {ACK, 1001, 3002}, {ACK, 1001, 3001 + 100<<10}, {ACK, 1001, 0}, {ACK, 1001 + 1<<20, 3001},
		{ACK, 1<<32 - 1<<20, 3001}, {RST, 1001, 0}, {PSH, 1001, 3001}, {RST | ACK, 1002, 3001}, {SYN, 1000, 0},
	} {
		if who, _ := f.meet(true, s.flags, s.seq, s.ack, ""); who == byKernel {
			t.Errorf("%+v of the beginner is carried", s)
		}
	}
	for _, flags := range []uint8{ACK, RST, FIN | ACK, SYN | ACK} {
		if who, _ := f.meet(false, flags, 3001, 1001, ""); who == byKernel {
			t.Errorf("flags %#x of the other side are carried before the beginner has spoken", flags)
		}
	}
}

// TestEarlyInDoubtRestarts: who has not shown that he hears the answers has to show it to the next
// process, too, and in time.
func TestEarlyInDoubtRestarts(t *testing.T) {
	l, maps := newEarlyLab(t)
	f := published(l, maps, 5000)
	f.begin()
	l.Restart(maps)
	l.Neighbor(NextHop, NextHopMAC)
	l.Switch.TakeOver()
	for range 3 {
		l.Tock(2 * time.Millisecond)
		l.Switch.StepFlows()
	}
	f.want(bySwitch, true, ACK, 1001, 2345, "")
	f.want(bySwitch, true, ACK, 1001, 3002, "")
	f.want(bySwitch, false, ACK, 3001, 1001, "")
	f.want(byKernel, true, ACK, 1001, 3001, "")
	f.want(byKernel, false, ACK|PSH, 3001, 1001, "banner")

	published(l, maps, 5001).begin()
	l.Restart(maps)
	l.Neighbor(NextHop, NextHopMAC)
	l.Switch.TakeOver()
	l.Tock(3 * time.Second)
	if len(maps.Keys) != 4 {
		t.Fatalf("%d rows, want those of two connections", len(maps.Keys))
	}
	if l.Tock(2 * time.Second); len(maps.Keys) != 2 {
		t.Errorf("%d rows, want those of the connection that is not in doubt", len(maps.Keys))
	}
}

// TestEarlyEnds: resets, and what comes after the end while the switch has not looked yet.
func TestEarlyEnds(t *testing.T) {
	l, maps := newEarlyLab(t)
	open := func(port int) *earlyFlow {
		f := published(l, maps, port)
		f.begin()
		f.want(byKernel, true, ACK, 1001, 3001, "")
		return f
	}
	f := open(5000)
	f.want(bySwitch, true, RST, 1002, 0, "") // and dropped there
	f.wantState("established")
	f.want(byKernel, true, RST, 1001, 0, "")
	f.wantState("transitory")
	f = open(5001)
	f.want(byKernel, true, RST, 1001, 0, "")
	f.want(bySwitch, false, ACK, 3001, 1001, "not heeded")
	f.wantState("established")
	f = open(5002)
	f.want(byKernel, true, FIN|ACK, 1001, 3001, "")
	f.want(byKernel, true, RST, 1002, 0, "")
	f.wantState("transitory")
	f = open(5003)
	f.want(byKernel, true, FIN|ACK, 1001, 3001, "")
	f.want(byKernel, false, FIN|ACK, 3001, 1002, "")
	f.want(byKernel, true, RST, 1002, 0, "")
	f.wantState("closing")
	// The same ends begin anew.
	f = open(5004)
	f.want(byKernel, true, FIN|ACK, 1001, 3001, "")
	f.want(byKernel, false, FIN|ACK, 3001, 1002, "")
	f.want(bySwitch, true, SYN, 900000, 0, "")
	f.wantState("client-reopen")
	f.want(bySwitch, false, SYN|ACK, 70000, 900001, "")
	f.wantState("established")
	l.Switch.ReapFlows()
	l.Advance(time.Second)
	if err := l.Switch.CheckEntries(); err != nil {
		t.Error(err)
	}
}

// TestEarlyQuota: who has ended counts no more, also when the switch has not looked yet.
func TestEarlyQuota(t *testing.T) {
	l, maps := newEarlyLab(t)
	for i := range l.Config.Ports {
		l.Config.Ports[i].Quota.Flows = 1
	}
	l.Install()
	for port := range 10 {
		f := masqueraded(l, maps, 5000+port)
		f.begin()
		f.want(byKernel, true, ACK, 1001, 3001, "")
		f.want(byKernel, true, FIN|ACK, 1001, 3001, "")
		f.want(byKernel, false, FIN|ACK, 3001, 1002, "")
	}
}

// TestEarlyKeepsOrder: who answers before he has heard that he was heard (RFC 7413) is not overtaken
// by himself: neither the answer to the SYN nor what was in the ring behind it.
func TestEarlyKeepsOrder(t *testing.T) {
	l, maps := newEarlyLab(t)
	f := published(l, maps, 5000)
	f.want(bySwitch, true, SYN, 1000, 0, "early")
	who, answer := f.meet(false, SYN|ACK, 3000, 1006, "")
	if who != bySwitch {
		t.Fatal(who)
	}
	who, first := f.meet(false, ACK|PSH, 3001, 1006, "first") // in the ring, without a row
	if who != bySwitch {
		t.Fatal(who)
	}
	answer()
	who, second := f.meet(false, ACK|PSH, 3006, 1006, "second") // with one
	if who != bySwitch {
		t.Fatalf("the %s has what comes before the beginner is heard", who)
	}
	f.want(byKernel, true, ACK, 1006, 3001, "")
	who, third := f.meet(false, ACK|PSH, 3012, 1006, "third")
	if who != bySwitch {
		t.Errorf("the %s has what comes while two segments are under way", who)
	}
	first()
	second()
	third()
	f.want(byKernel, false, ACK|PSH, 3017, 1006, "fourth")
	if got := l.Got("up"); len(got) != 4 {
		t.Errorf("%d frames by the switch, want 4", len(got))
	}
}

// TestEarlyFlood: the answers to forged SYNs enter few rows, of a container no more than are left to
// others, and those end soon. Others begin early meanwhile.
func TestEarlyFlood(t *testing.T) {
	l, maps := newEarlyLab(t)
	for i := range 2000 {
		f := published(l, maps, 10000+i)
		f.begin()
	}
	rows := len(maps.Keys)
	if rows == 0 || rows > 2*512 {
		t.Errorf("2,000 SYNs have entered %d rows", rows)
	}
	other := &earlyFlow{l, maps, "c2", "up", "10.1.0.12:5000", web, web, ""}
	other.begin()
	other.want(byKernel, true, ACK, 1001, 3001, "")
	if n := len(maps.Keys); n != rows+2 {
		t.Errorf("%d rows after another container's connection, %d before", n, rows)
	}
	for range 6 {
		l.Advance(time.Second)
	}
	if n := len(maps.Keys); n != 2 {
		t.Errorf("%d rows after six seconds, want one connection's", n)
	}
	if err := l.Switch.CheckEntries(); err != nil {
		t.Error(err)
	}
	// Who has shown that he hears makes room.
	for i := range 2000 {
		f := published(l, maps, 20000+i)
		f.begin()
		f.want(byKernel, true, ACK, 1001, 3001, "")
		f.want(byKernel, true, RST, 1001, 0, "")
		if i%100 == 99 {
			l.Switch.ReapFlows()
		}
	}
	if st := l.Switch.Stats(); st.Flows.Rows != 2 {
		t.Errorf("%+v", st.Flows)
	}
}

// TestEarlyIsShared: a container that keeps connections open in masses leaves room for those of
// others to begin early.
func TestEarlyIsShared(t *testing.T) {
	l, maps := NewWithKernel(t, 4096, 512)
	open := func(c, address string, port int) *earlyFlow {
		f := &earlyFlow{l, maps, c, "up", fmt.Sprintf("%s:%d", address, port), web, web, ""}
		f.begin()
		return f
	}
	for i := range 512 {
		f := open("c1", "10.1.0.11", 5000+i)
		if who, then := f.meet(true, ACK, 1001, 3001, ""); who == bySwitch {
			then()
		}
	}
	for i := range 50 {
		f := open("c2", "10.1.0.12", 5000+i)
		f.want(byKernel, true, ACK, 1001, 3001, "")
	}
	if err := l.Switch.CheckEntries(); err != nil {
		t.Error(err)
	}
}
