package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// feed is a list of n prefixes, of which a part is another in each version.
func feed(n, version int) []netip.Prefix {
	list := make([]netip.Prefix, n)
	for i := range list {
		b := byte(0)
		if i%10 == 0 {
			b = byte(version)
		}
		list[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(11 + i>>14), byte(i >> 6), byte(i << 2), b}), 32)
	}
	return list
}

// TestListsSwapWithoutASnapshot: ten thousand prefixes are swapped while the snapshot
// stays; what carried flows and connections were allowed by them ends, and nothing else.
func TestListsSwapWithoutASnapshot(t *testing.T) {
	l, _ := NewWithKernel(t, 4096, 1024)
	const list = dataplane.ListID(7)
	rows, err := policy.CompileRules([]policy.Rule{{
		Number: 1, Tier: dataplane.TierUser, Direction: dataplane.Out, Deny: true, Of: policy.Selector{Network: "one"}, With: policy.Selector{Name: "feed"},
	}}, &policy.Names{Networks: map[string]frame.NetworkID{"one": 1}, Lists: map[string]dataplane.ListID{"feed": list}})
	if err != nil {
		t.Fatal(err)
	}
	l.Written = rows
	l.Install()
	revision := l.Switch.RevisionOf()
	l.Switch.SetLists(map[dataplane.ListID][]netip.Prefix{list: feed(10000, 1)})
	flow := func(dst string, port uint16) []byte {
		return Bytes(Packet{Src: "10.1.0.11:" + itoa(int(port)), Dst: dst + ":7", Proto: header.ProtoUDP, Payload: []byte("x"), EthSrc: MAC("c1"), EthDst: MAC("host1"), DF: true})
	}
	ends, stays := flow("203.0.113.1", 5001), flow("203.0.113.2", 5002)
	for _, f := range [][]byte{ends, stays} {
		l.Send("c1", f)
		there := l.Expect("up")
		l.Send("up", answer(there))
		l.Expect("c1")
		l.Switch.OfferFrame(l.Port("c1"), f)
		l.Switch.EnterOffers()
	}
	if n := l.Switch.Stats().Flows.Rows; n != 2 {
		t.Fatalf("%d rows, want 2", n)
	}
	// What is swapped says the same: nothing happens.
	l.Switch.SetLists(map[dataplane.ListID][]netip.Prefix{list: feed(10000, 1)})
	next := append(feed(10000, 2), netip.MustParsePrefix("203.0.113.1/32"))
	l.Switch.SetLists(map[dataplane.ListID][]netip.Prefix{list: next})
	if n := l.Switch.Stats().Flows.Rows; n != 1 {
		t.Errorf("%d rows are left, want that of the other destination", n)
	}
	if got := l.Switch.RevisionOf(); got != revision {
		t.Errorf("the snapshot is number %d, want %d still", got, revision)
	}
	for i, p := range feed(10000, 2) {
		if !l.Switch.InList(list, p.Addr()) {
			t.Fatalf("%s is not in the list", p)
		}
		if was := feed(10000, 1)[i]; was != p && l.Switch.InList(list, was.Addr()) {
			t.Fatalf("%s is in the list still", was)
		}
		if i > 200 {
			break
		}
	}
	if n := l.Switch.Lists()[list]; n != 10001 {
		t.Errorf("the list has %d prefixes", n)
	}
	l.Send("c1", ends)
	l.Got("c1")
	l.ExpectDrop("c1", dataplane.DropIsolated, 1)
	l.Send("c1", stays)
	l.Expect("up")
	var conns []string
	for _, c := range l.Switch.Conns() {
		conns = append(conns, c.Orig.Dst.String())
	}
	if len(conns) != 1 || conns[0] != "203.0.113.2" {
		t.Errorf("connections to %v", conns)
	}
}

// BenchmarkLists swaps a list of which a tenth is another each time, with a full flow
// table that it does not touch.
func BenchmarkLists(b *testing.B) {
	for _, n := range []int{100, 10000} {
		b.Run(itoa(n), func(b *testing.B) {
			l := New(b)
			feeds := [2][]netip.Prefix{feed(n, 1), feed(n, 2)}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				i++
				l.Switch.SetLists(map[dataplane.ListID][]netip.Prefix{7: feeds[i&1]})
			}
		})
	}
}
