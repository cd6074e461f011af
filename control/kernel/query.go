package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// FirstTCX is the name of the program that is first at the ingress of an interface
// of the calling thread's network namespace, "" when there is none or the kernel
// has no TCX.
func FirstTCX(ifindex int) (string, error) {
	r, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("programs of interface %d: %w", ifindex, err)
	}
	if len(r.Programs) == 0 {
		return "", nil
	}
	p, err := ebpf.NewProgramFromID(r.Programs[0].ID)
	if err != nil {
		return "", fmt.Errorf("program %d: %w", r.Programs[0].ID, err)
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil {
		return "", fmt.Errorf("program %d: %w", r.Programs[0].ID, err)
	}
	if info.Name == "" {
		return fmt.Sprintf("number %d", r.Programs[0].ID), nil
	}
	return info.Name, nil
}
