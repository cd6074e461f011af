package fdb

import (
	"testing"
	"unsafe"
)

// The size that docs/operations.md and ADR 3 name, for the switch's 4096 ports.
func TestDocumentedSize(t *testing.T) {
	f := New(16384, 4096)
	if got := len(f.cells) * int(unsafe.Sizeof(f.cells[0])); got != 3<<20 {
		t.Errorf("the FDB takes %d KiB, documented are 3072", got>>10)
	}
}
