package kernel

import (
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Fields of struct __sk_buff (linux/bpf.h).
const (
	skbPktType     = 4
	skbProtocol    = 16
	skbVLANPresent = 20
)

// maxExtensions bounds the walk through IPv6 extension headers. What has more
// is not ours, so the host's stack deals with it.
const maxExtensions = 4

// family is what differs between IPv4 and IPv6.
type family struct {
	name        string
	etherType   uint16
	version     int32
	length      int32 // of the fixed header
	src, dst    int16 // offsets in it
	icmp        int32
	echoRequest int32
	echoReply   int32
	errors      []int32 // ICMP types that quote a packet
}

var families = []family{
	{
		name: "ipv4", etherType: header.TypeIPv4, version: 4, length: 20, src: 12, dst: 16,
		icmp: int32(header.ProtoICMP), echoRequest: 8, echoReply: 0,
		errors: []int32{3, 11, 12},
	}, {
		name: "ipv6", etherType: header.TypeIPv6, version: 6, length: 40, src: 8, dst: 24,
		icmp: int32(header.ProtoICMPv6), echoRequest: 128, echoReply: 129,
		errors: []int32{1, 2, 3, 4},
	},
}

// classify, with the context in R6, jumps to ours, to fragment for a later fragment of a packet to an
// address with a slot (it bears no ports, so whose it is cannot be seen here),
// and to other. The frame starts with an untagged Ethernet header.
//
// Lengths in the headers are not compared: a packet that lies about its length is
// dropped as malformed by whoever gets it, and IPv4 super-packets of more than
// 64 KiB have total length 0.
func (c *code) classify(p *planes, ours, fragment, other string) {
	// The tap also sees what the host sends, and what a promiscuous interface
	// receives for others.
	c.emit(
		asm.LoadMem(asm.R0, asm.R6, skbPktType, asm.Word),
		asm.JNE.Imm(asm.R0, unix.PACKET_HOST, other),
		asm.LoadMem(asm.R0, asm.R6, skbVLANPresent, asm.Word),
		asm.JNE.Imm(asm.R0, 0, other),
		asm.LoadMem(asm.R8, asm.R6, skbProtocol, asm.Word),
		asm.HostTo(asm.BE, asm.R8, asm.Half),
		asm.JEq.Imm(asm.R8, int32(families[0].etherType), families[0].name),
		asm.JEq.Imm(asm.R8, int32(families[1].etherType), families[1].name),
		asm.Ja.Label(other),
	)
	for _, f := range families {
		c.at(f.name)
		c.emit(asm.Mov.Imm(asm.R7, header.EthernetLen))
		c.network(f, stackHeader, other)
		c.address(p, f, other)
		c.emit(asm.JNE.Imm(asm.R9, 0, fragment))
		c.transport(p, f, ours, other)
	}
	c.at("claimed")
	c.claimed(p, ours, other)
	c.at("subnet")
	c.subnet(p, ours, other)
}

// network copies the IP header at R7 to the stack and leaves the offset of the
// transport header in R7, its protocol in R8, and in R9 whether there is none
// because this is a later fragment.
func (c *code) network(f family, at int16, other string) {
	c.load(at, f.length, other)
	c.emit(
		asm.LoadMem(asm.R0, asm.R10, at, asm.Byte),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.RSh.Imm(asm.R0, 4),
		asm.JNE.Imm(asm.R0, f.version, other),
	)
	if f.version == 4 {
		c.emit(
			asm.And.Imm(asm.R1, 0x0f), // IHL, 32-bit words
			asm.JLT.Imm(asm.R1, 5, other),
			asm.LSh.Imm(asm.R1, 2),
			asm.Add.Reg(asm.R7, asm.R1),
			asm.LoadMem(asm.R8, asm.R10, at+9, asm.Byte),
		)
		c.field(asm.R9, at+6, asm.Half)
		c.emit(asm.And.Imm(asm.R9, 0x1fff))
		return
	}
	c.emit(
		asm.Add.Imm(asm.R7, f.length),
		asm.LoadMem(asm.R8, asm.R10, at+6, asm.Byte),
		asm.Mov.Imm(asm.R9, 0),
	)
	c.extensions(other)
}

// extensions walks the IPv6 extension headers (RFC 8200, section 4) from R7 to
// the transport header or the header of a later fragment.
func (c *code) extensions(other string) {
	done := c.fresh("extensions-done")
	for range maxExtensions {
		options, next := c.fresh("options"), c.fresh("next-header")
		c.emit(
			asm.JEq.Imm(asm.R8, unix.IPPROTO_HOPOPTS, options),
			asm.JEq.Imm(asm.R8, unix.IPPROTO_ROUTING, options),
			asm.JEq.Imm(asm.R8, unix.IPPROTO_DSTOPTS, options),
			asm.JNE.Imm(asm.R8, unix.IPPROTO_FRAGMENT, done),
		)
		c.load(stackL4, 8, other)
		c.field(asm.R9, stackL4+2, asm.Half)
		c.emit(
			asm.And.Imm(asm.R9, 0xfff8),
			asm.LoadMem(asm.R8, asm.R10, stackL4, asm.Byte),
			asm.Add.Imm(asm.R7, 8),
			asm.JNE.Imm(asm.R9, 0, done),
			asm.Ja.Label(next),
		)
		c.at(options)
		c.load(stackL4, 8, other)
		c.emit(
			asm.LoadMem(asm.R8, asm.R10, stackL4, asm.Byte),
			asm.LoadMem(asm.R0, asm.R10, stackL4+1, asm.Byte),
			asm.LSh.Imm(asm.R0, 3),
			asm.Add.Imm(asm.R0, 8),
			asm.Add.Reg(asm.R7, asm.R0),
		)
		c.at(next)
	}
	c.at(done)
}

// address finds the slot of the destination, and jumps to subnet when it is no
// address of the host. A loopback address may hold claims,
// but never on the wire: the host's stack drops such packets as martian, and so
// a port published on 127.0.0.1 stays closed to the neighbours.
func (c *code) address(p *planes, f family, other string) {
	if f.version == 4 {
		c.emit(
			asm.LoadMem(asm.R0, asm.R10, stackHeader+f.dst, asm.Byte),
			asm.JEq.Imm(asm.R0, 127, other),
		)
		c.emit(asm.LoadMem(asm.R0, asm.R10, stackHeader+f.dst, asm.Word))
		c.mapped(asm.R0)
	} else {
		c.emit(
			asm.LoadMem(asm.R0, asm.R10, stackHeader+f.dst, asm.DWord),
			asm.JEq.Imm(asm.R0, 0, other), // ::1, :: and every IPv4-mapped address
			asm.StoreMem(asm.R10, stackAddress, asm.R0, asm.DWord),
			asm.LoadMem(asm.R0, asm.R10, stackHeader+f.dst+8, asm.DWord),
			asm.StoreMem(asm.R10, stackAddress+8, asm.R0, asm.DWord),
		)
	}
	c.lookup(p.addrs.FD(), stackAddress, "subnet")
	c.emit(
		asm.LoadMem(asm.R0, asm.R0, 0, asm.Word),
		asm.StoreMem(asm.R10, stackSlot, asm.R0, asm.Word),
	)
}

// mapped makes a key of the address map from an IPv4 address in network
// order.
func (c *code) mapped(addr asm.Register) {
	c.emit(
		asm.StoreImm(asm.R10, stackAddress, 0, asm.Word),
		asm.StoreImm(asm.R10, stackAddress+4, 0, asm.Word),
		asm.StoreImm(asm.R10, stackAddress+8, 0, asm.Half),
		asm.StoreImm(asm.R10, stackAddress+10, 0xffff, asm.Half),
		asm.StoreMem(asm.R10, stackAddress+12, addr, asm.Word),
	)
}

// transport leaves in R7 the port of the host that the packet is about and in R8
// its index in a plane, and jumps to claimed. What has no such port is ours by its
// peer or not at all.
func (c *code) transport(p *planes, f family, ours, other string) {
	tcp, udp, icmp := c.fresh("tcp"), c.fresh("udp"), c.fresh("icmp")
	ports, reply := c.fresh("ports"), c.fresh("reply")
	c.demux(f, tcp, udp, icmp)
	c.peer(p, f, stackHeader, f.src, 2, 0, ours, other)
	c.at(tcp)
	c.emit(asm.Mov.Imm(asm.R8, int32(dataplane.ClaimProto(header.ProtoTCP))), asm.Ja.Label(ports))
	c.at(udp)
	c.emit(asm.Mov.Imm(asm.R8, int32(dataplane.ClaimProto(header.ProtoUDP))))
	c.at(ports)
	c.load(stackL4, 4, other)
	c.field(asm.R7, stackL4+2, asm.Half)
	c.emit(asm.Ja.Label("claimed"))

	c.at(icmp)
	c.load(stackL4, 8, other)
	c.field(asm.R0, stackL4, asm.Byte)
	c.emit(asm.JEq.Imm(asm.R0, f.echoReply, reply))
	quoted := c.fresh("quoted")
	for _, t := range f.errors {
		c.emit(asm.JEq.Imm(asm.R0, t, quoted))
	}
	c.emit(asm.Ja.Label(other))
	c.at(reply)
	c.identifier()

	c.at(quoted)
	c.emit(asm.Add.Imm(asm.R7, 8))
	c.quoted(p, f, ours, other)
}

// quoted is transport for an ICMP error: the host's port is the source of the
// packet it quotes, which the host's address must have sent.
func (c *code) quoted(p *planes, f family, ours, other string) {
	c.network(f, stackQuoted, other)
	c.emit(asm.JNE.Imm(asm.R9, 0, other))
	for at := int16(0); at < f.dst-f.src; at += 4 {
		c.emit(
			asm.LoadMem(asm.R0, asm.R10, stackHeader+f.dst+at, asm.Word),
			asm.LoadMem(asm.R1, asm.R10, stackQuoted+f.src+at, asm.Word),
			asm.JNE.Reg(asm.R0, asm.R1, other),
		)
	}
	tcp, udp, icmp := c.fresh("quoted-tcp"), c.fresh("quoted-udp"), c.fresh("quoted-icmp")
	ports := c.fresh("quoted-ports")
	c.demux(f, tcp, udp, icmp)
	c.peer(p, f, stackQuoted, f.dst, 0, 2, ours, other)
	c.at(tcp)
	c.emit(asm.Mov.Imm(asm.R8, int32(dataplane.ClaimProto(header.ProtoTCP))), asm.Ja.Label(ports))
	c.at(udp)
	c.emit(asm.Mov.Imm(asm.R8, int32(dataplane.ClaimProto(header.ProtoUDP))))
	c.at(ports)
	c.load(stackL4, 4, other)
	c.field(asm.R7, stackL4, asm.Half)
	c.emit(asm.Ja.Label("claimed"))

	c.at(icmp)
	c.load(stackL4, 8, other)
	c.field(asm.R0, stackL4, asm.Byte)
	c.emit(asm.JNE.Imm(asm.R0, f.echoRequest, other))
	c.identifier()
}

// demux goes on behind it with protocols that have no port in a plane, or may be
// a peer's.
func (c *code) demux(f family, tcp, udp, icmp string) {
	c.emit(
		asm.JEq.Imm(asm.R8, int32(header.ProtoTCP), tcp),
		asm.JEq.Imm(asm.R8, int32(header.ProtoUDP), udp),
		asm.JEq.Imm(asm.R8, f.icmp, icmp),
	)
}

// identifier takes the identifier of an ICMP query for its port.
func (c *code) identifier() {
	c.field(asm.R7, stackL4+4, asm.Half)
	c.emit(
		asm.Mov.Imm(asm.R8, int32(dataplane.ClaimProto(header.ProtoICMP))),
		asm.Ja.Label("claimed"),
	)
}

// claimed looks port R7 of protocol R8 up: masquerade mappings and published
// ports of the slot, then the ports published on every address of the family.
func (c *code) claimed(p *planes, ours, other string) {
	c.emit(asm.LoadMem(asm.R0, asm.R10, stackSlot, asm.Word))
	c.word(asm.R0)
	c.bit(p.masquerade.FD(), ours, other)
	c.bit(p.published.FD(), ours, other)
	c.emit(
		asm.LoadMem(asm.R1, asm.R10, stackHeader, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
	)
	c.wildcard(asm.R1, families[0].version)
	c.word(asm.R0)
	c.bit(p.published.FD(), ours, other)
	c.emit(asm.Ja.Label(other))
}

// wildcard leaves in R0 the slot of every IPv4 address if a register has the given
// value, else that of every IPv6 address.
func (c *code) wildcard(r asm.Register, isIPv4 int32) {
	done := c.fresh("wildcard")
	c.emit(
		asm.Mov.Imm(asm.R0, dataplane.WildcardSlot),
		asm.JEq.Imm(r, isIPv4, done),
		asm.Mov.Imm(asm.R0, dataplane.WildcardSlot6),
	)
	c.at(done)
}

// subnet looks the destination up in the claimed subnets. All of a packet to one
// is ours, also its later fragments.
func (c *code) subnet(p *planes, ours, other string) {
	c.emit(asm.StoreImm(asm.R10, stackPrefix, 128, asm.Word))
	for at := int16(0); at < 16; at += 4 {
		c.emit(
			asm.LoadMem(asm.R0, asm.R10, stackAddress+at, asm.Word),
			asm.StoreMem(asm.R10, stackPrefix+4+at, asm.R0, asm.Word),
		)
	}
	c.lookup(p.subnets.FD(), stackPrefix, other)
	c.emit(asm.Ja.Label(ours))
}

// word is dataplane.ClaimWord of the slot in a register, R8 and R7, stored as a
// key.
func (c *code) word(slot asm.Register) {
	const protos = dataplane.ClaimWords / dataplane.ClaimSlots / 1024
	c.emit(
		asm.Mul.Imm(slot, protos),
		asm.Add.Reg(slot, asm.R8),
		asm.LSh.Imm(slot, 10),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.RSh.Imm(asm.R1, 6),
		asm.Add.Reg(slot, asm.R1),
		asm.StoreMem(asm.R10, stackWord, slot, asm.Word),
	)
}

// bit jumps to set when the bit of port R7 stands in the word.
func (c *code) bit(plane int, set, missing string) {
	c.lookup(plane, stackWord, missing)
	c.emit(
		asm.LoadMem(asm.R0, asm.R0, 0, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.R7),
		asm.And.Imm(asm.R1, 63),
		asm.RSh.Reg(asm.R0, asm.R1),
		asm.And.Imm(asm.R0, 1),
		asm.JNE.Imm(asm.R0, 0, set),
	)
}
