// Package filter runs classic BPF programs over frames, for captures: it takes
// what control has compiled, checks it once, and then decides about a frame
// without allocation and without a lock. It imports no other package of the switch.
package filter

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/net/bpf"
)

// MaxProgram is the largest number of instructions (BPF_MAXINSNS).
const MaxProgram = 4096

const scratch = 16 // BPF_MEMWORDS

type opcode uint8

const (
	retConst opcode = iota
	retA
	loadConst
	loadConstX
	loadLen
	loadType // PACKET_OUTGOING of what goes out, PACKET_HOST of what comes in
	loadAbs1
	loadAbs2
	loadAbs4
	loadInd1
	loadInd2
	loadInd4
	loadMem
	loadMemX
	loadShift // X = 4*(b[k]&15)
	store
	storeX
	jump
	ifEqual
	ifGreater
	ifGreaterEq
	ifSet
	ifEqualX
	ifGreaterX
	ifGreaterEqX
	ifSetX
	add
	sub
	mul
	div
	mod
	and
	or
	xor
	shl
	shr
	addX
	subX
	mulX
	divX
	modX
	andX
	orX
	xorX
	shlX
	shrX
	neg
	tax
	txa
)

// instruction is one step; yes and no are where a jump leads, counted from the
// beginning.
type instruction struct {
	op      opcode
	yes, no uint16
	k       uint32
}

// Program is a checked program. It is immutable and safe for concurrent use. A
// nil Program matches every frame.
type Program struct{ code []instruction }

// New checks a program: jumps stay inside it, each way ends in a return, and no
// constant divides by zero.
func New(prog []bpf.Instruction) (*Program, error) {
	if len(prog) == 0 || len(prog) > MaxProgram {
		return nil, fmt.Errorf("filter: program of %d instructions: from 1 to %d are allowed", len(prog), MaxProgram)
	}
	p := &Program{code: make([]instruction, len(prog))}
	for i, in := range prog {
		ins, err := translate(in, i)
		if err != nil {
			return nil, fmt.Errorf("filter: instruction %d, %v: %w", i, in, err)
		}
		last := int(max(ins.yes, ins.no))
		if ins.op != retConst && ins.op != retA && last >= len(prog) {
			return nil, fmt.Errorf("filter: instruction %d, %v: leads out of the program", i, in)
		}
		p.code[i] = ins
	}
	return p, nil
}

// Cost is how many instructions a frame may have to pass, at most: a program leads forward
// only. That of nil is 0.
func (p *Program) Cost() int {
	if p == nil {
		return 0
	}
	most := make([]int, len(p.code)) // from there on
	for i := len(p.code) - 1; i >= 0; i-- {
		in := &p.code[i]
		if most[i] = 1; in.op != retConst && in.op != retA {
			most[i] += max(most[in.yes], most[in.no])
		}
	}
	return most[0]
}

// outgoing is PACKET_OUTGOING of linux/if_packet.h.
const outgoing = 4

// Match reports whether a frame is wanted. b are the bytes that are there, size
// is the frame's length on the wire, and out says that it goes out where it is
// captured and does not come in there. A load from behind the bytes ends the
// program with no, as in the kernel.
func (p *Program) Match(b []byte, size int, out bool) bool {
	if p == nil {
		return true
	}
	var (
		a, x uint32
		mem  [scratch]uint32
		code = p.code
		n    = uint64(len(b))
	)
	for pc := 0; pc < len(code); {
		in := &code[pc]
		pc++
		k := in.k
		switch in.op {
		case loadAbs1:
			if uint64(k) >= n {
				return false
			}
			a = uint32(b[k])
		case loadAbs2:
			if uint64(k)+2 > n {
				return false
			}
			a = uint32(binary.BigEndian.Uint16(b[k:]))
		case loadAbs4:
			if uint64(k)+4 > n {
				return false
			}
			a = binary.BigEndian.Uint32(b[k:])
		case ifEqual:
			pc = int(in.no)
			if a == k {
				pc = int(in.yes)
			}
		case ifGreater:
			pc = int(in.no)
			if a > k {
				pc = int(in.yes)
			}
		case ifGreaterEq:
			pc = int(in.no)
			if a >= k {
				pc = int(in.yes)
			}
		case ifSet:
			pc = int(in.no)
			if a&k != 0 {
				pc = int(in.yes)
			}
		case retConst:
			return k != 0
		case loadShift:
			if uint64(k) >= n {
				return false
			}
			x = uint32(b[k]&15) * 4
		case loadInd1:
			at := uint64(k) + uint64(x)
			if at >= n {
				return false
			}
			a = uint32(b[at])
		case loadInd2:
			at := uint64(k) + uint64(x)
			if at+2 > n {
				return false
			}
			a = uint32(binary.BigEndian.Uint16(b[at:]))
		case loadInd4:
			at := uint64(k) + uint64(x)
			if at+4 > n {
				return false
			}
			a = binary.BigEndian.Uint32(b[at:])
		case and:
			a &= k
		case loadConst:
			a = k
		case loadConstX:
			x = k
		case loadLen:
			a = uint32(size)
		case loadType:
			if a = 0; out {
				a = outgoing
			}
		case loadMem:
			a = mem[k%scratch]
		case loadMemX:
			x = mem[k%scratch]
		case store:
			mem[k%scratch] = a
		case storeX:
			mem[k%scratch] = x
		case jump:
			pc = int(in.yes)
		case retA:
			return a != 0
		case tax:
			x = a
		case txa:
			a = x
		case ifEqualX, ifGreaterX, ifGreaterEqX, ifSetX:
			pc = int(in.no)
			if compareX(in.op, a, x) {
				pc = int(in.yes)
			}
		case divX, modX:
			if x == 0 {
				return false
			}
			a = compute(in.op-divX+div, a, x)
		case addX, subX, mulX, andX, orX, xorX, shlX, shrX:
			a = compute(in.op-addX+add, a, x)
		default:
			a = compute(in.op, a, k)
		}
	}
	return false
}

func compareX(op opcode, a, x uint32) bool {
	switch op {
	case ifEqualX:
		return a == x
	case ifGreaterX:
		return a > x
	case ifGreaterEqX:
		return a >= x
	}
	return a&x != 0
}

// compute is the arithmetic. A shift by more than 31 bits leaves 0.
func compute(op opcode, a, v uint32) uint32 {
	switch op {
	case add:
		return a + v
	case sub:
		return a - v
	case mul:
		return a * v
	case div:
		return a / v
	case mod:
		return a % v
	case and:
		return a & v
	case or:
		return a | v
	case xor:
		return a ^ v
	case shl:
		return a << v
	case shr:
		return a >> v
	}
	return -a // neg
}
