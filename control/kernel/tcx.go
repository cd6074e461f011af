package kernel

import (
	"errors"
	"fmt"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// ErrNoTCX says that the kernel has no TCX, which came with Linux 6.6.
var ErrNoTCX = errors.New("the kernel has no tcx")

// hook is the ingress or the egress of an interface of the calling thread's network
// namespace. A program that is attached there by BPF_PROG_ATTACH, and by no link, outlives
// the process and goes with the interface.
type hook struct {
	ifindex int
	at      ebpf.AttachType
}

// programs are all that are there, the first one first.
func (h hook) programs() ([]link.AttachedProgram, error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: h.ifindex, Attach: h.at})
	// A kernel without TCX does not know the place.
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("%w: %w", ErrNoTCX, err)
	}
	if err != nil {
		return nil, fmt.Errorf("programs of interface %d: %w", h.ifindex, err)
	}
	return r.Programs, nil
}

// ours are the programs there that have a name, and of which is says yes: nil is all.
func (h hook) ours(name string, is func(*ebpf.ProgramInfo) (bool, error)) (list []*ebpf.Program, err error) {
	there, err := h.programs()
	if err != nil {
		return nil, err
	}
	for _, there := range there {
		p, err := ebpf.NewProgramFromID(there.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue // gone meanwhile
		}
		ok := false
		if err == nil {
			var info *ebpf.ProgramInfo
			if info, err = p.Info(); err == nil && info.Name == name {
				ok = true
				if is != nil {
					ok, err = is(info)
				}
			}
		}
		if err != nil {
			p.Close()
			closeAll(list)
			return nil, fmt.Errorf("program %d: %w", there.ID, err)
		}
		if ok {
			list = append(list, p)
		} else {
			p.Close()
		}
	}
	return list, nil
}

// put attaches a program in place of that of a process before, in one step, or else at the
// anchor. Where somebody has come before one that is to be first it goes first again.
func (h hook) put(p *ebpf.Program, old []*ebpf.Program, at link.Anchor) error {
	for _, o := range old {
		if id(o) == id(p) {
			return nil // it is there already
		}
	}
	attach := func(at link.Anchor) error {
		return link.RawAttachProgram(link.RawAttachProgramOptions{Target: h.ifindex, Program: p, Attach: h.at, Anchor: at})
	}
	if len(old) == 0 {
		return attach(at)
	}
	if at == link.Head() {
		there, err := h.programs()
		if err != nil {
			return err
		}
		if len(there) > 0 && there[0].ID != id(old[0]) {
			if err := attach(at); err != nil {
				return err
			}
			return h.remove(old)
		}
	}
	return attach(link.ReplaceProgram(old[0]))
}

// remove detaches programs.
func (h hook) remove(list []*ebpf.Program) error {
	var errs []error
	for _, p := range list {
		err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: h.ifindex, Program: p, Attach: h.at})
		if !errors.Is(err, os.ErrNotExist) { // somebody else has
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func id(p *ebpf.Program) ebpf.ProgramID {
	info, err := p.Info()
	if err != nil {
		return 0
	}
	id, _ := info.ID()
	return id
}

func closeAll(list []*ebpf.Program) {
	for _, p := range list {
		p.Close()
	}
}
