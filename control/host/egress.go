package host

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Names of the programs on the egress of a TAP of ours.
const (
	egressFirst = "vswitch_forwarded"
	egressLast  = "vswitch_host"
)

// egressPriority is the last: whatever else the host's owner has hung up there decides
// first.
const egressPriority = 0xffff

// AddEgress attaches direct-action programs to the egress of a TAP of ours: one before the
// filters of others, and one after them, -1 for none. Each takes the place of the program that
// a process before has left. They go with the device.
func (h *Host) AddEgress(index, first, last int) error {
	err := h.route.addClsact(index)
	if err == nil || errors.Is(err, unix.EEXIST) {
		err = h.addEgress(index, first, last)
	}
	if err != nil {
		return fmt.Errorf("interface %d: egress: %w: the kernel needs TCX, or CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF", index, err)
	}
	return nil
}

func (h *Host) addEgress(index, first, last int) error {
	there, err := h.route.filters(index, tcEgress)
	if err != nil {
		return err
	}
	at := filter{index: index, parent: tcEgress, kind: "bpf", handle: shieldHandle, info: tcInfo(freePriority(there)), name: egressFirst}
	for slices.ContainsFunc(there, func(f filter) bool { return f.handle == at.handle }) {
		at.handle++
	}
	end := filter{index: index, parent: tcEgress, kind: "bpf", handle: 1, info: tcInfo(egressPriority), name: egressLast}
	for _, p := range []struct {
		prog int
		filter
	}{{first, at}, {last, end}} {
		// A dump also has a line for the priority as such.
		i := slices.IndexFunc(there, func(f filter) bool { return f.name == p.name && f.handle != 0 })
		switch {
		case i >= 0 && p.prog < 0:
			err = h.route.delFilter(there[i])
		case i >= 0 && p.name == egressFirst && !isFirst(there, i):
			// Of one priority the kernel asks the newest first: somebody has come since.
			err = errors.Join(h.route.addFilter(p.filter, p.prog), h.route.delFilter(there[i]))
		case i >= 0:
			err = h.route.replaceFilter(there[i], p.prog)
		case p.prog >= 0:
			err = h.route.addFilter(p.filter, p.prog)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isFirst reports whether no filter is asked before one of a dump, which has them in that order.
func isFirst(there []filter, i int) bool {
	return !slices.ContainsFunc(there[:i], func(f filter) bool { return f.handle != 0 })
}
