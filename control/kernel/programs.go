package kernel

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
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

// sealProgram drops everything.
func sealProgram() *ebpf.ProgramSpec {
	var c code
	c.ret(tcShot)
	return spec("vsw_seal", ebpf.SchedCLS, c.ins)
}

// filterProgram accepts whole packets that are ours and later fragments.
func filterProgram(p *planes) *ebpf.ProgramSpec {
	var c code
	c.classify(p, "accept", "accept", "ignore")
	c.at("accept")
	c.ret(-1) // bytes to keep, unsigned
	c.at("ignore")
	c.ret(0)
	return spec("vsw_filter", ebpf.SocketFilter, c.ins)
}

// guardProgram drops what is ours. Later fragments pass, for they may be the
// host's; of ours the host misses the first one, so it neither completes the
// packet nor answers (RFC 792: time exceeded needs fragment zero).
//
// With a deadline, a map of one word, it drops nothing once CLOCK_MONOTONIC has
// passed that.
func guardProgram(p *planes, deadline *ebpf.Map) *ebpf.ProgramSpec {
	var c code
	c.classify(p, "drop", "pass", "pass")
	c.at("drop")
	if deadline != nil {
		c.emit(asm.StoreImm(asm.R10, stackWord, 0, asm.Word))
		c.lookup(deadline.FD(), stackWord, "pass")
		c.emit(
			asm.LoadMem(asm.R6, asm.R0, 0, asm.DWord),
			asm.FnKtimeGetNs.Call(),
			asm.JGT.Reg(asm.R0, asm.R6, "pass"),
		)
	}
	c.ret(tcShot)
	c.at("pass")
	c.ret(tcUnspec)
	return spec("vsw_guard", ebpf.SchedCLS, c.ins)
}

func spec(name string, typ ebpf.ProgramType, ins asm.Instructions) *ebpf.ProgramSpec {
	return &ebpf.ProgramSpec{Name: name, Type: typ, Instructions: ins, License: license}
}
