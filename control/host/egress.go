package host

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const (
	// egressName is what the program on the egress of a TAP of ours is called.
	egressName = "vswitch_host"
	// egressPriority is the last: whatever else the host's owner has hung up there
	// decides first.
	egressPriority = 0xffff
)

// Egress is a program on the clsact egress of a TAP.
type Egress struct {
	h      *Host
	filter filter
}

// AddEgress attaches a direct-action program to the egress of a TAP of ours, in place of
// what a killed process left there. It goes with the device at the latest.
func (h *Host) AddEgress(index, prog int) (*Egress, error) {
	e := &Egress{h: h, filter: filter{index: index, parent: tcEgress, kind: "bpf", handle: 1, info: tcInfo(egressPriority), name: egressName}}
	err := h.route.addClsact(index)
	if err == nil || errors.Is(err, unix.EEXIST) {
		err = h.route.replaceFilter(e.filter, prog)
	}
	if err != nil {
		return nil, fmt.Errorf("interface %d: egress: %w: the kernel needs TCX, or CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF", index, err)
	}
	return e, nil
}

// Close detaches the program, and removes the clsact when nobody uses it. What has
// vanished meanwhile is no error.
func (e *Egress) Close() error {
	err := e.h.route.delFilter(e.filter)
	for _, parent := range []uint32{tcIngress, tcEgress} {
		left, err1 := e.h.route.filters(e.filter.index, parent)
		if err = errors.Join(err, err1); err != nil || len(left) > 0 {
			return err
		}
	}
	return e.h.route.delClsact(e.filter.index)
}
