package filter

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
)

// program makes instructions of bytes, most of them valid.
func program(data []byte) (prog []bpf.Instruction) {
	for ; len(data) >= 8; data = data[8:] {
		v := binary.LittleEndian.Uint32(data[4:])
		if data[3]&1 == 0 {
			v &= 63
		}
		size := []int{1, 2, 4, 3}[data[1]&3]
		reg := bpf.Register(data[1] & 1)
		switch data[0] % 18 {
		case 0, 1:
			prog = append(prog, bpf.LoadAbsolute{Off: v, Size: size})
		case 2:
			prog = append(prog, bpf.LoadIndirect{Off: v, Size: size})
		case 3:
			prog = append(prog, bpf.LoadMemShift{Off: v})
		case 4:
			prog = append(prog, bpf.LoadConstant{Dst: reg, Val: v})
		case 5:
			prog = append(prog, bpf.LoadScratch{Dst: reg, N: int(data[2] % 17)})
		case 6:
			prog = append(prog, bpf.StoreScratch{Src: reg, N: int(data[2] % 17)})
		case 7:
			prog = append(prog, bpf.LoadExtension{Num: bpf.ExtLen})
		case 8, 9:
			prog = append(prog, bpf.JumpIf{Cond: bpf.JumpTest(data[1] % 9), Val: v, SkipTrue: data[2] & 7, SkipFalse: data[2] >> 4 & 7})
		case 10:
			prog = append(prog, bpf.JumpIfX{Cond: bpf.JumpTest(data[1] % 9), SkipTrue: data[2] & 7, SkipFalse: data[2] >> 4 & 7})
		case 11:
			prog = append(prog, bpf.Jump{Skip: v})
		case 12, 13:
			prog = append(prog, bpf.ALUOpConstant{Op: bpf.ALUOp(data[1]&0xf) << 4, Val: v})
		case 14:
			prog = append(prog, bpf.ALUOpX{Op: bpf.ALUOp(data[1]&0xf) << 4})
		case 15:
			prog = append(prog, bpf.NegateA{})
		case 16:
			prog = append(prog, bpf.TAX{})
		case 17:
			prog = append(prog, bpf.TXA{})
		}
	}
	return append(prog, bpf.RetA{}, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 1}, bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 1}, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 1}, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: 0})
}

// FuzzMatch: what New takes runs as in the interpreter of x/net, on any bytes.
func FuzzMatch(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 12, 0, 0, 0, 8, 0, 0x50, 1, 0, 8, 0, 0}, make([]byte, 60))
	f.Add([]byte{4, 1, 0, 0, 3, 0, 0, 0, 2, 1, 0, 0, 9, 0, 0, 0, 13, 3, 0, 0, 7, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 14, 4, 0, 0, 0, 0, 0, 0}, []byte("0123456789abcdef0123456789abcdef"))
	f.Add([]byte{7, 0, 0, 0, 0, 0, 0, 0, 6, 0, 3, 0, 0, 0, 0, 0, 5, 1, 3, 0, 0, 0, 0, 0, 10, 4, 0x31, 0, 0, 0, 0, 0}, make([]byte, 20))
	f.Fuzz(func(t *testing.T, data, b []byte) {
		prog := program(data)
		p, err := New(prog)
		if err != nil {
			return
		}
		vm, err := bpf.NewVM(prog)
		if err != nil {
			return // it refuses more
		}
		// A shift by more than 31 and an offset behind 2^31 differ there by the machine's word.
		want, err := vm.Run(b)
		if got := p.Match(b, len(b), false); err == nil && got != (want != 0) {
			t.Errorf("%v: got %v, want %d", prog, got, want)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	yes := bpf.RetConstant{Val: 1}
	for name, prog := range map[string][]bpf.Instruction{
		"empty":                 {},
		"no return":             {bpf.LoadConstant{Val: 1}},
		"jump behind the end":   {bpf.JumpIf{SkipTrue: 2}, yes},
		"plain jump far away":   {bpf.Jump{Skip: 1 << 31}, yes},
		"scratch":               {bpf.StoreScratch{N: 16}, yes},
		"scratch, negative":     {bpf.LoadScratch{N: -1}, yes},
		"division by zero":      {bpf.ALUOpConstant{Op: bpf.ALUOpDiv}, yes},
		"size":                  {bpf.LoadAbsolute{Size: 3}, yes},
		"extension":             {bpf.LoadExtension{Num: bpf.ExtRand}, yes},
		"too many instructions": make([]bpf.Instruction, MaxProgram+1),
		"raw":                   {bpf.RawInstruction{}, yes},
	} {
		if _, err := New(prog); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestMatchNoAllocs(t *testing.T) {
	p, err := New([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x800, SkipFalse: 1}, bpf.RetConstant{Val: 1}, bpf.RetConstant{},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	for _, out := range []bool{false, true} {
		q, err := New([]bpf.Instruction{
			bpf.LoadExtension{Num: bpf.ExtType}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 4, SkipFalse: 1}, bpf.RetConstant{Val: 1}, bpf.RetConstant{},
		})
		if err != nil || q.Match(b, 64, out) != out {
			t.Errorf("outgoing: got %v, %v, want %v", !out, err, out)
		}
	}
	if n := testing.AllocsPerRun(100, func() { p.Match(b, 64, true) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
