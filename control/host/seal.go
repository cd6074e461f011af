package host

import (
	"fmt"
	"slices"
)

// Seal attaches the program that keeps a container's frames from the host's stack to
// the host's end of its cable. What it attaches outlives the process and goes with the
// interface.
type Seal interface {
	// Attach seals an interface that is not.
	Attach(index int) error
	// Attached reports whether a process, this one or one before, has sealed it.
	Attached(index int) (bool, error)
}

// sealName is what the program on a host end's ingress is called.
const sealName = "vswitch_seal"

// FilterSeal is the seal by cls_bpf (direct action) on the ingress of a clsact. An
// interface that has one takes no ingress qdisc of somebody else.
type FilterSeal struct {
	h    *Host
	prog int
	id   uint32 // 0: not known
}

// FilterSeal is the seal with a program, a descriptor that is borrowed.
func (h *Host) FilterSeal(prog int) FilterSeal { return FilterSeal{h, prog, 0} }

// Numbered is the same seal, with the kernel's number of the program. Renew leaves it where it is.
func (s FilterSeal) Numbered(id uint32) FilterSeal { s.id = id; return s }

// Attach seals an interface that is not.
func (s FilterSeal) Attach(index int) error {
	err := s.h.route.addClsact(index)
	if err == nil {
		err = s.h.route.addFilter(filter{index: index, parent: tcIngress, info: tcInfo(1), name: sealName}, s.prog)
	}
	if err != nil {
		return fmt.Errorf("%w: the kernel needs CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF", err)
	}
	return nil
}

// Renew puts the program in place of that of a process before, in one step. ok says
// whether there was one.
func (s FilterSeal) Renew(index int) (ok bool, err error) {
	old, err := s.find(index)
	if err != nil || len(old) == 0 {
		return false, err
	}
	if old[0].prog == s.id && s.id != 0 {
		return true, nil
	}
	return true, s.h.route.replaceFilter(old[0], s.prog)
}

// Attached reports whether a process has sealed an interface in this way.
func (s FilterSeal) Attached(index int) (bool, error) {
	list, err := s.find(index)
	return len(list) > 0, err
}

func (s FilterSeal) find(index int) ([]filter, error) {
	list, err := s.h.route.filters(index, tcIngress)
	if err != nil {
		return nil, fmt.Errorf("read the filters: %w", err)
	}
	// A dump also has a line for the priority as such.
	return slices.DeleteFunc(list, func(f filter) bool { return f.kind != "bpf" || f.name != sealName || f.handle == 0 }), nil
}

// Seals are the numbers of the programs of the seals by a filter at an interface.
func (h *Host) Seals(index int) (programs []uint32, err error) {
	list, err := h.FilterSeal(-1).find(index)
	for _, f := range list {
		programs = append(programs, f.prog)
	}
	return programs, err
}
