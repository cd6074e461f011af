package linux

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/dataplane/port"
)

// Programs implements edge.Cables.
func (e *Edge) Programs(ours func(index int) bool) (map[int]host.Program, error) {
	var indexes []int
	found, err := e.Host.Programs(func(index int) bool {
		if !ours(index) {
			return false
		}
		indexes = append(indexes, index)
		return true
	})
	if err != nil {
		return nil, err
	}
	for _, index := range slices.Compact(slices.Sorted(slices.Values(indexes))) {
		if found[index].Name != "" {
			continue
		}
		if name, err := kernel.FirstTCXEgress(index); err == nil && name != "" {
			found[index] = host.Program{Name: "BPF program " + name}
		}
	}
	return found, nil
}

// uplinkSlots is for the packets of all containers.
const uplinkSlots = 1024

// socket is a packet socket with its tally.
type socket struct {
	*port.Socket
	e     *Edge
	index int
}

// Close implements edge.Socket.
func (s *socket) Close() error {
	if s.e.keep.Load() {
		return s.Socket.Close()
	}
	// First: whoever closes a socket last waits for the kernel.
	s.e.cfg.Holder.Drop(heldSocket(s.index))
	err := s.Socket.Close()
	s.e.Kernel.RemoveFlowPort(s.index)
	s.e.uplinks.remove(s.index)
	return err
}

// heldSocket is the name of an interface's packet socket with the holder.
func heldSocket(index int) string { return holder.Sockets + strconv.Itoa(index) }

// spares are the sockets with the holder that are no interface's yet.
type spares struct{ h *holder.Holder }

func heldSpare(place int) string { return "spare " + strconv.Itoa(place) }

// Keep implements port.Keeper, as Drop and Left.
func (s spares) Keep(place, fd int, as string) error { return s.h.Put(heldSpare(place), fd, as) }

func (s spares) Drop(place int) { s.h.Drop(heldSpare(place)) }

func (s spares) Left(place int) (fd int, as string, ok bool) {
	fd, as, ok = s.h.Take(heldSpare(place))
	return fd, as, ok && fd >= 0
}

// OpenCable implements edge.Cables.
func (e *Edge) OpenCable(p edge.Port) (edge.Socket, error) {
	e.sockets.SetSlots(p.Slots)
	return e.open(p, e.Kernel.DecideFD(), e.sockets.Open)
}

// OpenUplink implements edge.Uplinks: what is ours must not be answered by the host's
// stack first.
func (e *Edge) OpenUplink(p edge.Port) (edge.Socket, error) {
	by := uplinkPrograms(e.Kernel)
	if p.Packets {
		var err error
		if by, err = e.Kernel.Packets(); err != nil {
			return nil, err
		}
	}
	if err := e.shieldUplink(p.Index, by); err != nil {
		return nil, err
	}
	if others, err := e.Kernel.Others(p.Index); err == nil && len(others) > 0 {
		e.cfg.Log.Warn("another vswitch has this uplink, too: ports of masquerade are parted with it; with --masquerade-ports each may have its own", "interface", p.Name)
	}
	e.uplinks.add(p.Index)
	if p.Slots == 0 {
		p.Slots = uplinkSlots
	}
	return e.open(p, by.FilterFD(), port.OpenSocket)
}

// KeepUplinks implements edge.Uplinks.
func (e *Edge) KeepUplinks(indexes ...int) (others []string, err error) {
	return holder.RemoveShields(e.Host, e.owner.Identity, indexes...)
}

func (e *Edge) open(p edge.Port, filter int, open func(port.PacketConfig) (*port.Socket, error)) (edge.Socket, error) {
	cfg := port.PacketConfig{Ifindex: p.Index, Name: p.Name, Slots: p.Slots, FilterFD: filter, Packets: p.Packets}
	var err error
	if !p.Packets { // where the kernel carries nothing, nobody counts
		if cfg.Tally, err = e.Kernel.AddFlowPort(p.Index, p.Number); err != nil {
			return nil, err
		}
	}
	k := e.retake(cfg)
	if k == nil {
		if k, err = open(cfg); err == nil {
			fd, as := k.Kept()
			if err = e.cfg.Holder.Put(heldSocket(p.Index), fd, as); err != nil {
				err = errors.Join(err, k.Close())
			}
		}
	}
	if err != nil {
		e.Kernel.RemoveFlowPort(p.Index)
		return nil, err
	}
	return &socket{k, e, p.Index}, nil
}

// retake is the socket that the process before has left with the holder, nil if there is
// none that can be used.
func (e *Edge) retake(cfg port.PacketConfig) *port.Socket {
	fd, as, ok := e.cfg.Holder.Take(heldSocket(cfg.Ifindex))
	if !ok {
		return nil
	}
	k, err := port.Retake(cfg, fd, as)
	if err != nil {
		e.cfg.Log.Warn("a socket is opened anew", "err", err)
		e.cfg.Holder.Drop(heldSocket(cfg.Ifindex))
		syscall.Close(fd)
		return nil
	}
	return k
}

// uplinkPrograms are the programs that an uplink gets.
type uplinkPrograms interface {
	FilterFD() int
	ShieldFD() int
	ShieldUplink(ifindex int) error
}

// shieldUplink attaches the shield by TCX, or where the kernel has none as a filter.
func (e *Edge) shieldUplink(index int, by uplinkPrograms) error {
	if !e.cfg.NoTCX {
		if err := by.ShieldUplink(index); !errors.Is(err, kernel.ErrNoTCX) {
			return err
		}
	}
	return e.Host.AddShield(index, by.ShieldFD(), e.owner.Identity)
}

// device is the TAP of a network.
type device struct {
	*port.TAP
	e       *Edge
	index   int
	addrs   []netip.Prefix
	carries bool // Carry was called
}

// OpenDevice implements edge.Devices.
func (e *Edge) OpenDevice(s edge.DeviceSpec) (edge.Device, error) {
	if d := e.adoptDevice(s); d != nil {
		return d, nil
	}
	tap, err := port.OpenTAP(port.TAPConfig{Name: s.Name})
	if err != nil {
		return nil, fmt.Errorf("device %s: %w", s.Name, err)
	}
	d := &device{TAP: tap, e: e, addrs: s.Addrs}
	if d.index, err = e.Host.SetupTAP(s.Name, s.Alias, s.MAC, s.MTU, s.Addrs); err == nil {
		// Only now that its alias says whose it is may the device outlive us.
		err = e.cfg.Holder.Put(heldDevice+s.Name, tap.FD(), "")
	}
	if err != nil {
		return nil, errors.Join(err, tap.Close())
	}
	return d, nil
}

// heldDevice begins the names of devices with the holder.
const heldDevice = "device "

// staleAfter is for how long frames may wait for the next process: longer than a start takes.
// A peer that has waited longer has sent them again, or given up.
const staleAfter = time.Second

// adoptDevice is the device that the process before has left with the holder. One that is
// not as it was left is made anew.
func (e *Edge) adoptDevice(s edge.DeviceSpec) edge.Device {
	fd, _, ok := e.cfg.Holder.Take(heldDevice + s.Name)
	if !ok {
		return nil
	}
	tap, err := port.AdoptTAP(s.Name, fd, e.cfg.Holder.Alone() > staleAfter)
	if err == nil {
		d := &device{TAP: tap, e: e, addrs: s.Addrs}
		if d.index, err = e.Host.SetupTAP(s.Name, s.Alias, s.MAC, s.MTU, s.Addrs); err == nil {
			return d
		}
		err = errors.Join(err, tap.Close())
	}
	e.cfg.Log.Warn("a device is made anew", "device", s.Name, "err", err)
	e.cfg.Holder.Drop(heldDevice + s.Name)
	return nil
}

// Index implements edge.Device.
func (d *device) Index() int { return d.index }

// Readdress implements edge.Device.
func (d *device) Readdress() ([]netip.Prefix, error) { return d.e.Host.Readdress(d.index, d.addrs) }

// Describe implements edge.Device.
func (d *device) Describe(alias string) error { return d.e.Host.SetAlias(d.index, alias) }

// Carry implements edge.Device.
func (d *device) Carry(number int) error {
	tally, err := d.e.Kernel.AddFlowPort(d.index, number)
	if tally != nil && err == nil { // there is a flow table
		err = d.TAP.Count(tally)
	}
	if err == nil {
		err = d.e.carryHost(d.index)
	}
	if d.carries = err == nil; !d.carries {
		d.TAP.Uncount()
		d.e.Kernel.RemoveFlowPort(d.index)
	}
	return err
}

// carryHost attaches the programs by TCX, or where the kernel has none as filters.
func (e *Edge) carryHost(index int) error {
	if !e.cfg.NoTCX {
		if err := e.Kernel.CarryHost(index); !errors.Is(err, kernel.ErrNoTCX) {
			return err
		}
	}
	forwarded, host := e.Kernel.HostFDs()
	return e.Host.AddEgress(index, forwarded, host)
}

// Close implements edge.Socket.
func (d *device) Close() error {
	err := d.TAP.Close()
	if d.e.keep.Load() {
		return err
	}
	if d.carries {
		d.carries = false
		d.e.Kernel.RemoveFlowPort(d.index)
	}
	d.e.cfg.Holder.Drop(heldDevice + d.Name())
	return err
}
