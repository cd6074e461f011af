package readers

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

func local(uid uint32) Reader { return Reader{UID: uid, Known: true} }

func visitor(addr string) Reader {
	return Reader{Page: true, From: netip.MustParsePrefix(addr)}
}

// TestBounds: one reader has his part, the page its, and root what is left.
func TestBounds(t *testing.T) {
	var told []Reached
	bounds := [NumKinds]Bound{Streams: {All: 10, Page: 6, Each: 3}} // one of the page's and one of all is kept
	r := New(bounds, func(r Reached) { told = append(told, r) })
	var held []func()
	take := func(who Reader, want bool) {
		t.Helper()
		release, err := r.Take(who, Streams, 1)
		if (err == nil) != want {
			t.Fatalf("%s: %v", who, err)
		}
		if err == nil {
			held = append(held, release)
			return
		}
		if !errors.Is(err, api.ErrBusy) || strings.Contains(err.Error(), "\n") || !strings.HasSuffix(err.Error(), ": end one of them") {
			t.Errorf("%s: %v", who, err)
		}
	}
	a, b, c := visitor("192.0.2.1/32"), visitor("2001:db8::/64"), Reader{Page: true, UID: 1000, Known: true}
	for range 3 {
		take(a, true)
	}
	take(a, false)
	for range 2 {
		take(b, true)
	}
	take(b, false) // the last of the page's is for others
	take(c, true)
	for range 3 {
		take(local(1000), true)
	}
	take(local(1000), false)
	take(local(0), true)
	take(local(0), false) // the last of all is for others
	if len(told) != 1 || told[0] != (Reached{a, Streams, 3}) {
		t.Errorf("told %+v, want one within a minute", told)
	}
	held[0]()
	held[0]() // does nothing
	take(local(0), false)
	if u := r.Uses()[Streams]; u.Held != 9 || u.Bound != 10 || u.Refused != 5 {
		t.Errorf("use %+v", u)
	}
	for _, release := range held {
		release()
	}
	if u := r.Uses()[Streams]; u.Held != 0 || len(r.each) != 0 || r.page[Streams] != 0 {
		t.Errorf("after all have ended: %+v, %d readers", u, len(r.each))
	}
	if _, err := r.Take(a, Streams, 4); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("more than one may ever have: %v", err)
	}
	if release, err := (*Readers)(nil).Take(a, Rows, 1<<40); err != nil {
		t.Error(err)
	} else {
		release()
	}
}

// TestManyReaders: however many they are, the page has no more than its part, and others
// theirs.
func TestManyReaders(t *testing.T) {
	r := New(BoundsFor(0), nil)
	var wg sync.WaitGroup
	for n := range 1000 {
		wg.Go(func() {
			who := Reader{Page: true, UID: uint32(n), Known: true}
			for k := range NumKinds {
				r.Take(who, k, 1+r.bounds[k].Each/2)
			}
		})
	}
	wg.Wait()
	for k := range NumKinds {
		b := r.bounds[k]
		if r.page[k] > b.Page || r.page[k] == 0 || b.Page >= b.All || b.Each > b.Page {
			t.Errorf("%s: the page has %d, bounds %+v", k, r.page[k], b)
		}
		if _, err := r.Take(local(0), k, b.All-b.Page-b.All/allReserve); err != nil {
			t.Errorf("root: %v", err)
		}
	}
}

// TestNewcomers: whatever readers take at once or by and by, who has nothing yet gets some of
// each kind.
func TestNewcomers(t *testing.T) {
	some := [NumKinds]int{Answers: 1, Streams: 1, Captures: CaptureBytes, Rows: 2 << 20, Filter: 90, Heads: 1}
	for _, large := range []bool{true, false} {
		r := New(BoundsFor(0), nil)
		hogs := []Reader{visitor("192.0.2.1/32"), visitor("192.0.2.2/32"), local(1000), local(0)}
		for k := range NumKinds {
			for _, who := range hogs {
				n := some[k]
				if large {
					n = r.bounds[k].Each
				}
				for err := error(nil); err == nil; _, err = r.Take(who, k, n) {
				}
			}
			for err := error(nil); err == nil; _, err = r.Take(local(0), k, some[k]) {
			}
			for _, who := range []Reader{visitor("192.0.2.3/32"), local(1003)} {
				if k == Heads && !who.Page {
					continue // these are of the page only
				}
				if _, err := r.Take(who, k, some[k]); err != nil {
					t.Errorf("%s, large pieces %v: %v", k, large, err)
				}
			}
		}
	}
}

// TestCapturesLeaveTables: who has all captures that he may have reads on.
func TestCapturesLeaveTables(t *testing.T) {
	r := New(BoundsFor(0), nil)
	for _, who := range []Reader{local(1000), {Page: true, UID: 1000, Known: true}, local(0)} {
		captures := 0
		for ; ; captures++ {
			if _, err := r.Take(who, Captures, CaptureBytes); err != nil {
				break
			}
		}
		for k, n := range map[Kind]int{Answers: 1, Rows: 8 << 20} {
			if release, err := r.Take(who, k, n); err != nil || captures < 4 {
				t.Errorf("%s with %d captures: %v", who, captures, err)
			} else {
				release()
			}
		}
	}
}

// TestWork: pieces never overlap, and half of the time is nobody's.
func TestWork(t *testing.T) {
	r := New(BoundsFor(0), nil)
	var wg sync.WaitGroup
	var inside, worked, overlaps = make(chan struct{}, 1), 0, 0
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if err := r.Work(t.Context(), func() {
					select {
					case inside <- struct{}{}:
					default:
						overlaps++
					}
					worked++
					<-inside
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if worked != 160 || overlaps != 0 {
		t.Errorf("%d pieces of 160, %d at the same time", worked, overlaps)
	}
	// Who goes away while others work does not wait.
	block, ctx := make(chan struct{}), context.Context(nil)
	wg.Go(func() { r.Work(t.Context(), func() { block <- struct{}{}; <-block }) })
	<-block
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Work(ctx, func() { t.Error("works for who has gone") }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	block <- struct{}{}
	wg.Wait()
	for piece, n := range map[time.Duration]int{5 * time.Millisecond: 10, 60 * time.Millisecond: 1} { // some rows, a dry run
		begin := time.Now()
		for range n {
			r.Work(t.Context(), func() {
				for start := time.Now(); time.Since(start) < piece; {
				}
			})
		}
		if d := time.Since(begin); d < time.Duration(2*n-1)*piece+piece/2 {
			t.Errorf("%d pieces of %v took %v: no pauses", n, piece, d)
		}
	}
}

func TestRates(t *testing.T) {
	r := newRates(requestBurst, requestPause)
	now, who := time.Unix(1e9, 0), visitor("192.0.2.1/32")
	waits, refused, longest := 0, 0, time.Duration(0)
	for range 2*requestBurst + 50 {
		switch wait, ok := r.wait(who, now, longestWait); {
		case !ok:
			refused++
		case wait > 0:
			waits, longest = waits+1, wait
		}
	}
	if waits != 200 || refused != 50 || longest != longestWait {
		t.Errorf("%d requests wait, want 200, %v at most, and %d are refused, want 50", waits, longest, refused)
	}
	if wait, ok := r.wait(local(1), now, longestWait); wait > 0 || !ok {
		t.Error("others have to wait")
	}
	for range 10 * requestBurst { // who leaves owes nothing
		r.refund(who)
		if _, ok := r.wait(who, now, longestWait); !ok {
			t.Fatal("a request that was left counts")
		}
	}
	if wait, ok := r.wait(who, now.Add(2*longestWait), longestWait); wait > 0 || !ok {
		t.Error("who has paused has to wait")
	}
	for n := range uint32(5000) {
		r.wait(local(n), now.Add(time.Duration(n)*time.Second), longestWait)
	}
	if len(r.free) > mostRates {
		t.Errorf("%d readers are remembered", len(r.free))
	}
}
