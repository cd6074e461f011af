package kernel

import (
	"github.com/cilium/ebpf/asm"

	"github.com/vswitch/vswitch/dataplane/header"
)

// row leaves in R9 the row of the flow that a frame belongs to and its number on
// the stack. The Ethernet header begins at offset 0.
func (c *code) row(f *flows, missing string) {
	keyed := c.fresh("keyed")
	c.emit(
		asm.LoadMem(asm.R0, asm.R6, skbVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R0, 0, missing),
		asm.LoadMem(asm.R8, asm.R6, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, asm.R8, asm.Half),
	)
	second := c.fresh("key-" + families[1].name)
	c.emit(asm.JNE.Imm(asm.R8, int32(families[0].etherType), second))
	c.key(families[0], keyed, missing)
	c.at(second)
	c.emit(asm.JNE.Imm(asm.R8, int32(families[1].etherType), missing))
	c.key(families[1], keyed, missing)
	c.at(keyed)
	c.emit(
		asm.LoadMem(asm.R0, asm.R6, skbIfindex, asm.Word),
		asm.StoreMem(asm.R10, flowKeyAt, asm.R0, asm.Word),
		asm.StoreMem(asm.R10, keyProto, asm.R8, asm.Word), // and the padding behind it
	)
	for i := int16(0); i < 12; i += 2 {
		c.copy(asm.R10, keyMACs+i, asm.R10, flowFrame+i, asm.Half)
	}
	c.lookup(f.keys.FD(), flowKeyAt, missing)
	c.emit(
		asm.LoadMem(asm.R0, asm.R0, 0, asm.Word),
		asm.StoreMem(asm.R10, flowIndex, asm.R0, asm.Word),
	)
	c.lookup(f.slots.FD(), flowIndex, missing)
	c.emit(asm.Mov.Reg(asm.R9, asm.R0))
}

// key reads a frame and puts its key together, but for what both families have
// in common. Only whole TCP and UDP packets without options or extension headers
// have one, and whose TTL leaves them a hop. R8 is the protocol afterwards.
func (c *code) key(f family, done, missing string) {
	l4 := flowIP + int16(f.length)
	c.bytes(0, flowFrame, int32(header.EthernetLen)+f.length+8, missing)
	c.emit(asm.LoadMem(asm.R0, asm.R10, flowIP, asm.Byte))
	if f.version == 4 {
		c.emit(
			asm.JNE.Imm(asm.R0, 0x45, missing),
			asm.LoadMem(asm.R0, asm.R10, flowIP+6, asm.Half),
			asm.StoreMem(asm.R10, flowFragment, asm.R0, asm.Word),
			asm.And.Imm(asm.R0, 0xff3f), // more fragments and offset, in network order
			asm.JNE.Imm(asm.R0, 0, missing),
			asm.LoadMem(asm.R8, asm.R10, flowIP+9, asm.Byte),
			asm.LoadMem(asm.R0, asm.R10, flowIP+8, asm.Byte),
			asm.JLE.Imm(asm.R0, 1, missing),
		)
		c.body(flowIP+2, f.length, 0, missing)
		for _, a := range [][2]int16{{keySrc, flowIP + f.src}, {keyDst, flowIP + f.dst}} {
			c.emit(
				asm.StoreImm(asm.R10, a[0], 0, asm.Word),
				asm.StoreImm(asm.R10, a[0]+4, 0, asm.Word),
				asm.StoreImm(asm.R10, a[0]+8, 0, asm.Half),
				asm.StoreImm(asm.R10, a[0]+10, 0xffff, asm.Half),
			)
			c.copy(asm.R10, a[0]+12, asm.R10, a[1], asm.Word)
		}
	} else {
		c.emit(
			asm.StoreImm(asm.R10, flowFragment, 0x0040, asm.Word), // DF, in network order
			asm.RSh.Imm(asm.R0, 4),
			asm.JNE.Imm(asm.R0, f.version, missing),
			asm.LoadMem(asm.R8, asm.R10, flowIP+6, asm.Byte),
			asm.LoadMem(asm.R0, asm.R10, flowIP+7, asm.Byte),
			asm.JLE.Imm(asm.R0, 1, missing),
		)
		c.body(flowIP+4, f.length, f.length, missing)
		for i := int16(0); i < 32; i += 4 {
			c.copy(asm.R10, keySrc+i, asm.R10, flowIP+f.src+i, asm.Word)
		}
	}
	c.copy(asm.R10, keyPorts, asm.R10, l4, asm.Word)
	c.copy(asm.R10, flowSeq, asm.R10, l4+4, asm.Word)
	tcp := c.fresh("tcp")
	c.emit(
		asm.StoreImm(asm.R10, flowHead, int64(f.length), asm.Word),
		asm.JEq.Imm(asm.R8, int32(header.ProtoTCP), tcp),
		asm.StoreImm(asm.R10, flowTCP, 0, asm.Word),
		asm.StoreImm(asm.R10, flowTCP+4, 0, asm.Word),
		asm.JNE.Imm(asm.R8, int32(header.ProtoUDP), missing),
		asm.LoadMem(asm.R1, asm.R10, flowBody, asm.Word),
	)
	c.field(asm.R0, l4+4, asm.Half) // length, 0 in a super-packet of more than 64 KiB
	c.emit(
		asm.JLT.Imm(asm.R0, 8, missing),
		asm.JGT.Reg(asm.R0, asm.R1, missing),
		asm.Ja.Label(done),
	)
	c.at(tcp)
	c.bytes(int32(header.EthernetLen)+f.length+8, flowTCP, 8, missing)
	c.emit(
		asm.LoadMem(asm.R0, asm.R10, flowTCP+4, asm.Byte), // data offset, 32-bit words, upper half
		asm.RSh.Imm(asm.R0, 4),
		asm.JLT.Imm(asm.R0, 5, missing),
		asm.LSh.Imm(asm.R0, 2),
		asm.LoadMem(asm.R1, asm.R10, flowBody, asm.Word),
		asm.JGT.Reg(asm.R0, asm.R1, missing),
		asm.Ja.Label(done),
	)
}

// body stores the length of what follows the IP header. at is the length in that
// header, which counts all but uncounted bytes; it is 0 in packets of more than
// 64 KiB. A packet that claims to be longer than its frame is left to the switch.
func (c *code) body(at int16, head, uncounted int32, broken string) {
	given := c.fresh("length")
	c.field(asm.R0, at, asm.Half)
	c.emit(
		asm.LoadMem(asm.R1, asm.R6, skbLen, asm.Word),
		asm.Sub.Imm(asm.R1, header.EthernetLen),
		asm.Add.Imm(asm.R0, uncounted),
		asm.JNE.Imm(asm.R0, uncounted, given),
		asm.Mov.Reg(asm.R0, asm.R1),
	)
	c.at(given)
	c.emit(
		asm.JGT.Reg(asm.R0, asm.R1, broken),
		asm.JLT.Imm(asm.R0, head, broken),
		asm.Sub.Imm(asm.R0, head),
		asm.StoreMem(asm.R10, flowBody, asm.R0, asm.Word),
	)
}

// bytes copies n bytes at an offset of the packet to the stack.
func (c *code) bytes(at int32, to int16, n int32, short string) {
	c.emit(
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, at),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, int32(to)),
		asm.Mov.Imm(asm.R4, n),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, short),
	)
}

// copy moves a word from one place in memory to another.
func (c *code) copy(dst asm.Register, to int16, src asm.Register, from int16, size asm.Size) {
	c.emit(
		asm.LoadMem(asm.R0, src, from, size),
		asm.StoreMem(dst, to, asm.R0, size),
	)
}
