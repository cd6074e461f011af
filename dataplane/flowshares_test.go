package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// One container fills the kernel's flow table with flows that are all in use; the flows of
// another are carried all the same, and it gets no more than there is room for.
func TestFlowTableIsShared(t *testing.T) {
	const pairs = 64
	l, maps := NewWithKernel(t, 4096, 2*pairs)
	offer := func(from, to string, port int) {
		l.Switch.OfferFrame(l.Port(from), Bytes(Packet{
			EthSrc: MAC(from), EthDst: MAC(to), Proto: header.ProtoUDP, Payload: []byte("x"),
			Src: fmt.Sprintf("%s:%d", Stations[from], port), Dst: Stations[to] + ":7",
		}))
		l.Switch.EnterOffers()
	}
	rows := func(from string) (n int) {
		for k := range maps.Keys {
			if k.Src == header.AddrFrom(netip.MustParseAddr(Stations[from])) {
				n++
			}
		}
		return n
	}
	for i := range 2 * pairs {
		offer("c2", "c3", 1000+i)
	}
	if got := rows("c2"); got != pairs {
		t.Fatalf("alone it has %d rows of %d pairs", got, pairs)
	}
	for round := range 20 {
		for i := range 2 * pairs {
			offer("c2", "c3", 1000+i)
			if i%8 == 0 {
				offer("c1", "c3", 2000+i/8)
			}
		}
		l.Advance(time.Second / 2)
		for i := range maps.Rows { // everything is in use
			maps.Rows[i].LastUse = uint64(1000 + round)
			maps.Rows[i].Packets++
		}
		if err := l.Switch.CheckEntries(); err != nil {
			t.Fatal(err)
		}
	}
	if got := rows("c1"); got != 16 {
		t.Errorf("c1 has %d rows, want all 16 of its flows", got)
	}
	if got := rows("c2"); got < pairs/2 {
		t.Errorf("c2 has %d rows of what c1 leaves", got)
	}
}
