package kernel

import (
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// More fields of struct __sk_buff. cb is five words that the kernel hands from one
// program to the next with the packet: from the filter of the tap to tc ingress.
const (
	skbLen     = 0
	skbIfindex = 40
	skbCB      = 48
	skbGSOSize = 176
)

// Offsets in the rows and accounts.
var (
	slotState    = int16(unsafe.Offsetof(dataplane.FlowSlot{}.State))
	slotOut      = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Out))
	slotLastIn   = int16(unsafe.Offsetof(dataplane.FlowSlot{}.LastIn))
	slotPackets  = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Packets))
	slotBytes    = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Bytes))
	slotFlags    = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Flags))
	slotMTU      = int16(unsafe.Offsetof(dataplane.FlowSlot{}.MTU))
	slotMACs     = int16(unsafe.Offsetof(dataplane.FlowSlot{}.MACs))
	slotAddrs    = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Addrs))
	slotPorts    = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Ports))
	slotL3Diff   = int16(unsafe.Offsetof(dataplane.FlowSlot{}.L3Diff))
	slotAddrDiff = int16(unsafe.Offsetof(dataplane.FlowSlot{}.AddrDiff))
	slotPortDiff = int16(unsafe.Offsetof(dataplane.FlowSlot{}.PortDiff))
	slotSeqEnd   = int16(unsafe.Offsetof(dataplane.FlowSlot{}.SeqEnd))
	slotAck      = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Ack))
	slotWindow   = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Window))
	slotLimit    = int16(unsafe.Offsetof(dataplane.FlowSlot{}.Limit))

	accountIn      = int16(unsafe.Offsetof(dataplane.FlowAccount{}.In))
	accountTaken   = int16(unsafe.Offsetof(dataplane.FlowAccount{}.Taken))
	accountLost    = int16(unsafe.Offsetof(dataplane.FlowAccount{}.Lost))
	accountDrained = int16(unsafe.Offsetof(dataplane.FlowAccount{}.Drained))
)

// The stack of programs that look flows up. The frame lies so that its IP header is
// aligned.
const (
	flowKeyAt    = -56      // dataplane.FlowKey
	flowFrame    = -56 - 74 // Ethernet, IP and the first 8 bytes of the transport header
	flowIP       = flowFrame + header.EthernetLen
	flowTCP      = -148 // of a TCP header, from the acknowledgment on, 8 bytes
	flowIndex    = -152 // key of an array
	flowHead     = -156 // length of the IP header
	flowBody     = -160 // and of what follows it, in the packet
	flowSeq      = -164 // TCP sequence number, in network order
	flowAccount  = -172 // number of an account
	flowState    = -176 // of the row, as it was found
	flowFragment = -168 // word of the IPv4 header that holds DF, in network order
)

var (
	keyProto = flowKeyAt + int16(unsafe.Offsetof(dataplane.FlowKey{}.Proto))
	keyMACs  = flowKeyAt + int16(unsafe.Offsetof(dataplane.FlowKey{}.MACs))
	keySrc   = flowKeyAt + int16(unsafe.Offsetof(dataplane.FlowKey{}.Src))
	keyDst   = flowKeyAt + int16(unsafe.Offsetof(dataplane.FlowKey{}.Dst))
	keyPorts = flowKeyAt + int16(unsafe.Offsetof(dataplane.FlowKey{}.Ports))
)

// TCP flags of a segment that the switch itself must see.
const (
	tcpFIN      = 0x01
	tcpSYNorRST = 0x06
)

// verdicts are how a program that decides ends: for frames of the switch, for those
// that nobody shall have, and for those that the kernel carries, with the row in R9
// and its number at flowIndex.
type verdicts struct {
	toSwitch, drop int32
	carry          func(*code)
}

// socketFilter keeps what the kernel carries from the socket and marks it for seal or
// guard.
func (f *flows) socketFilter() verdicts {
	return verdicts{toSwitch: -1, drop: 0, carry: func(c *code) {
		for i, w := range f.stampWords() {
			c.emit(
				asm.LoadImm(asm.R0, int64(w), asm.DWord),
				asm.StoreMem(asm.R6, int16(skbCB+4*i), asm.R0, asm.Word),
			)
		}
		c.emit(
			asm.LoadMem(asm.R0, asm.R10, flowIndex, asm.Word),
			asm.StoreMem(asm.R6, skbCB+8, asm.R0, asm.Word),
		)
		c.ret(0)
	}}
}

// decideProgram looks every frame of a container up in the flow table. Frames of
// active flows are kept from the socket and marked for the seal.
func decideProgram(f *flows) *ebpf.ProgramSpec {
	var c code
	c.emit(asm.Mov.Reg(asm.R6, asm.R1))
	c.decide(f, f.socketFilter(), "switch")
	c.at("switch")
	c.account(f, "uncounted")
	c.count()
	c.at("uncounted")
	c.ret(-1)
	return spec("vsw_decide", ebpf.SocketFilter, c.ins)
}

// account leaves the account of the interface in R7.
func (c *code) account(f *flows, missing string) {
	c.emit(
		asm.LoadMem(asm.R0, asm.R6, skbIfindex, asm.Word),
		asm.StoreMem(asm.R10, flowKeyAt, asm.R0, asm.Word), // FlowKey.Ifindex
	)
	c.lookup(f.ports.FD(), flowKeyAt, missing)
	c.emit(
		asm.LoadMem(asm.R0, asm.R0, 0, asm.Word),
		asm.StoreMem(asm.R10, flowAccount, asm.R0, asm.Word),
	)
	c.lookup(f.accounts.FD(), flowAccount, missing)
	c.emit(asm.Mov.Reg(asm.R7, asm.R0))
}

// count counts a frame that is for the switch in the account, R7.
func (c *code) count() {
	c.emit(asm.Mov.Imm(asm.R1, 1))
	c.add(asm.R7, accountIn, asm.R1)
}

// add adds a register to a counter in memory.
func (c *code) add(dst asm.Register, at int16, src asm.Register) {
	ins := asm.StoreXAdd(dst, src, asm.DWord)
	ins.Offset = at
	c.emit(ins)
}

// decide ends the program for frames of a flow in the table; others go on at other
// with R6 as it is, the context. What the kernel carries needs no account, so that it is
// looked up for the rest only.
func (c *code) decide(f *flows, v verdicts, other string) {
	c.row(f, other)
	c.emit(
		asm.LoadMem(asm.R1, asm.R9, slotFlags, asm.Word),
		asm.And.Imm(asm.R1, dataplane.FlowRewrite),
		asm.JEq.Imm(asm.R1, 0, "tracked"),
	)
	c.track("noted")
	c.at("tracked")
	c.emit(
		asm.LoadMem(asm.R0, asm.R9, slotState, asm.Word),
		asm.JEq.Imm(asm.R0, int32(dataplane.FlowActive), "active"),
		asm.JLT.Imm(asm.R0, int32(dataplane.FlowReady), "noted"),
		asm.StoreMem(asm.R10, flowState, asm.R0, asm.Word),
	)
	c.account(f, "uncounted")
	c.emit(
		asm.LoadMem(asm.R0, asm.R10, flowState, asm.Word),
		asm.LoadMem(asm.R1, asm.R7, accountTaken, asm.DWord),
		asm.LoadMem(asm.R2, asm.R7, accountLost, asm.DWord),
		asm.Add.Reg(asm.R1, asm.R2),
		asm.LoadMem(asm.R2, asm.R9, slotLastIn, asm.DWord),
		asm.JGT.Reg(asm.R2, asm.R1, "under-way"),
		asm.StoreImm(asm.R9, slotState, int64(dataplane.FlowActive), asm.Word),
	)
	c.at("active")
	c.wireSize()
	c.emit(
		asm.LoadMem(asm.R1, asm.R9, slotMTU, asm.Word),
		asm.JGT.Reg(asm.R0, asm.R1, "noted"),
		asm.Mov.Imm(asm.R1, 1),
	)
	c.add(asm.R9, slotPackets, asm.R1)
	c.emit(asm.LoadMem(asm.R1, asm.R6, skbLen, asm.Word))
	c.add(asm.R9, slotBytes, asm.R1)
	v.carry(c)

	c.at("under-way")
	c.emit(
		asm.JEq.Imm(asm.R0, int32(dataplane.FlowReady), "noted"),
		asm.Mov.Imm(asm.R1, 1),
	)
	c.add(asm.R7, accountDrained, asm.R1)
	c.ret(v.drop)

	c.at("noted")
	c.account(f, "uncounted")
	c.count()
	c.emit(
		asm.LoadMem(asm.R0, asm.R7, accountIn, asm.DWord),
		asm.StoreMem(asm.R9, slotLastIn, asm.R0, asm.DWord),
	)
	c.ret(v.toSwitch)
}

// track keeps what trackTCP must know of a routed flow and sends to the switch what
// it decides about: ends and resets of a flow, segments far out of the window, IPv4
// packets that need an identification.
func (c *code) track(toSwitch string) {
	c.emit(
		asm.LoadMem(asm.R1, asm.R9, slotFlags, asm.Word),
		asm.And.Imm(asm.R1, dataplane.FlowNeedsDF),
		asm.JEq.Imm(asm.R1, 0, "identified"),
		asm.LoadMem(asm.R1, asm.R10, flowFragment, asm.Word),
		asm.And.Imm(asm.R1, 0x0040),
		asm.JEq.Imm(asm.R1, 0, toSwitch),
	)
	c.at("identified")
	c.emit(
		asm.JNE.Imm(asm.R8, int32(header.ProtoTCP), "tracked"),
		asm.LoadMem(asm.R1, asm.R10, flowTCP+5, asm.Byte),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.And.Imm(asm.R2, tcpSYNorRST),
		asm.JNE.Imm(asm.R2, 0, toSwitch),
		asm.And.Imm(asm.R1, tcpFIN),
		asm.JEq.Imm(asm.R1, 0, "goes-on"),
		// What follows the FIN must not overtake it.
		asm.StoreImm(asm.R9, slotState, int64(dataplane.FlowOff), asm.Word),
		asm.Ja.Label(toSwitch),
	)
	c.at("goes-on")
	c.field(asm.R0, flowSeq, asm.Word)
	c.emit(
		asm.LoadMem(asm.R1, asm.R10, flowBody, asm.Word),
		asm.Add.Reg(asm.R0, asm.R1),
		asm.LoadMem(asm.R1, asm.R10, flowTCP+4, asm.Byte), // data offset, 32-bit words, upper half
		asm.RSh.Imm(asm.R1, 4),
		asm.LSh.Imm(asm.R1, 2),
		asm.Sub.Reg(asm.R0, asm.R1),
	)
	c.forward(slotSeqEnd, toSwitch)
	c.field(asm.R0, flowTCP, asm.Word)
	c.forward(slotAck, toSwitch)
	c.field(asm.R0, flowTCP+6, asm.Half)
	c.emit(asm.StoreMem(asm.R9, slotWindow, asm.R0, asm.Word))
}

// forward moves a sequence number of the row to R0 if that is ahead, and jumps to
// far when it is further away, in either direction, than the row's limit.
func (c *code) forward(at int16, far string) {
	done, behind := c.fresh("forward"), c.fresh("behind")
	c.emit(
		asm.LoadMem(asm.R1, asm.R9, at, asm.Word),
		asm.LoadMem(asm.R3, asm.R9, slotLimit, asm.Word),
		asm.Mov.Reg(asm.R2, asm.R0),
		asm.Sub.Reg(asm.R2, asm.R1),
		asm.LSh.Imm(asm.R2, 32),
		asm.ArSh.Imm(asm.R2, 32),
		asm.JSLE.Imm(asm.R2, 0, behind),
		asm.JSGT.Reg(asm.R2, asm.R3, far),
		asm.StoreMem(asm.R9, at, asm.R0, asm.Word),
		asm.Ja.Label(done),
	)
	c.at(behind)
	c.emit(
		asm.Mov.Imm(asm.R4, 0),
		asm.Sub.Reg(asm.R4, asm.R2),
		asm.JSGT.Reg(asm.R4, asm.R3, far),
	)
	c.at(done)
}

// wireSize leaves in R0 the length of the largest IP packet that the frame becomes
// on a wire.
func (c *code) wireSize() {
	c.emit(
		asm.LoadMem(asm.R0, asm.R6, skbGSOSize, asm.Word),
		asm.JNE.Imm(asm.R0, 0, "segments"),
		asm.LoadMem(asm.R0, asm.R6, skbLen, asm.Word),
		asm.Sub.Imm(asm.R0, header.EthernetLen),
		asm.Ja.Label("sized"),
	)
	c.at("segments")
	c.emit(
		asm.LoadMem(asm.R1, asm.R10, flowHead, asm.Word),
		asm.Add.Reg(asm.R0, asm.R1),
		asm.Mov.Imm(asm.R1, 8),
		asm.JEq.Imm(asm.R8, int32(header.ProtoUDP), "headed"),
		asm.LoadMem(asm.R1, asm.R10, flowTCP+4, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.LSh.Imm(asm.R1, 2),
	)
	c.at("headed")
	c.emit(asm.Add.Reg(asm.R0, asm.R1))
	c.at("sized")
}
