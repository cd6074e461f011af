package labtest

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/vswitch/vswitch/internal/netlab"
)

// CountFrames counts what an interface hands to the stack of its namespace, after all other
// programs at its ingress: the result tells how many frames of a length there were. It needs
// TCX (Linux 6.6).
func CountFrames(t testing.TB, ns *netlab.NS, ifname string) func(length int) int {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 2048})
	if err != nil {
		t.Fatal(err)
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), // the frame's length
		asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
		asm.LoadMapPtr(asm.R1, m.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("out"), // TCX_NEXT
		asm.Return(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	index, err := ns.Index(ifname)
	if err != nil {
		t.Fatal(err)
	}
	var l link.Link
	err = ns.Do(func() (err error) {
		l, err = link.AttachTCX(link.TCXOptions{Interface: index, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: link.Tail()})
		return err
	})
	if err != nil {
		SkipOldKernel(t, 6, 6, err.Error())
	}
	t.Cleanup(func() { l.Close(); m.Close() })
	return func(length int) int {
		t.Helper()
		var n uint64
		if err := m.Lookup(uint32(length), &n); err != nil {
			t.Fatal(err)
		}
		return int(n)
	}
}
