package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

// layoutSpec is the map that says by which layout the maps of a seal are laid out, flowmap.Version
// and flowmap.ClaimVersion, and ownerSpec another whose they are. No program reads them; they are
// bound to the seal, as are the claims, so that the seal of one cable leads to all that the next
// process goes on with.
var layoutSpec = ebpf.MapSpec{Name: "vsw_layout", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 2}

// versions are what layoutSpec holds. One that a version before has not written is 0.
type versions [2]uint32

var versionsNow = versions{flowmap.Version, flowmap.ClaimVersion}

func (v *versions) read(m *ebpf.Map) error {
	for i := range min(uint32(len(v)), m.MaxEntries()) {
		if err := m.Lookup(i, &v[i]); err != nil {
			return err
		}
	}
	return nil
}

// left are the maps of a process before, by the name in the object. Who opens one takes it out.
type left map[string]*ebpf.Map

// maxName is how much of a name the kernel keeps (BPF_OBJ_NAME_LEN).
const maxName = 15

// openLeft opens the maps of the first of some programs that is a seal of this owner and layout,
// nil when none is. Where the layout of claims alone is the same, those are all.
func openLeft(s *ebpf.CollectionSpec, programs []uint32, owner string) (left, error) {
	for _, id := range programs {
		l, err := leftBy(s, ebpf.ProgramID(id), owner)
		if err != nil {
			return nil, fmt.Errorf("program %d: %w", id, err)
		}
		if l != nil {
			return l, nil
		}
	}
	return nil, nil
}

func leftBy(s *ebpf.CollectionSpec, id ebpf.ProgramID, owner string) (l left, err error) {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // gone meanwhile
	}
	if err != nil {
		return nil, err
	}
	defer p.Close()
	info, err := p.Info()
	if err != nil || info.Name != sealName {
		return nil, err
	}
	names := make(map[string]string) // in the object, by that in the kernel
	for name := range s.Maps {
		names[name[:min(len(name), maxName)]] = name
	}
	l = make(left)
	ours, laid := false, versions{}
	defer func() {
		switch {
		case err == nil && ours && laid[0] == versionsNow[0]:
		case err == nil && ours && laid[1] == versionsNow[1]:
			l.claims()
		default:
			l.close()
			l = nil
		}
	}()
	ids, _ := info.MapIDs()
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return l, err
		}
		info, err := m.Info()
		switch {
		case err != nil:
		case info.Name == ownerSpec.Name:
			var v []byte
			err = m.Lookup(uint32(0), &v)
			ours = bytes.Equal(v, ownerValue(owner))
		case info.Name == layoutSpec.Name:
			err = laid.read(m)
		case names[info.Name] != "" && l[names[info.Name]] == nil:
			l[names[info.Name]] = m
			continue
		}
		m.Close()
		if err != nil {
			return l, err
		}
	}
	return l, nil
}

// open is a map that was left, or a new one as the object describes it.
func (l left) open(s *ebpf.CollectionSpec, name string) (*ebpf.Map, error) {
	if m := l[name]; m != nil && fits(m, s.Maps[name]) {
		delete(l, name)
		return m, nil
	}
	return newMap(s, name)
}

// fits reports whether a map is as it would be made.
func fits(m *ebpf.Map, s *ebpf.MapSpec) bool {
	return m.Type() == s.Type && m.KeySize() == s.KeySize && m.ValueSize() == s.ValueSize && m.MaxEntries() == s.MaxEntries && m.Flags() == s.Flags
}

// whole keeps the maps of some names only if all of them fit.
func (l left) whole(s *ebpf.CollectionSpec, names []string) bool {
	if !slices.ContainsFunc(names, func(n string) bool { return l[n] == nil || !fits(l[n], s.Maps[n]) }) {
		return true
	}
	for _, n := range names {
		l[n].Close() // a nil map is allowed
		delete(l, n)
	}
	return false
}

// claims keeps the maps of claims alone.
func (l left) claims() {
	claims := new(planes).all()
	for name, m := range l {
		if claims[name] == nil {
			m.Close()
			delete(l, name)
		}
	}
}

func (l left) close() {
	for _, m := range l {
		m.Close()
	}
}

// mark binds to the seal what the next process finds by it.
func (k *Kernel) mark(owner *ebpf.Map) error {
	layout, err := ebpf.NewMap(&layoutSpec)
	if err != nil {
		return err
	}
	defer layout.Close() // the program holds it
	for i, n := range versionsNow {
		if err := layout.Put(uint32(i), n); err != nil {
			return err
		}
	}
	all := []*ebpf.Map{owner, layout}
	for name, m := range k.planes.all() {
		if name != programsMapVswBoundPorts { // who counts sockets begins anew
			all = append(all, *m)
		}
	}
	if k.flows != nil {
		for _, m := range k.flows.all() {
			all = append(all, *m)
		}
	}
	for _, m := range all {
		if err := k.seal.BindMap(m); err != nil {
			return fmt.Errorf("%v: %w", m, err)
		}
	}
	return nil
}

// GoesOn reports whether a process before has left the flow table and the claims.
func (k *Kernel) GoesOn() bool { return k.goesOn }

// readLeft notes what a process before has claimed. Tallies begin anew with their ports.
func (k *Kernel) readLeft() error {
	k.leftSlots, k.leftSubnets = make(map[header.Addr]int), make(map[flowmap.SubnetKey]bool)
	var addr header.Addr
	var slot uint32
	for it := k.planes.addrs.Iterate(); it.Next(&addr, &slot); {
		k.leftSlots[addr] = int(slot)
	}
	var subnet flowmap.SubnetKey
	var one uint8
	for it := k.planes.subnets.Iterate(); it.Next(&subnet, &one); {
		k.leftSubnets[subnet] = true
	}
	if k.flows == nil {
		return nil
	}
	return k.flows.readPorts()
}

// Settle drops the slots, subnets and numbers of interfaces that a process before has claimed and
// nobody has claimed again.
func (k *Kernel) Settle() error {
	k.mu.Lock()
	addrs := slices.Collect(maps.Keys(k.leftSlots))
	maps.Copy(k.slots, k.leftSlots)
	subnets := slices.Collect(maps.Keys(k.leftSubnets))
	k.leftSlots, k.leftSubnets = nil, nil
	k.mu.Unlock()
	if k.flows != nil {
		k.flows.settle()
	}
	errs := []error{k.refilled()}
	for _, a := range addrs {
		errs = append(errs, k.DropSlot(a.NetIP()))
	}
	for _, s := range subnets {
		if err := k.planes.subnets.Delete(s); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Seals are the numbers of the seals by TCX at an interface of the calling thread's network
// namespace, none where the kernel has no TCX.
func Seals(ifindex int) (list []uint32, err error) {
	there, err := hook{ifindex, ebpf.AttachTCXIngress}.programs()
	if errors.Is(err, ErrNoTCX) {
		return nil, nil
	}
	for _, p := range there {
		list = append(list, uint32(p.ID))
	}
	return list, err
}
