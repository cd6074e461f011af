package conntrack

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// begin enters a flow of a tenant, or reports that it may not.
func begin(ct *Table, h Tenant, n int) (Ref, bool) {
	r := ct.Alloc(h)
	if r == 0 {
		return 0, false
	}
	c := ct.At(r)
	orig, reply := flow(n)
	c.Init(orig, KindRouted, h.container(), h)
	c.Reply = reply
	c.Begin(&header.Layers{}, nil, ct.Ended.now())
	if ct.Insert(r) != Inserted {
		ct.GiveBack(r)
		return 0, false
	}
	return r, true
}

// Of a thousand containers a fifth floods, each from both sides. The others get all the
// flows that they ask for, and keep them.
func TestCrowdIsNotStarved(t *testing.T) {
	const room, containers, attackers, each = 20_000, 1000, 200, 15
	ct := newTable(room)
	next := 0
	flood := func(n int) {
		for range n {
			next++
			h := Began(frame.PortID(next % attackers))
			if next%2 == 0 {
				h = Received(frame.PortID(next % attackers))
			}
			if r, ok := begin(ct, h, next); ok && next%3 == 0 {
				ct.At(r).become(ct, r, stateUDP)
			}
		}
	}
	flood(2 * room)
	for n := range each {
		for id := attackers; id < containers; id++ {
			next++
			r, ok := begin(ct, Began(frame.PortID(id)), next)
			if !ok {
				t.Fatalf("container %d was refused its flow %d", id, n)
			}
			if id%2 == 0 {
				ct.At(r).become(ct, r, stateUDP)
			}
		}
		flood(room / 4)
		for id := attackers; id < containers; id++ {
			if got, _ := ct.Flows(frame.PortID(id)); got.Held != n+1 || got.Gave != 0 || got.Refused != 0 {
				t.Fatalf("container %d holds %+v of %d flows", id, got, n+1)
			}
		}
	}
}

// The order in which a tenant gives: closed, half open, not assured; of assured flows only
// the ones that were idle, to its own.
func TestClassesGiveInOrder(t *testing.T) {
	now := int64(1e12)
	ct := New(func() int64 { return now }, Config{Max: 64, Ports: make([]uint64, len(newTable(1).nat.plane))})
	h := Began(1)
	classOfRef := make(map[Ref]class)
	for n := range 64 {
		r, ok := begin(ct, h, n)
		if !ok {
			t.Fatal("no room")
		}
		c := ct.At(r)
		switch class(n / 16) {
		case classClosed:
			c.become(ct, r, stateClosing)
		case classUnassured:
			c.become(ct, r, stateUDP)
		case classAssured:
			c.become(ct, r, stateUDP)
			c.assure(ct, r)
		}
		classOfRef[r] = c.class()
	}
	// Others' new flows are assured at once, so that they never give; each takes one of h.
	var gave []class
	for n := range 50 {
		r, ok := begin(ct, Began(frame.PortID(2+n)), 1000+n)
		if !ok {
			t.Fatalf("flow %d of others was refused", n)
		}
		gave = append(gave, classOfRef[r]) // the conn of the one that gave is used again
		ct.At(r).become(ct, r, stateUDP)
		ct.At(r).assure(ct, r)
	}
	// A sixteenth of the half-open and of the unassured ones stays while there are better ones.
	for upTo, want := range map[int][numClasses]int{16: {16}, 30: {16, 14}, 33: {16, 14, 3}, 46: {16, 15, 15}} {
		var got [numClasses]int
		for _, c := range gave[:upTo] {
			got[c]++
		}
		if got != want {
			t.Errorf("of the first %d that gave %v are of each class, want %v", upTo, got, want)
		}
	}

	ct = New(func() int64 { return now }, Config{Max: 16, Ports: make([]uint64, len(ct.nat.plane))})
	for n := range 16 {
		r, _ := begin(ct, h, n)
		ct.At(r).become(ct, r, stateUDP)
		ct.At(r).assure(ct, r)
	}
	if _, ok := begin(ct, h, 100); ok {
		t.Error("an assured flow that was used just now gave to one of its own tenant")
	}
	if u, _ := ct.Flows(1); u.Refused != 1 {
		t.Errorf("%+v, want one refused", u)
	}
	now += ownIdle
	if _, ok := begin(ct, h, 100); !ok {
		t.Error("an idle flow did not give")
	}
}

// A flow whose sender only answers once is unassured whatever comes, and after two seconds
// one packet more of its beginner assures it.
func TestAssuredByComingBack(t *testing.T) {
	now := int64(1e12)
	ct := New(func() int64 { return now }, Config{Max: 16, Ports: make([]uint64, len(newTable(1).nat.plane))})
	r, _ := begin(ct, Received(1), 1)
	c, l := ct.At(r), &header.Layers{}
	for _, step := range []struct {
		reply bool
		after int64
		want  class
	}{
		{false, 5e9, classHalfOpen}, {true, 1e9, classUnassured}, {false, 1e9, classUnassured}, {true, 5e9, classUnassured}, {false, 0, classAssured},
	} {
		now += step.after
		at := r
		if step.reply {
			at |= 1
		}
		c.Track(ct, at, l, nil, now)
		if got := c.class(); got != step.want {
			t.Fatalf("after %+v: class %d", step, got)
		}
	}
}

// A SYN that was answered is not yet a connection, which would be kept for a day: until its
// beginner acknowledges the number of the answer it has the time of a handshake. Somebody who
// forged the SYN can guess, and only makes the container send again.
func TestN24AnsweredSYNIsNotEstablished(t *testing.T) {
	now := int64(1e12)
	ct := New(func() int64 { return now }, Config{Max: 16, Ports: make([]uint64, len(newTable(1).nat.plane))})
	limits, err := new(Timeouts).Compile()
	if err != nil {
		t.Fatal(err)
	}
	segment := func(flags byte, seq, ack uint32) ([]byte, *header.Layers) {
		b := make([]byte, 20)
		binary.BigEndian.PutUint32(b[4:], seq)
		binary.BigEndian.PutUint32(b[8:], ack)
		b[12], b[13], b[14] = 5<<4, flags, 0xff
		return b, &header.Layers{End: 20, TCPFlags: flags}
	}
	r := ct.Alloc(Received(1))
	c := ct.At(r)
	orig, reply := flow(1)
	orig.Proto, reply.Proto = header.ProtoTCP, header.ProtoTCP
	c.Init(orig, KindPublish, 1, Received(1))
	c.Reply = reply
	b, l := segment(header.TCPSYN, 1000, 0)
	c.Begin(l, b, now)
	if ct.Insert(r) != Inserted {
		t.Fatal("not inserted")
	}
	for _, step := range []struct {
		name     string
		at       Ref
		flags    byte
		seq, ack uint32
		keeps    time.Duration
	}{
		{"the answer", r | 1, header.TCPSYN | header.TCPACK, 5000, 1001, 240 * time.Second},
		{"a guess", r, header.TCPACK, 1001, 77_000, 240 * time.Second},
		{"the answer again", r | 1, header.TCPSYN | header.TCPACK, 5000, 1001, 240 * time.Second},
		{"a reset of nobody's", r, header.TCPRST, 9999, 0, 240 * time.Second},
		{"its acknowledgment", r, header.TCPACK, 1001, 5001, 24 * time.Hour},
	} {
		b, l := segment(step.flags, step.seq, step.ack)
		c.Track(ct, step.at, l, b, now)
		if got := time.Duration(c.expires(&limits) - now); got != step.keeps {
			t.Fatalf("after %s it is kept for %v, want %v", step.name, got, step.keeps)
		}
	}
}

// A packet that the kernel carries assures a flow as one that comes here does.
func TestAssuredByWhatTheKernelCarries(t *testing.T) {
	now := int64(1e12)
	rows := make([]flowmap.Entry, 2)
	ct := New(func() int64 { return now }, Config{Max: 16, Ports: make([]uint64, len(newTable(1).nat.plane)), Rows: rows})
	r, _ := begin(ct, Received(1), 1)
	c := ct.At(r)
	c.Track(ct, r|1, &header.Layers{}, nil, now)
	for dir := range uint32(2) {
		in := c.Towards(dir == 0)
		in = in.Reverse()
		if !ct.Lend(&in, c.Towards(dir == 1), dir, false) {
			t.Fatalf("direction %d is not lent", dir)
		}
	}
	for _, step := range []struct {
		reply int
		after int64
		want  class
	}{{1, 5e9, classUnassured}, {0, 0, classAssured}} {
		now += step.after
		rows[step.reply].Packets++
		in := c.Towards(step.reply == 0)
		in = in.Reverse()
		if !ct.Carried(&in, uint32(step.reply), &rows[step.reply], now) {
			t.Fatal("the row's flow has ended")
		}
		if got := c.class(); got != step.want {
			t.Fatalf("after %+v: class %d", step, got)
		}
	}
}

// A connection whose ports are used again is as new as any other: under pressure it has
// the time of a handshake, and SYNs that are sent again give it no more.
func TestReopenedFlowHasTimeToOpen(t *testing.T) {
	now := int64(1e12)
	ct := New(func() int64 { return now }, Config{Max: 16, Ports: make([]uint64, len(newTable(1).nat.plane))})
	times := Timeouts{}
	limits, err := times.Compile()
	if err != nil {
		t.Fatal(err)
	}
	limits.opening = openingUnderPressure
	r := ct.Alloc(Began(1))
	c := ct.At(r)
	orig, reply := flow(1)
	orig.Proto, reply.Proto = header.ProtoTCP, header.ProtoTCP
	c.Init(orig, KindRouted, 1, Began(1))
	c.Reply = reply
	syn := make([]byte, 20)
	syn[12], syn[13] = 5<<4, header.TCPSYN
	l := &header.Layers{End: 20, TCPFlags: header.TCPSYN}
	c.Begin(l, syn, now)
	if ct.Insert(r) != Inserted {
		t.Fatal("not inserted")
	}
	c.become(ct, r, stateClosing)
	now += int64(100 * time.Second)
	for _, after := range []time.Duration{0, 10 * time.Second, 10 * time.Second} {
		now += int64(after)
		if !c.Track(ct, r, l, syn, now) || c.State() != "client-reopen" {
			t.Fatalf("the SYN leads to %s", c.State())
		}
		if now >= c.expires(&limits) {
			t.Fatalf("%v after the last SYN it expires", after)
		}
	}
	if now += int64(2 * time.Second); now < c.expires(&limits) {
		t.Error("SYNs that were sent again keep it")
	}
}

// Workers begin, answer, assure and end flows of a table that is always full, and containers
// change the port that they are counted on. The race detector looks on, and the accounts add up at the end.
func TestSharesBesideWorkers(t *testing.T) {
	const room, workers = 500, 4
	ct := newTable(room)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 1))
			l := &header.Layers{}
			for n := range 5000 {
				h := Tenant(rng.IntN(8))
				i := w<<16 | n
				if _, ok := begin(ct, h, i); !ok {
					continue
				}
				orig, reply := flow(w<<16 | rng.IntN(n+1))
				for _, k := range []header.Tuple{orig, reply, orig} {
					if r, sh := ct.Lookup(&k); r != 0 {
						ct.At(r).Track(ct, r, l, nil, int64(n)*1e9)
						sh.RUnlock()
					}
				}
			}
		})
	}
	all.Go(func() {
		for n := range frame.PortID(40) {
			ct.MoveTenant(1+n%2, 2-n%2)
		}
	})
	all.Wait()
	held := 0
	for h := range numTenants {
		held += ct.shares.Held(h)
	}
	classes := 0
	for _, n := range ct.classes {
		classes += n
	}
	if held != ct.Len() || classes != ct.Len() || ct.Len() < room-workers {
		t.Errorf("tenants have %d, classes %d, the table %d", held, classes, ct.Len())
	}
	ct.Flush(&Selector{})
	if ct.shares.Total() != 0 || ct.shares.Active() != 0 {
		t.Errorf("%d of %d tenants are left of an empty table", ct.shares.Total(), ct.shares.Active())
	}
}
