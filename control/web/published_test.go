package web

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

func TestPublishedRates(t *testing.T) {
	at := time.Unix(1_700_000_000, 0)
	flow := func(peer string, bytes uint64, age float64) api.Flow {
		return api.Flow{
			Proto: "tcp", Container: "web", Direction: api.FlowIn, Address: "10.88.0.2:80", Outside: "[2001:db8::1]:8080", PeerAddress: peer,
			SentBytes: bytes - 10, ReceivedBytes: 10, Age: age, Start: at.Add(-time.Duration(age * float64(time.Second))),
		}
	}
	var p published
	take := func(list []api.Flow) {
		t.Helper()
		if err := p.take(t.Context(), nil, rowsOf(list), at); err != nil {
			t.Fatal(err)
		}
	}
	want := func(rate float64) {
		t.Helper()
		if got := p.rates["web tcp 8080"]; got != rate || len(p.rates) > 1 {
			t.Errorf("got %v, want %v", p.rates, rate)
		}
	}
	take([]api.Flow{flow("a", 1000, 5), {Proto: "tcp", Container: "web", Direction: api.FlowOut, Outside: "1.2.3.4:8080", SentBytes: 9}})
	want(0) // the first look knows no time
	at = at.Add(2 * time.Second)
	take([]api.Flow{flow("a", 3000, 7), flow("b", 500, 1)}) // b is new: all of it counts
	want(1250)
	at = at.Add(2 * time.Second)
	take([]api.Flow{flow("b", 500, 3)}) // a has ended
	want(0)
	at = at.Add(2 * time.Second)
	take([]api.Flow{flow("b", 500, 5), flow("a", 9000, 3600)}) // an old one, not seen before
	want(0)
	at = at.Add(2 * time.Second)
	take([]api.Flow{flow("a", 100, 1), flow("b", 900, 7)}) // a is another one by now
	want(250)
}

// The hub measures them as long as there are not too many flows to look at.
func TestLivePublishedRates(t *testing.T) {
	c, leave := watch(t, newHub(newFake(2, 10), nil, quiet))
	defer leave()
	deadline := time.Now().Add(30 * time.Second)
	for next[counts](t, c, "counts").Published["c1 tcp 8080"] == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no rate")
		}
	}
	h := newHub(newFake(2, maxFlows+1), nil, quiet)
	for range 4 {
		if err := h.read(); err != nil {
			t.Fatal(err)
		}
	}
	if h.published.rates != nil || h.published.bytes != nil {
		t.Errorf("with too many flows: %v", h.published.rates)
	}
}
