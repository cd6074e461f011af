package relay

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/anyport"
)

// TestBacklog: who floods fills what is free and no more, is carried in order, and rests; who
// has one datagram waits for nobody's flood.
func TestBacklog(t *testing.T) {
	const room = 1 << 20
	b, s := newBacklog(room), new(anyport.Sender)
	hog, one := User{4242, true}, User{1001, true}
	put := func(who User, n, size int) {
		p := make([]byte, max(size, 4))
		binary.BigEndian.PutUint32(p, uint32(n))
		b.put(datagram{who: who, payload: p, out: s})
	}
	const flood = 10_000
	for n := range flood {
		put(hog, n, 1000)
	}
	if held := room - b.free; held > room/2 || held < room/2-2000 {
		t.Errorf("one user has %d of %d bytes", held, room)
	}
	kept := flood - int(b.dropped())

	now, turns, got, rested := time.Now(), 0, 0, time.Duration(0)
	for got < kept {
		d, wait, _ := b.take(now)
		if d.out == nil {
			if wait <= 0 || wait > longestRest {
				t.Fatalf("after %d datagrams wait %v", got, wait)
			}
			// Another goes at once, whatever waits.
			put(one, turns, 60_000)
			if d, _, _ := b.take(now); d.who != one {
				t.Fatalf("turn %d: another's datagram waits", turns)
			}
			if d, _, _ := b.take(now); d.out != nil {
				t.Fatalf("turn %d: no rest after another's datagram", turns)
			}
			now, rested, turns = now.Add(wait), rested+wait, turns+1
			continue
		}
		if n := binary.BigEndian.Uint32(d.payload); d.who != hog || n != uint32(got) {
			t.Fatalf("datagram %d of %v, want the hog's %d", n, d.who, got)
		}
		got++
		now = now.Add(10 * time.Microsecond)
	}
	if most := turnCost/sendCost + 1; turns < kept/most {
		t.Errorf("%d turns for %d datagrams, want %d at most in one", turns, kept, most)
	}
	if worked := time.Duration(got) * 10 * time.Microsecond; rested < worked {
		t.Errorf("rested %v, worked %v", rested, worked)
	}
	if d, wait, _ := b.take(now.Add(longestRest)); d.out != nil || wait != 0 {
		t.Errorf("%d bytes for %v and a wait of %v in an empty backlog", len(d.payload), d.who, wait)
	}
	b.take(now.Add(2 * longestRest)) // who owes nothing any more is forgotten
	now = now.Add(2 * longestRest)
	if b.free != room || len(b.lines) != 0 || len(b.ring) != 0 {
		t.Errorf("%d of %d bytes are free, %d lines are left", b.free, room, len(b.lines))
	}

	// A session costs turns, a datagram larger than a turn is carried all the same.
	put(hog, 0, 4)
	put(hog, 1, 60_000)
	put(hog, 2, 60_000)
	if d, _, _ := b.take(now); d.out == nil {
		t.Fatal("the first has to wait")
	}
	b.charge(hog, 10*openCost)
	for n := uint32(1); n <= 2; n++ {
		d, wait, _ := b.take(now)
		for tries := 0; d.out == nil && tries < 100; tries++ {
			now = now.Add(max(wait, time.Microsecond))
			d, wait, _ = b.take(now)
		}
		if d.out == nil || binary.BigEndian.Uint32(d.payload) != n {
			t.Fatalf("datagram %d does not come: %+v", n, d.who)
		}
	}

	// However many have what they may, there is room for one more.
	for uid := range uint32(20) {
		if put(User{uid, true}, 0, 4); b.lines[User{uid, true}] == nil {
			t.Errorf("user %d finds no room", uid)
		}
		for n := range 1000 {
			put(User{uid, true}, n, 1000)
		}
	}
	if b.free < 0 {
		t.Errorf("%d bytes are free", b.free)
	}
}

// TestBacklogEnds: next waits for a datagram and for close.
func TestBacklogEnds(t *testing.T) {
	b := newBacklog(1 << 20)
	got, done := make(chan datagram), make(chan struct{})
	go func() {
		defer close(done)
		for {
			d, ok := b.next()
			if !ok {
				return
			}
			got <- d
		}
	}()
	for n := range 100 { // more than a turn
		b.put(datagram{payload: []byte{byte(n)}, out: new(anyport.Sender)})
	}
	for n := range 100 {
		if d := <-got; d.payload[0] != byte(n) {
			t.Fatalf("got %d, want %d", d.payload[0], n)
		}
	}
	b.close()
	<-done
	b.put(datagram{out: new(anyport.Sender)})
	if b.dropped() != 1 {
		t.Error("a datagram after the end is not counted")
	}
}

// TestBacklogRemembers: who sends one datagram at a time pays for sessions and rests like one who
// has many waiting.
func TestBacklogRemembers(t *testing.T) {
	b, s, now := newBacklog(1<<20), new(anyport.Sender), time.Now()
	one := User{1001, true}
	put := func(who User) { b.put(datagram{who: who, payload: make([]byte, 4), out: s}) }
	const opened = time.Millisecond // how long each session takes
	for n := range 10 {
		put(one)
		if d, _, _ := b.take(now); d.out == nil {
			t.Fatalf("datagram %d does not come", n)
		}
		b.charge(one, openCost)
		now = now.Add(opened)
		if d, wait, _ := b.take(now); d.out != nil || wait != 0 {
			t.Fatalf("a wait of %v for nothing", wait)
		}
		put(one)
		d, wait, _ := b.take(now)
		rest := rests * opened
		if n > 0 { // the other came lately
			rest = restsBeside * opened
		}
		if d.out != nil || wait != rest {
			t.Fatalf("session %d: came %t, the rest is %v, want %v", n, d.out != nil, wait, rest)
		}
		other := User{2000, true}
		put(other)
		if d, _, _ := b.take(now); d.who != other {
			t.Fatal("another waits for his rest")
		}
		now = now.Add(wait)
		for tries := 0; ; tries++ {
			if d, wait, _ := b.take(now); d.who == one {
				break
			} else if tries > 10 {
				t.Fatalf("it does not come after the rest, wait %v", wait)
			}
		}
		now = now.Add(longestRest)
		b.take(now)
		now = now.Add(longestRest)
		b.take(now)
		if len(b.lines) != 0 || len(b.ring) != 0 || b.owing != 0 {
			t.Fatalf("%d lines are left, %d owe", len(b.lines), b.owing)
		}
	}
	for uid := range uint32(2 * mostOwing) {
		put(User{uid, true})
		if d, _, _ := b.take(now); d.who.UID != uid {
			t.Fatalf("got that of %v, want that of %d", d.who, uid)
		}
		b.charge(User{uid, true}, openCost)
		now = now.Add(time.Microsecond)
	}
	if len(b.lines) > mostOwing || len(b.ring) != len(b.lines) || b.owing != len(b.lines) {
		t.Errorf("%d lines, %d in the ring, %d owe, want %d at most", len(b.lines), len(b.ring), b.owing, mostOwing)
	}
}
