package host

import (
	"fmt"
	"slices"
)

// Seal attaches the program that keeps a container's frames from the host's stack to
// the host's end of its cable. What it attaches outlives the process and goes with the
// interface. An interface is found in the network namespace of the calling thread.
type Seal interface {
	// Attach seals an interface, in place of the seal that a process before this one
	// attached in the same way, in one step.
	Attach(index int) error
	// Detach removes what any process attached in this way; that there is nothing is no
	// error.
	Detach(index int) error
	// Attached reports whether any process has sealed an interface in this way.
	Attached(index int) (bool, error)
}

// sealName is what the program on a host end's ingress is called.
const sealName = "vswitch_seal"

// filterSeal is the seal where the kernel has no TCX: a filter of a clsact.
type filterSeal struct {
	h    *Host
	prog int
}

// FilterSeal is the seal by cls_bpf (direct action). An interface that has one takes no
// ingress qdisc.
func (h *Host) FilterSeal(prog int) Seal { return filterSeal{h, prog} }

func (s filterSeal) Attach(index int) error {
	old, err := s.find(index)
	if err != nil {
		return err
	}
	if len(old) > 0 {
		return s.h.route.replaceFilter(old[0], s.prog)
	}
	err = s.h.route.addClsact(index)
	if err == nil {
		err = s.h.route.addFilter(filter{index: index, parent: tcIngress, info: tcInfo(1), name: sealName}, s.prog)
	}
	if err != nil {
		return fmt.Errorf("%w: the kernel needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF", err)
	}
	return nil
}

func (s filterSeal) Detach(index int) error {
	old, err := s.find(index)
	if err != nil || len(old) == 0 {
		return err
	}
	for _, f := range old {
		if err := s.h.route.delFilter(f); err != nil {
			return err
		}
	}
	return s.h.dropClsact(index)
}

func (s filterSeal) Attached(index int) (bool, error) {
	list, err := s.find(index)
	return len(list) > 0, err
}

func (s filterSeal) find(index int) ([]filter, error) {
	list, err := s.h.route.filters(index, tcIngress)
	if err != nil {
		return nil, fmt.Errorf("read the filters: %w", err)
	}
	// A dump also has a line for the priority as such.
	return slices.DeleteFunc(list, func(f filter) bool { return f.kind != "bpf" || f.name != sealName || f.handle == 0 }), nil
}
