package kernel

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// sealName tells a seal of any process from other programs.
const sealName = programsProgVswSeal

// Seal attaches the seal by TCX (control/host.Seal), to interfaces of the calling
// thread's network namespace. It is no link: the program stays with the interface when
// the process ends. A clsact or ingress qdisc of somebody else has its place beside it,
// and comes after it.
//
// The kernel waits for RCU when a program comes and when its interface goes, 15 ms each,
// and holds the RTNL lock meanwhile.
type Seal struct{ k *Kernel }

// Seal is the seal by TCX. The error is ErrNoTCX where the kernel has none.
func (k *Kernel) Seal() (Seal, error) {
	// The loopback device is interface 1 of every namespace.
	if _, err := (hook{1, ebpf.AttachTCXIngress}).programs(); err != nil {
		return Seal{}, fmt.Errorf("seal: %w", err)
	}
	return Seal{k}, nil
}

// Attach seals an interface that is not.
func (s Seal) Attach(ifindex int) error {
	return hook{ifindex, ebpf.AttachTCXIngress}.put(s.k.seal, nil, link.Head())
}

// Renew puts the program in place of that of a process before, in one step. ok says
// whether there was one.
func (s Seal) Renew(ifindex int) (ok bool, err error) {
	h := hook{ifindex, ebpf.AttachTCXIngress}
	old, err := h.ours(sealName, nil)
	if err != nil || len(old) == 0 {
		return false, err
	}
	defer closeAll(old)
	return true, h.put(s.k.seal, old, nil)
}

// Attached reports whether an interface is sealed, by any process.
func (s Seal) Attached(ifindex int) (bool, error) {
	list, err := hook{ifindex, ebpf.AttachTCXIngress}.ours(sealName, nil)
	closeAll(list)
	return len(list) > 0, err
}
