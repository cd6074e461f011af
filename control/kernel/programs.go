package kernel

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane"
)

// Verdicts of a tc program (linux/pkt_cls.h). tcUnspec is TCX_NEXT as well: the
// next program, and in the end the stack, decides.
const (
	tcUnspec = -1
	tcShot   = 2
)

// license is what the programs declare to the kernel; they call no helper that is
// reserved for GPL programs.
const license = "Apache-2.0"

// filterProgram accepts whole packets that are ours and later fragments, but for
// those of active flows, which it marks for the guard.
func filterProgram(p *planes, f *flows) *ebpf.ProgramSpec {
	var c code
	c.emit(
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R0, asm.R6, skbPktType, asm.Word),
		asm.JNE.Imm(asm.R0, unix.PACKET_HOST, "ignore"),
	)
	if f != nil {
		c.decide(f, f.socketFilter(), "switch")
		c.at("switch")
	}
	c.classify(p, "accept", "accept", "ignore")
	c.at("accept")
	if f != nil {
		c.account(f, "uncounted")
		c.count()
		c.at("uncounted")
	}
	c.ret(-1) // bytes to keep, unsigned
	c.at("ignore")
	c.ret(0)
	return spec("vsw_filter", ebpf.SocketFilter, c.ins)
}

// guardProgram drops what is ours, and executes what filter has decided. Later
// fragments pass, for they may be the
// host's; of ours the host misses the first one, so it neither completes the
// packet nor answers (RFC 792: time exceeded needs fragment zero).
//
// A filter of another daemon on the same uplink wipes the mark. So a row that has
// been active for long is executed without.
//
// With a deadline, a map of one word, it drops nothing once CLOCK_MONOTONIC has
// passed that.
func guardProgram(p *planes, f *flows, deadline *ebpf.Map) *ebpf.ProgramSpec {
	var c code
	c.emit(asm.Mov.Reg(asm.R6, asm.R1))
	if f != nil {
		c.decided(f, "undecided")
		c.at("flow")
		c.execute("shot")
		c.at("undecided")
	}
	c.classify(p, "drop", "pass", "pass")
	c.at("drop")
	if deadline != nil {
		c.alive(deadline, "pass")
	}
	if f != nil {
		c.row(f, "shot")
		c.emit(
			asm.LoadMem(asm.R0, asm.R9, slotState, asm.Word),
			asm.JNE.Imm(asm.R0, int32(dataplane.FlowActive), "shot"),
			asm.LoadMem(asm.R0, asm.R9, slotFlags, asm.Word),
			asm.And.Imm(asm.R0, dataplane.FlowSure),
			asm.JNE.Imm(asm.R0, 0, "flow"),
		)
	}
	c.at("shot")
	c.ret(tcShot)
	c.at("pass")
	c.ret(tcUnspec)
	return spec("vsw_guard", ebpf.SchedCLS, c.ins)
}

func spec(name string, typ ebpf.ProgramType, ins asm.Instructions) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{Name: name, Type: typ, Instructions: ins, License: license}
}
