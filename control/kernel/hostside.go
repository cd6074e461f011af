package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// CarryHost takes the source MAC address from what the host forwards by a TAP, an
// interface of the calling thread's network namespace, and with a flow table lets the
// kernel carry what the host itself sends, on the interface's tally (AddFlowPort). The
// programs take over from a process before, and go with the device. The error
// wraps ErrNoTCX where the kernel cannot: attach HostFDs there.
func (k *Kernel) CarryHost(ifindex int) error {
	h := hook{ifindex, ebpf.AttachTCXEgress}
	for _, p := range []struct {
		program *ebpf.Program
		name    string
		at      link.Anchor
	}{
		// First in line: the verdict of another program must not let what is forwarded pass
		// as the host's own.
		{k.forwarded, programsProgVswForwarded, link.Head()},
		// Last in line: whatever else the host's owner has hung up there decides first.
		{k.host, programsProgVswHost, link.Tail()},
	} {
		old, err := h.ours(p.name, nil)
		if err == nil {
			if p.program == nil {
				err = h.remove(old) // a process before had a flow table
			} else {
				err = h.put(p.program, old, p.at)
			}
			closeAll(old)
		}
		if err != nil {
			return fmt.Errorf("egress of the host: %w", err)
		}
	}
	return nil
}

// HostFDs are the same programs for cls_bpf (direct action) on the egress of clsact, where
// CarryHost is not supported: forwarded goes before all others and host after them. host
// is -1 without a flow table. They are borrowed until Close.
func (k *Kernel) HostFDs() (forwarded, host int) {
	if k.host == nil {
		return k.forwarded.FD(), -1
	}
	return k.forwarded.FD(), k.host.FD()
}
