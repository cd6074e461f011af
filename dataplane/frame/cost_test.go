package frame_test

import (
	"testing"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// A batch takes what fits into its limit, and one frame in any case: a limit must not keep
// a large frame for ever.
func TestABatchEndsWithItsLimit(t *testing.T) {
	none := make([]byte, frame.VnetHdrLen)
	one := frame.TakeCost(60) + (&frame.Offload{}).SendCost(60)
	var b frame.Batch
	b.Begin(10*one + one/2)
	n := 0
	for ; !b.Full() && b.Take(60, none); n++ {
		b.Next()
	}
	if n != 10 || !b.More() {
		t.Errorf("took %d frames, more is %v; want 10, true", n, b.More())
	}
	b.Begin(one / 2)
	if b.More() || !b.Take(60, none) || b.Take(60, none) {
		t.Error("want one frame that costs more than the limit, and no second")
	}
	b.Begin(frame.Unlimited)
	for range frame.BatchSize {
		if b.Full() || !b.Take(60_000, vnet(1, 1, 54, 500, 34, 16)) {
			t.Fatal("the batch is full")
		}
		b.Next()
	}
	if !b.More() {
		t.Error("a full batch says that there is no more")
	}
}

// What is cut costs as its segments do, by whatever they are made; what is refused does not.
func TestSegmentsCost(t *testing.T) {
	// The cost of one is by how many fit into a second.
	cost := func(gso uint8, size uint16, n int) int64 {
		var b frame.Batch
		b.Begin(1_000_000_000)
		taken := int64(0)
		for ; b.Take(n, vnet(1, gso, 0, size, 34, 16)); taken++ {
		}
		return 1_000_000_000 / taken
	}
	plain, many, few, refused := cost(0, 0, 1500), cost(1, 500, 60_000), cost(1, 1448, 60_000), cost(1, 8, 60_000)
	if !(plain < few && few < many) {
		t.Errorf("1500 bytes cost %d, 60 KB in segments of 1448 bytes %d, of 500 bytes %d", plain, few, many)
	}
	if refused > few {
		t.Errorf("a refused frame costs %d, more than one that is sent, %d", refused, few)
	}
	if udp := cost(5, 1, 34+8+128); udp < 20*cost(0, 0, 34+8+128) {
		t.Errorf("128 datagrams of a byte cost %d", udp)
	}
}
