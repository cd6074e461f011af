package kernel

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
)

// Packets are the programs of uplinks that speak IP without a header of the link: tunnels. A packet
// there is the switch's or the host's, as on others, and the kernel's side carries nothing.
type Packets struct {
	k              *Kernel
	filter, shield *ebpf.Program
}

// Packets loads them, once: few hosts have such uplinks. They are borrowed until Close. SetOwner comes before.
func (k *Kernel) Packets() (*Packets, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.packets != nil {
		return k.packets, nil
	}
	p := &Packets{k: k}
	programs := &loading{k: k}
	programs.load(&p.filter, programsProgVswFilter+packets)
	programs.load(&p.shield, programsProgVswShield+packets)
	err := programs.wait()
	if err == nil && k.owner != "" {
		var m *ebpf.Map
		if m, err = ownerMap(k.owner); err == nil {
			err = errors.Join(p.shield.BindMap(m), m.Close()) // the program holds it
		}
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("programs of uplinks without Ethernet: %w", err)
	}
	k.packets = p
	return p, nil
}

// ShieldUplink is Kernel.ShieldUplink.
func (p *Packets) ShieldUplink(ifindex int) error { return p.k.shieldBy(p.shield, ifindex) }

// ShieldFD is Kernel.ShieldFD, and FilterFD Kernel.FilterFD for packets without a header.
func (p *Packets) ShieldFD() int { return p.shield.FD() }
func (p *Packets) FilterFD() int { return p.filter.FD() }

func (p *Packets) close() {
	if p != nil {
		p.filter.Close() // a nil program is allowed
		p.shield.Close()
	}
}
