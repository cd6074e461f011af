package kernel

import (
	"errors"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// hostProgram looks every frame that the host sends into a network up in the flow
// table, and sends what it finds into the container's cable: decided and carried out
// in one. The rows of a TAP change nothing of a frame. What is not in the table goes
// on into the TAP's queue, counted.
//
// With a deadline, a map of one word, everything goes on once CLOCK_MONOTONIC has
// passed that.
func hostProgram(f *flows, deadline *ebpf.Map) *ebpf.ProgramSpec {
	var c code
	c.emit(asm.Mov.Reg(asm.R6, asm.R1))
	if deadline != nil {
		c.alive(deadline, "uncounted")
	}
	c.decide(f, verdicts{toSwitch: tcUnspec, drop: tcShot, carry: func(c *code) {
		c.emit(
			asm.LoadMem(asm.R1, asm.R9, slotOut, asm.Word),
			asm.Mov.Imm(asm.R2, 0),
			asm.FnRedirect.Call(),
			asm.Return(),
		)
	}}, "switch")
	c.at("switch")
	c.account(f, "uncounted")
	c.count()
	c.at("uncounted")
	c.ret(tcUnspec)
	return spec("vsw_host", ebpf.SchedCLS, c.ins)
}

// alive jumps to dead once the deadline has passed. It uses R7.
func (c *code) alive(deadline *ebpf.Map, dead string) {
	c.emit(asm.StoreImm(asm.R10, stackWord, 0, asm.Word))
	c.lookup(deadline.FD(), stackWord, dead)
	c.emit(
		asm.LoadMem(asm.R7, asm.R0, 0, asm.DWord),
		asm.FnKtimeGetNs.Call(),
		asm.JGT.Reg(asm.R0, asm.R7, dead),
	)
}

// CarryHost lets the kernel carry what the host sends by a TAP, an interface of the
// calling thread's network namespace with an account (AddFlowPort), until the result
// is closed, the device is deleted or the process ends. The error wraps ErrNoTCX where
// the kernel cannot: attach HostFD there. Only with a flow table.
func (k *Kernel) CarryHost(ifindex int) (io.Closer, error) {
	// Last in line: whatever else the host's owner has hung up there decides first.
	l, err := link.AttachTCX(link.TCXOptions{
		Interface: ifindex, Program: k.host, Attach: ebpf.AttachTCXEgress, Anchor: link.Tail(),
	})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return nil, fmt.Errorf("flow table: %w: %w", ErrNoTCX, err)
	}
	if err != nil {
		return nil, fmt.Errorf("flow table: %w", err)
	}
	return l, nil
}

// HostFD is the same program for cls_bpf (direct action) on the egress of clsact,
// where CarryHost is not supported. Like GuardFD it works while the process says that
// it lives. It is borrowed until Close.
func (k *Kernel) HostFD() (int, error) {
	b, err := k.lives()
	if err != nil {
		return -1, fmt.Errorf("flow table: %w", err)
	}
	return b.host.FD(), nil
}
