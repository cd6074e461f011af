package dataplane

import "testing"

// A flow that nothing has allowed in this process has revision 0, which is no epoch's, also
// when the numbers go round.
func TestEpochIsNever0(t *testing.T) {
	seen := make(map[uint32]bool)
	for _, revision := range []uint64{0, 1, 1<<31 - 2, 1<<31 - 1, 1<<32 - 1} {
		n := (&Snapshot{revision: revision}).epoch(&listTable{generation: 1})
		if n == 0 || seen[n] && revision < 1<<31-1 {
			t.Errorf("revision %d has epoch %d", revision, n)
		}
		seen[n] = true
	}
	if n := new(Snapshot).epoch(new(listTable)); n == 0 {
		t.Error("the first snapshot has epoch 0")
	}
}
