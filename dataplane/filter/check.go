package filter

import (
	"errors"

	"golang.org/x/net/bpf"
)

var (
	errUnknown = errors.New("is unknown")
	errZero    = errors.New("divides by zero")
	errScratch = errors.New("names a register that does not exist")
)

// translate checks the instruction at i.
func translate(in bpf.Instruction, i int) (out instruction, err error) {
	out.yes = uint16(i + 1) // where it goes on
	out.no = out.yes
	switch in := in.(type) {
	case bpf.RetConstant:
		out.op, out.k = retConst, in.Val
	case bpf.RetA:
		out.op = retA
	case bpf.LoadConstant:
		out.op, out.k = pick(in.Dst, loadConst, loadConstX), in.Val
	case bpf.LoadScratch:
		out.op, out.k = pick(in.Dst, loadMem, loadMemX), uint32(in.N)
		err = inScratch(in.N)
	case bpf.StoreScratch:
		out.op, out.k = pick(in.Src, store, storeX), uint32(in.N)
		err = inScratch(in.N)
	case bpf.LoadAbsolute:
		out.op, err = sized(in.Size, loadAbs1, loadAbs2, loadAbs4)
		out.k = in.Off
	case bpf.LoadIndirect:
		out.op, err = sized(in.Size, loadInd1, loadInd2, loadInd4)
		out.k = in.Off
	case bpf.LoadMemShift:
		out.op, out.k = loadShift, in.Off
	case bpf.LoadExtension:
		switch in.Num {
		case bpf.ExtLen:
			out.op = loadLen
		case bpf.ExtType:
			out.op = loadType
		default:
			err = errUnknown
		}
	case bpf.Jump:
		if in.Skip > MaxProgram {
			return out, errors.New("jumps too far")
		}
		out.op, out.yes = jump, uint16(i+1+int(in.Skip))
		out.no = out.yes
	case bpf.JumpIf:
		out.k = in.Val
		err = out.branch(in.Cond, i, in.SkipTrue, in.SkipFalse, ifEqual)
	case bpf.JumpIfX:
		err = out.branch(in.Cond, i, in.SkipTrue, in.SkipFalse, ifEqualX)
	case bpf.ALUOpConstant:
		out.k = in.Val
		if out.op, err = operation(in.Op, add); err == nil && in.Val == 0 && (out.op == div || out.op == mod) {
			err = errZero
		}
	case bpf.ALUOpX:
		out.op, err = operation(in.Op, addX)
	case bpf.NegateA:
		out.op = neg
	case bpf.TAX:
		out.op = tax
	case bpf.TXA:
		out.op = txa
	default:
		err = errUnknown
	}
	return out, err
}

func pick(r bpf.Register, a, x opcode) opcode {
	if r == bpf.RegX {
		return x
	}
	return a
}

func inScratch(n int) error {
	if n < 0 || n >= scratch {
		return errScratch
	}
	return nil
}

func sized(size int, one, two, four opcode) (opcode, error) {
	switch size {
	case 1:
		return one, nil
	case 2:
		return two, nil
	case 4:
		return four, nil
	}
	return 0, errors.New("loads neither 1, 2 nor 4 bytes")
}

// branch sets a conditional jump; first is the equality of its kind, which the
// others follow. Four conditions are others turned round.
func (in *instruction) branch(cond bpf.JumpTest, i int, yes, no uint8, first opcode) error {
	in.yes, in.no = uint16(i+1+int(yes)), uint16(i+1+int(no))
	turn := false
	switch cond {
	case bpf.JumpEqual, bpf.JumpNotEqual:
		in.op, turn = first, cond == bpf.JumpNotEqual
	case bpf.JumpGreaterThan, bpf.JumpLessOrEqual:
		in.op, turn = first+1, cond == bpf.JumpLessOrEqual
	case bpf.JumpGreaterOrEqual, bpf.JumpLessThan:
		in.op, turn = first+2, cond == bpf.JumpLessThan
	case bpf.JumpBitsSet, bpf.JumpBitsNotSet:
		in.op, turn = first+3, cond == bpf.JumpBitsNotSet
	default:
		return errUnknown
	}
	if turn {
		in.yes, in.no = in.no, in.yes
	}
	return nil
}

func operation(op bpf.ALUOp, first opcode) (opcode, error) {
	for i, o := range []bpf.ALUOp{
		bpf.ALUOpAdd, bpf.ALUOpSub, bpf.ALUOpMul, bpf.ALUOpDiv, bpf.ALUOpMod,
		bpf.ALUOpAnd, bpf.ALUOpOr, bpf.ALUOpXor, bpf.ALUOpShiftLeft, bpf.ALUOpShiftRight,
	} {
		if o == op {
			return first + opcode(i), nil
		}
	}
	return 0, errUnknown
}
