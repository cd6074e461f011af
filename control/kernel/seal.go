package kernel

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

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
	_, err := link.QueryPrograms(link.QueryOptions{Target: 1, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return Seal{}, fmt.Errorf("seal: %w: %w", ErrNoTCX, err)
	}
	return Seal{k}, nil
}

// Attach seals an interface that is not.
func (s Seal) Attach(ifindex int) error { return s.attach(ifindex, link.Head()) }

// Renew puts the program in place of that of a process before, in one step. ok says
// whether there was one.
func (s Seal) Renew(ifindex int) (ok bool, err error) {
	old, err := seals(ifindex)
	if err != nil || len(old) == 0 {
		return false, err
	}
	defer closeAll(old)
	return true, s.attach(ifindex, link.ReplaceProgram(old[0]))
}

func (s Seal) attach(ifindex int, at link.Anchor) error {
	return link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: ifindex, Program: s.k.seal, Attach: ebpf.AttachTCXIngress, Anchor: at,
	})
}

// Attached reports whether an interface is sealed, by any process.
func (s Seal) Attached(ifindex int) (bool, error) {
	list, err := seals(ifindex)
	closeAll(list)
	return len(list) > 0, err
}

// seals are the seals at the ingress of an interface.
func seals(ifindex int) (list []*ebpf.Program, err error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return nil, fmt.Errorf("programs of interface %d: %w", ifindex, err)
	}
	for _, there := range r.Programs {
		p, err := ebpf.NewProgramFromID(there.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue // gone meanwhile
		}
		if err == nil {
			var info *ebpf.ProgramInfo
			if info, err = p.Info(); err == nil && info.Name == sealName {
				list = append(list, p)
				continue
			}
			p.Close()
		}
		if err != nil {
			closeAll(list)
			return nil, fmt.Errorf("program %d: %w", there.ID, err)
		}
	}
	return list, nil
}

func closeAll(list []*ebpf.Program) {
	for _, p := range list {
		p.Close()
	}
}
