package kernel

import (
	"strconv"

	"github.com/cilium/ebpf/asm"
)

// code is a program in the making. The registers that calls preserve keep their
// meaning all through a program:
//
//	R6  the context
//	R7  offset of the header in question, later the port
//	R8  its protocol, later the index of the protocol in a plane
//	R9  not zero: a later fragment
type code struct {
	ins    asm.Instructions
	label  string // of the next instruction
	unique int
}

// The stack of every program, as offsets from R10.
const (
	stackHeader  = -40  // IP header, 40 bytes
	stackAddress = -56  // key of the address map, 16 bytes
	stackL4      = -64  // head of an extension or transport header, 8 bytes
	stackQuoted  = -104 // IP header quoted by an ICMP error, 40 bytes
	stackSlot    = -108 // claim slot, 4 bytes
	stackWord    = -112 // key of a plane or of the sockets, 4 bytes
	stackPrefix  = -132 // key of the subnets, 20 bytes
	stackPeer    = -160 // key of the peers, 24 bytes
)

func (c *code) emit(ins ...asm.Instruction) {
	if c.label != "" {
		ins[0] = ins[0].WithSymbol(c.label)
		c.label = ""
	}
	c.ins = append(c.ins, ins...)
}

// at names the place of the next instruction.
func (c *code) at(label string) {
	if c.label != "" {
		c.emit(asm.Mov.Reg(asm.R0, asm.R0)) // two labels need two places
	}
	c.label = label
}

// fresh returns a label that is used nowhere else in the program.
func (c *code) fresh(name string) string {
	c.unique++
	return name + "-" + strconv.Itoa(c.unique)
}

// load copies n bytes at offset R7 of the packet to the stack. It jumps to short
// when the packet ends before. The helper reads paged data too, which direct
// access and bpf_skb_load_bytes_relative do not.
func (c *code) load(to int16, n int32, short string) {
	c.emit(
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, short),
	)
}

// field reads a number in network order from the stack.
func (c *code) field(dst asm.Register, at int16, size asm.Size) {
	c.emit(asm.LoadMem(dst, asm.R10, at, size))
	if size != asm.Byte {
		c.emit(asm.HostTo(asm.BE, dst, size))
	}
}

// lookup leaves a pointer to the value in R0 and jumps to missing without one.
func (c *code) lookup(fd int, key int16, missing string) {
	c.emit(
		asm.LoadMapPtr(asm.R1, fd),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, int32(key)),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, missing),
	)
}

// ret ends the program with a verdict.
func (c *code) ret(verdict int32) {
	c.emit(asm.Mov.Imm(asm.R0, verdict), asm.Return())
}
