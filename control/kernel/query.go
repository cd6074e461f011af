package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// FirstTCX is the name of the program that is first at the ingress of an interface
// of the calling thread's network namespace, "" when there is none or the kernel
// has no TCX.
func FirstTCX(ifindex int) (string, error) { return firstTCX(ifindex, ebpf.AttachTCXIngress) }

// FirstTCXEgress is the same for the egress.
func FirstTCXEgress(ifindex int) (string, error) { return firstTCX(ifindex, ebpf.AttachTCXEgress) }

func firstTCX(ifindex int, at ebpf.AttachType) (string, error) {
	list, err := hook{ifindex, at}.programs()
	if errors.Is(err, ErrNoTCX) {
		return "", nil
	}
	if err != nil || len(list) == 0 {
		return "", err
	}
	p, err := ebpf.NewProgramFromID(list[0].ID)
	if err != nil {
		return "", fmt.Errorf("program %d: %w", list[0].ID, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", fmt.Errorf("program %d: %w", list[0].ID, err)
	}
	if info.Name == "" {
		return fmt.Sprintf("number %d", list[0].ID), nil
	}
	return info.Name, nil
}
