package kernel

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Flags of bpf_l4_csum_replace (linux/bpf.h).
const (
	csumPseudoHeader = 0x10
	csumMangledZero  = 0x20
)

// sealName tells a seal of any process from other programs.
const sealName = "vsw_seal"

// redirectIngress is BPF_F_INGRESS of bpf_redirect: the interface receives the packet.
const redirectIngress = 1

// sealProgram keeps every packet of a container from the host's stack. Those that
// decide has marked go to their output.
func sealProgram(f *flows) *ebpf.ProgramSpec {
	var c code
	if f != nil {
		c.emit(asm.Mov.Reg(asm.R6, asm.R1))
		c.decided(f, "drop")
		c.execute("drop")
		c.at("drop")
	}
	c.ret(tcShot)
	return spec(sealName, ebpf.SchedCLS, c.ins)
}

// decided leaves in R9 the row that the filter of the tap has marked a packet with.
func (c *code) decided(f *flows, other string) {
	for i, w := range f.stampWords() {
		c.emit(
			asm.LoadImm(asm.R0, int64(w), asm.DWord),
			asm.LoadMem(asm.R1, asm.R6, int16(skbCB+4*i), asm.Word),
			asm.JNE.Reg(asm.R0, asm.R1, other),
		)
	}
	c.copy(asm.R10, flowIndex, asm.R6, skbCB+8, asm.Word)
	c.lookup(f.slots.FD(), flowIndex, other)
	c.emit(asm.Mov.Reg(asm.R9, asm.R0))
}

// execute does with a packet what row R9 says and ends the program.
func (c *code) execute(broken string) {
	c.emit(
		// The interface has another address than the frame: PACKET_OTHERHOST, which
		// the stack of the container would drop.
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0), // PACKET_HOST
		asm.FnSkbChangeType.Call(),
		asm.LoadMem(asm.R0, asm.R9, slotFlags, asm.Word),
		asm.And.Imm(asm.R0, dataplane.FlowRewrite),
		asm.JEq.Imm(asm.R0, 0, "output"),
		asm.LoadMem(asm.R8, asm.R6, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, asm.R8, asm.Half),
		asm.JNE.Imm(asm.R8, int32(families[0].etherType), "rewrite-"+families[1].name),
	)
	c.rewrite(families[0], broken)
	c.emit(asm.Ja.Label("output"))
	c.at("rewrite-" + families[1].name)
	c.rewrite(families[1], broken)
	c.at("output")
	c.emit(
		asm.LoadMem(asm.R1, asm.R9, slotOut, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.LoadMem(asm.R3, asm.R9, slotFlags, asm.Word),
		asm.Mov.Reg(asm.R0, asm.R3),
		asm.And.Imm(asm.R0, dataplane.FlowToPeer),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.FnRedirectPeer.Call(),
		asm.Return(),
	)
	c.at("out")
	c.emit(
		asm.And.Imm(asm.R3, dataplane.FlowToStack),
		asm.JEq.Imm(asm.R3, 0, "sent"),
		asm.Mov.Imm(asm.R2, redirectIngress),
	)
	c.at("sent")
	c.emit(asm.FnRedirect.Call(), asm.Return())
}

// rewrite gives a packet the addresses and ports of the row and takes a hop off its
// TTL. The checksum of the transport header comes first: the kernel tells by the
// packet as it is whether the checksum is finished or only the sum of the
// pseudo-header.
func (c *code) rewrite(f family, broken string) {
	size := int32(header.EthernetLen) + f.length + 4
	ttl, proto, addrs := int16(8), int16(9), f.src
	if f.version == 6 {
		ttl, proto = 7, 6
	}
	c.bytes(0, flowFrame, size, broken)
	c.emit(
		asm.LoadMem(asm.R7, asm.R10, flowIP+proto, asm.Byte),
		asm.Mov.Imm(asm.R8, 0), // flags
		asm.JNE.Imm(asm.R7, int32(header.ProtoUDP), "sum-tcp-"+f.name),
		asm.Mov.Imm(asm.R8, csumMangledZero),
		asm.Mov.Imm(asm.R7, int32(header.EthernetLen)+f.length+6),
		asm.Ja.Label("sum-"+f.name),
	)
	c.at("sum-tcp-" + f.name)
	c.emit(asm.Mov.Imm(asm.R7, int32(header.EthernetLen)+f.length+16))
	c.at("sum-" + f.name)
	for _, d := range []struct {
		at    int16
		flags int32
	}{{slotAddrDiff, csumPseudoHeader}, {slotPortDiff, 0}} {
		c.emit(
			asm.Mov.Reg(asm.R1, asm.R6),
			asm.Mov.Reg(asm.R2, asm.R7),
			asm.Mov.Imm(asm.R3, 0),
			asm.LoadMem(asm.R4, asm.R9, d.at, asm.Word),
			asm.Mov.Reg(asm.R5, asm.R8),
			asm.Or.Imm(asm.R5, d.flags),
			asm.FnL4CsumReplace.Call(),
			asm.JNE.Imm(asm.R0, 0, broken),
		)
	}
	for i := int16(0); i < 12; i += 2 {
		c.copy(asm.R10, flowFrame+i, asm.R9, slotMACs+i, asm.Half)
	}
	for i := int16(0); i < 2*(f.dst-f.src); i += 4 {
		c.copy(asm.R10, flowIP+addrs+i, asm.R9, slotAddrs+i, asm.Word)
	}
	c.copy(asm.R10, flowIP+int16(f.length), asm.R9, slotPorts, asm.Word)
	c.emit(
		asm.LoadMem(asm.R0, asm.R10, flowIP+ttl, asm.Byte),
		asm.Sub.Imm(asm.R0, 1),
		asm.StoreMem(asm.R10, flowIP+ttl, asm.R0, asm.Byte),
	)
	if f.version == 4 {
		c.emit(
			asm.LoadMem(asm.R0, asm.R10, flowIP+10, asm.Half),
			asm.Xor.Imm(asm.R0, 0xffff),
			asm.LoadMem(asm.R1, asm.R9, slotL3Diff, asm.Word),
			asm.Add.Reg(asm.R0, asm.R1),
		)
		for range 2 {
			c.emit(
				asm.Mov.Reg(asm.R1, asm.R0),
				asm.RSh.Imm(asm.R1, 16),
				asm.And.Imm(asm.R0, 0xffff),
				asm.Add.Reg(asm.R0, asm.R1),
			)
		}
		c.emit(
			asm.Xor.Imm(asm.R0, 0xffff),
			asm.StoreMem(asm.R10, flowIP+10, asm.R0, asm.Half),
		)
	}
	c.emit(
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, flowFrame),
		asm.Mov.Imm(asm.R4, size),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, broken),
	)
}
