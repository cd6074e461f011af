package conntrack

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// TestIdentifiersAreShared: who goes on with the memory counts on where the one before has
// stopped, for each destination, whatever keys he would have; the programs are led to the same
// counter, and without them there is none for them.
func TestIdentifiersAreShared(t *testing.T) {
	to := header.Tuple{Dst: header.AddrFrom4([4]byte{198, 51, 100, 1}), Proto: header.ProtoUDP, DstPort: 53}
	memory := new(flowmap.Identifiers)
	one := NewIdentifiers(NewKeys(), memory)
	at := one.Flags(&to) >> flowmap.CounterShift
	if at == 0 || at > flowmap.MaxCounters {
		t.Fatalf("counter %d", at)
	}
	first := one.Next(&to, 45)
	memory.Next[at-1] += 3 // a program
	next := NewIdentifiers(NewKeys(), memory)
	if got := next.Next(&to, 1); got != first+48 || next.Flags(&to) != one.Flags(&to) {
		t.Errorf("the next one begins with %d after %d, flags %#x and %#x", got, first, one.Flags(&to), next.Flags(&to))
	}
	alone := NewIdentifiers(NewKeys(), nil)
	if a, b := alone.Next(&to, 2), alone.Next(&to, 1); b != a+2 || alone.Flags(&to) != 0 {
		t.Errorf("without programs %d, %d, flags %#x", a, b, alone.Flags(&to))
	}
}
