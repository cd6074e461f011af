package kernel

import (
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// fetchesAdd says whether programs may add to memory and have what it was before, in one step, as
// from Linux 5.12 on. They count identifications by it (rewrite.h).
var fetchesAdd = sync.OnceValue(func() bool {
	add := asm.FetchAdd.Mem(asm.RFP, asm.R0, asm.Word, -4)
	add.Constant = 1 // BPF_FETCH, BPF_ADD is 0: without it the library writes the addition that all kernels have
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SocketFilter, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R0, 0),
		asm.StoreMem(asm.RFP, -4, asm.R0, asm.Word),
		add,
		asm.Return(),
	}})
	p.Close() // nil is allowed
	return err == nil
})

// withoutFetch takes out what an older kernel refuses, reached or not. No row leads there then, as the
// data path has no counters from us.
func withoutFetch(list asm.Instructions) {
	for i, ins := range list {
		if ins.OpCode.Class() == asm.StXClass && ins.OpCode.Mode() == asm.AtomicMode && ins.OpCode.AtomicOp() == asm.FetchAdd {
			list[i] = asm.Mov.Reg32(ins.Src, ins.Src).WithMetadata(ins.Metadata)
		}
	}
}
