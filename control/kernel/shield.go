package kernel

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// shieldName tells a shield of any process from other programs.
const shieldName = programsProgVswShield

// ownerSpec is the map that says whose a shield is: of several daemons each may have one on
// an uplink. No program reads it; it is bound to the shield.
var ownerSpec = ebpf.MapSpec{Name: "vsw_owner", Type: ebpf.Array, KeySize: 4, ValueSize: 64, MaxEntries: 1}

// SetOwner says whose shields ShieldUplink attaches, and whose maps the
// seals lead to; without, they are nobody's. It is Config.Owner, if there is one. It comes before all of them, once.
func (k *Kernel) SetOwner(owner string) error {
	if k.adopted {
		k.owner = owner
		return nil
	}
	err := func() error {
		if uint32(len(owner)) > ownerSpec.ValueSize {
			return fmt.Errorf("longer than %d bytes", ownerSpec.ValueSize)
		}
		m, err := ownerMap(owner)
		if err != nil {
			return err
		}
		defer m.Close() // the program holds it
		if err := errors.Join(k.shield.BindMap(m), k.mark(m)); err != nil {
			return err
		}
		return k.keep()
	}()
	if err != nil {
		return fmt.Errorf("owner %s of the shields: %w", owner, err)
	}
	k.owner = owner
	return nil
}

func ownerMap(owner string) (*ebpf.Map, error) {
	m, err := ebpf.NewMap(&ownerSpec)
	if err == nil {
		if err = m.Put(uint32(0), ownerValue(owner)); err != nil {
			err = errors.Join(err, m.Close())
		}
	}
	return m, err
}

func ownerValue(owner string) []byte {
	return append([]byte(owner), make([]byte, int(ownerSpec.ValueSize)-len(owner))...)
}

// owned says whether a shield is ours.
func (k *Kernel) owned(p *ebpf.ProgramInfo) (bool, error) {
	ids, _ := p.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return false, err
		}
		defer m.Close()
		info, err := m.Info()
		if err != nil {
			return false, err
		}
		if info.Name != ownerSpec.Name {
			continue
		}
		var owner []byte
		if err := m.Lookup(uint32(0), &owner); err != nil {
			return false, err
		}
		return bytes.Equal(owner, ownerValue(k.owner)), nil
	}
	return k.owner == "", nil
}

// ShieldUplink keeps what is ours from the stack of the host on one interface of
// the calling thread's network namespace, in place of the shield of a process before. It
// outlives the process: RemoveShield takes it away. The error wraps ErrNoTCX where the
// kernel cannot: attach ShieldFD there.
func (k *Kernel) ShieldUplink(ifindex int) error { return k.shieldBy(k.shield, ifindex) }

func (k *Kernel) shieldBy(shield *ebpf.Program, ifindex int) error {
	h := hook{ifindex, ebpf.AttachTCXIngress}
	old, err := h.ours(shieldName, k.owned)
	if err == nil {
		defer closeAll(old)
		// First in line: the verdict of another program must not let a packet of
		// ours through to the stack.
		err = h.put(shield, old, link.Head())
	}
	if err != nil {
		return fmt.Errorf("shield: %w", err)
	}
	return nil
}

// RemoveShield removes the shields of an owner, of whatever process, from an interface, and
// reports whether there was one.
func RemoveShield(owner string, ifindex int) (had bool, err error) {
	h := hook{ifindex, ebpf.AttachTCXIngress}
	list, err := h.ours(shieldName, (&Kernel{owner: owner}).owned)
	if err == nil {
		defer closeAll(list)
		err = h.remove(list)
	}
	if errors.Is(err, unix.ENODEV) {
		return false, nil // it is gone itself
	}
	if err != nil {
		return false, fmt.Errorf("shield: %w", err)
	}
	return len(list) > 0, nil
}

// ShieldFD is the shield for cls_bpf (direct action) on the ingress of clsact,
// where ShieldUplink is not supported. It is borrowed until Close.
func (k *Kernel) ShieldFD() int { return k.shield.FD() }
