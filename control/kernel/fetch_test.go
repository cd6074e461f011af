package kernel

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestWithoutFetch: what Linux before 5.12 refuses is there and can be taken out of all
// programs, which load then.
func TestWithoutFetch(t *testing.T) {
	labtest.NeedBPF(t)
	s, err := loadPrograms()
	if err != nil {
		t.Fatal(err)
	}
	fetches := func(p *ebpf.ProgramSpec) (n int) {
		for _, ins := range p.Instructions {
			if ins.OpCode.Class() == asm.StXClass && ins.OpCode.Mode() == asm.AtomicMode && ins.OpCode.AtomicOp() != asm.AddAtomic {
				n++
			}
		}
		return n
	}
	had := 0
	for name, p := range s.Programs {
		had += fetches(p)
		withoutFetch(p.Instructions)
		if n := fetches(p); n > 0 {
			t.Errorf("%s has %d more", name, n)
		}
	}
	if had == 0 {
		t.Error("no program counts identifications")
	}
	c, err := ebpf.NewCollection(s)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
