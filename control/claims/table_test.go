package claims

import (
	"errors"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
)

func TestF27PublishConflicts(t *testing.T) {
	a, b := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	web := func() string { return "web" }
	tab := New(nil, nil, nil)
	tab.enterLocked(&Ports{Proto: header.ProtoTCP, HostIP: a, HostFirst: 8000, HostLast: 8099, who: web})
	tab.enterLocked(&Ports{Proto: header.ProtoUDP, HostFirst: 53, HostLast: 53, who: web})
	released := &Ports{Proto: header.ProtoTCP, HostIP: a, HostFirst: 90, HostLast: 90, who: web}
	tab.enterLocked(released)
	tab.enterLocked(&Ports{Proto: header.ProtoTCP, HostIP: b, HostFirst: 90, HostLast: 90, who: web})
	tab.removeLocked(released)
	for _, tc := range []struct {
		proto       uint8
		ip          netip.Addr
		first, last uint16
		want        bool
	}{
		{header.ProtoTCP, a, 8050, 8050, true},
		{header.ProtoTCP, a, 7000, 8000, true},
		{header.ProtoTCP, a, 8099, 9000, true},
		{header.ProtoTCP, a, 1, 65535, true},
		{header.ProtoTCP, netip.Addr{}, 8050, 8050, false}, // the specific one wins
		{header.ProtoTCP, b, 8050, 8050, false},
		{header.ProtoUDP, a, 8050, 8050, false},
		{header.ProtoTCP, a, 8100, 8200, false},
		{header.ProtoUDP, b, 53, 53, false},
		{header.ProtoUDP, netip.Addr{}, 50, 60, true},
		{header.ProtoUDP, netip.Addr{}, 53, 53, true},
		{header.ProtoTCP, a, 90, 90, false},
		{header.ProtoTCP, b, 90, 90, true},
		{header.ProtoTCP, b, 80, 100, true},
	} {
		if got := tab.conflictLocked(&Ports{Proto: tc.proto, HostIP: tc.ip, HostFirst: tc.first, HostLast: tc.last}) != nil; got != tc.want {
			t.Errorf("conflict(%d, %v, %d-%d) = %v, want %v", tc.proto, tc.ip, tc.first, tc.last, got, tc.want)
		}
	}
	p := &Ports{Proto: header.ProtoTCP, HostIP: a, HostFirst: 8090, HostLast: 8200}
	if got, want := errPublished(tab.conflictLocked(p), p).Error(), "port 8090-8099/tcp is published by container web: choose another host port"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// slots are those that a kernel has.
type slots struct {
	Edge
	of   map[netip.Addr]int
	fail error
}

func (e *slots) ClaimSlot(a netip.Addr, slot int) error {
	for other, held := range e.of {
		if (other == a) != (held == slot) {
			return errors.New("that is another's")
		}
	}
	e.of[a] = slot
	return nil
}

func (e *slots) DropSlot(a netip.Addr) error {
	if e.fail == nil {
		delete(e.of, a)
	}
	return e.fail
}

// TestSlotThatCannotBeDropped: its number is nobody else's until the kernel lets it go, which
// is tried again. Its flows end first.
func TestSlotThatCannotBeDropped(t *testing.T) {
	e := &slots{of: make(map[netip.Addr]int)}
	var ended []int
	tab := New(e, func(s conntrack.Selector) int {
		if len(e.of) == 0 {
			t.Error("the kernel forgets the claims before the flows end")
		}
		ended = append(ended, s.Slot)
		return 0
	}, slog.New(slog.DiscardHandler))
	use := func(i int) int {
		t.Helper()
		slot, err := tab.UseSlot(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		return slot
	}
	a := netip.AddrFrom4([4]byte{198, 51, 100, 1})
	first := use(1)
	e.fail = errors.New("no memory")
	tab.DropSlot(a)
	if len(ended) != 1 || ended[0] != first {
		t.Errorf("the flows of slots %v end, want %d", ended, first)
	}
	for i := 2; i <= lastSlot; i++ {
		use(i)
	}
	if _, err := tab.UseSlot(netip.AddrFrom4([4]byte{198, 51, 101, 1})); err == nil {
		t.Error("a number that the kernel still has is given away")
	}
	if got := use(1); got != first { // the address comes back before it could be dropped
		t.Errorf("its slot is %d, was %d", got, first)
	}
	tab.DropSlot(a)
	e.fail = nil
	tab.retryDrops()
	if _, ok := e.of[a]; ok {
		t.Error("nobody tried again")
	}
	if got := use(255); got != first {
		t.Errorf("slot %d is free, and %d is given", first, got)
	}
}
