package conntrack

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// However many flows without a port are older, one with a port is found, as each search goes
// on where the last one ended; a flow that was used gives after the others.
func TestSearchForPortsGoesOn(t *testing.T) {
	now := int64(1e12)
	ct := New(func() int64 { return now }, Config{Max: 1000, Ports: make(flowmap.ClaimPlane, flowmap.ClaimWords)})
	h := Began(1)
	var last [2]uint32
	for n := range 600 {
		r, ok := begin(ct, h, n)
		if !ok {
			t.Fatal("no room")
		}
		if n >= 598 {
			last[n-598] = uint32(r >> 1)
			ct.At(r).nat, ct.At(r).Slot = natHolds, 1
		}
	}
	now += 1e9
	ct.conn(last[0]).lastSeen.Store(now)
	e := endpoint{proto: header.ProtoUDP, slot: 1}
	for range 600/portsBack + 1 {
		var room [portsBack]uint32
		if found := ct.withPort(e, h, classHalfOpen, room[:0]); len(found) > 0 {
			if len(found) != 1 || found[0] != last[1] {
				t.Errorf("found %d, want the one that was not used, %d", found, last[1])
			}
			return
		}
	}
	t.Error("the flows that hold ports are not found")
}

// Who was given nothing is refused without another search for a while.
func TestRefusedWithoutASearch(t *testing.T) {
	now := int64(1e12)
	ct := New(func() int64 { return now }, Config{Max: 100, Ports: make(flowmap.ClaimPlane, flowmap.ClaimWords)})
	pool, rng := NewPool([]PortRange{{First: 61000, Last: 61000}}, nil), NewRand()
	ask := func(container frame.PortID, port uint16) (int, bool) {
		c := ct.At(ct.Alloc(Began(container)))
		c.Init(header.Tuple{Src: header.AddrFrom4([4]byte{10, 1, 0, byte(container)}), SrcPort: port, Proto: header.ProtoTCP}, KindMasquerade, container, Began(container))
		c.Slot = 1
		_, searches, ok := ct.AcquirePort(c, c.Orig, true, pool, new(BusyPorts), rng)
		return searches, ok
	}
	for i, step := range []struct {
		after     int64
		container frame.PortID
		searches  bool
	}{{0, 1, false}, {0, 1, true}, {0, 1, false}, {barrenTime - 1, 1, false}, {0, 2, true}, {1, 1, true}} {
		now += step.after
		if n, ok := ask(step.container, uint16(2000+i)); (n > 1) != step.searches || ok != (i == 0) {
			t.Errorf("step %d: %d searches, found %t", i, n, ok)
		}
	}
	if got := ct.Pressure().PortsExhausted; got != 5 {
		t.Errorf("%d flows were refused for want of a port, want 5", got)
	}
}

// TestRestingPortsGiveNothing: who has most ports at rest and none to give does not keep those
// who have less from giving theirs. What rests counts as his all the same.
func TestRestingPortsGiveNothing(t *testing.T) {
	now := int64(1e12)
	ct := New(func() int64 { return now }, Config{Max: 1000, Ports: make(flowmap.ClaimPlane, flowmap.ClaimWords)})
	pool, rng := NewPool([]PortRange{{First: 61000, Last: 61031}}, nil), NewRand()
	flows := uint16(0)
	ask := func(container frame.PortID, open bool) *Conn {
		flows++
		r := ct.Alloc(Began(container))
		c := ct.At(r)
		c.Init(header.Tuple{
			Src: header.AddrFrom4([4]byte{10, 1, 0, byte(container)}), SrcPort: 2000 + flows,
			Dst: header.AddrFrom4([4]byte{192, 0, 2, 1}), DstPort: 53, Proto: header.ProtoUDP,
		}, KindMasquerade, container, Began(container))
		c.Slot = 1
		to := c.Orig
		port, _, ok := ct.AcquirePort(c, to, open, pool, new(BusyPorts), rng)
		if !ok {
			t.Fatalf("container %d has no port for flow %d", container, flows)
		}
		to.SrcPort = port
		c.Reply = to.Reverse()
		c.Begin(&header.Layers{}, nil, now)
		if ct.Insert(r) != Inserted {
			t.Fatal("no room")
		}
		return c
	}
	const rest, each = 14, 9
	for range rest {
		c := ask(1, true)
		ct.releasePort(c, false)
		c.nat = natNone
	}
	for range each {
		ask(2, false)
		ask(3, false)
	}
	if c := ask(4, false); c.nat != natHolds || ct.PortsHeld(2).Gave+ct.PortsHeld(3).Gave != 1 {
		t.Errorf("the port is held as %d, and the others gave %d and %d; want one of theirs", c.nat, ct.PortsHeld(2).Gave, ct.PortsHeld(3).Gave)
	}
	if n := ct.PortsHeld(1).Held; n != rest {
		t.Errorf("%d ports are counted for who has %d at rest", n, rest)
	}
	ct.MoveTenant(1, 5)
	if was, is := ct.PortsHeld(1).Held, ct.PortsHeld(5).Held; was != 0 || is != rest {
		t.Errorf("%d and %d ports are counted after a move", was, is)
	}
	ct.Forget(5) // the next with that number has none
	if n := ct.PortsHeld(5).Held; n != 0 {
		t.Errorf("%d ports of who has left are counted for the next", n)
	}
	ct.nat.awake(now + 2*RestTime)
	if n := ct.PortsHeld(5).Held; n != 0 {
		t.Errorf("%d ports are counted when they have rested", n)
	}
	if n := len(ct.nat.rest.ports); n != 0 {
		t.Errorf("%d ports rest on", n)
	}
}
