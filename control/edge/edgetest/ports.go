package edgetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane/header"
)

// The host's range of local ports, as the kernel has it by default.
const firstLocal, lastLocal = 32768, 60999

// program is a socket of a program of the host.
type program struct {
	host.Socket
	owner string
}

// hold is a range of ports that a process has taken.
type hold struct {
	e           *Edge
	proto       uint8
	addr        netip.Addr
	first, last uint16
	kept        []uint64
	released    bool
}

// takenError is reserve.ErrTaken with a text of its own.
type takenError struct{ text string }

func (e *takenError) Error() string { return e.text }
func (e *takenError) Unwrap() error { return reserve.ErrTaken }

// Bind is a program of the host that binds a port, "nginx (pid 123)" say; the result
// closes its socket.
func (k *Kernel) Bind(proto uint8, addr netip.Addr, port uint16, owner string) (closeSocket func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lastIno++
	p := program{host.Socket{Proto: proto, Addr: addr, Port: port, Inode: uint32(k.lastIno), Cookie: uint64(k.lastIno), DualStack: addr == netip.IPv6Unspecified()}, owner}
	k.programs = append(k.programs, p)
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.programs = slices.DeleteFunc(k.programs, func(o program) bool { return o.Inode == p.Inode })
	}
}

// meet reports whether two bound addresses keep each other from a port; the invalid one
// is every address of both families.
func meet(a, b netip.Addr) bool {
	return !a.IsValid() || !b.IsValid() || a == b || a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

func wide(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }

func portName(proto uint8, port uint16) string {
	switch proto {
	case header.ProtoUDP:
		return fmt.Sprintf("%d/udp", port)
	case header.ProtoSCTP:
		return fmt.Sprintf("%d/sctp", port)
	}
	return fmt.Sprintf("%d/tcp", port)
}

// TakePorts implements edge.Reservations.
func (e *Edge) TakePorts(proto uint8, addr netip.Addr, first, last uint16, keeper reserve.Keeper) (edge.Hold, error) {
	unlock, err := e.enter("TakePorts")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if first == 0 || first > last {
		return nil, fmt.Errorf("ports %d-%d are no range: choose from 1 to 65535", first, last)
	}
	for _, o := range e.holds {
		if o.proto == proto && o.first <= last && first <= o.last && meet(addr, o.addr) && wide(addr) == wide(o.addr) {
			return nil, &takenError{fmt.Sprintf("port %s is published already: publish another port", portName(proto, max(first, o.first)))}
		}
	}
	for _, s := range e.k.programs {
		if s.Proto != proto || s.Port < first || s.Port > last || !s.DualStack && !meet(addr, s.Addr) {
			continue
		}
		if !slices.Contains(keeper.Known, s.Cookie) {
			return nil, &takenError{fmt.Sprintf("port %s is held by %s: stop it or publish another port", portName(proto, s.Port), s.owner)}
		}
	}
	h := &hold{e: e, proto: proto, addr: addr, first: first, last: last, kept: keeper.Known}
	if int(last)-int(first) >= reserve.HoldMax && proto != header.ProtoSCTP {
		if err := e.put(append(e.largeLocked(), reserve.Range{First: first, Last: last})); err != nil {
			return nil, err
		}
		e.k.reserved = append(e.k.reserved, reserve.Range{First: first, Last: last})
	}
	e.holds = append(e.holds, h)
	return h, nil
}

// put stores what is reserved, without the lock. Until Settle that is also what a process
// before has reserved.
func (e *Edge) put(list []reserve.Range) error {
	if e.owner.PutReserved == nil {
		return nil
	}
	list = append(slices.Clone(e.owner.Reserved), list...)
	e.k.mu.Unlock()
	defer e.k.mu.Lock()
	return e.owner.PutReserved(list)
}

func (e *Edge) largeLocked() (list []reserve.Range) {
	for _, h := range e.holds {
		if h.large() {
			list = append(list, reserve.Range{First: h.first, Last: h.last})
		}
	}
	return list
}

func (h *hold) large() bool {
	return int(h.last)-int(h.first) >= reserve.HoldMax && h.proto != header.ProtoSCTP
}

// unreserve takes ranges out, each once.
func (k *Kernel) unreserve(list []reserve.Range) {
	for _, r := range list {
		if i := slices.Index(k.reserved, r); i >= 0 {
			k.reserved = slices.Delete(k.reserved, i, i+1)
		}
	}
}

// Release implements edge.Hold.
func (h *hold) Release() error {
	e := h.e
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	if h.released || e.dead {
		return nil
	}
	h.released = true
	e.holds = slices.DeleteFunc(e.holds, func(o *hold) bool { return o == h })
	if !h.large() {
		return nil
	}
	e.k.unreserve([]reserve.Range{{First: h.first, Last: h.last}})
	return e.put(e.largeLocked())
}

// Kept implements edge.Hold.
func (h *hold) Kept() []uint64 { return h.kept }

// FreePort implements edge.Reservations.
func (e *Edge) FreePort(proto uint8, addr netip.Addr, n int) (uint16, error) {
	unlock, err := e.enter("FreePort")
	if err != nil {
		return 0, err
	}
	defer unlock()
	for first := firstLocal; first+n-1 <= lastLocal; first++ {
		taken := func(p uint16) bool { return int(p) >= first && int(p) < first+n }
		if !slices.ContainsFunc(e.k.programs, func(s program) bool { return s.Proto == proto && taken(s.Port) && meet(addr, s.Addr) }) &&
			!slices.ContainsFunc(e.holds, func(h *hold) bool {
				return h.proto == proto && int(h.first) < first+n && first <= int(h.last) && meet(addr, h.addr)
			}) {
			return uint16(first), nil
		}
	}
	return 0, fmt.Errorf("no %d free ports in a row in net.ipv4.ip_local_port_range %d-%d: name the host's port", n, firstLocal, lastLocal)
}

// BusyPorts implements edge.Reservations.
func (e *Edge) BusyPorts() (list []host.Socket, err error) {
	unlock, err := e.enter("BusyPorts")
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, p := range e.k.programs {
		list = append(list, p.Socket)
	}
	for _, h := range e.holds {
		for p := int(h.first); p <= int(h.last) && !h.large(); p++ {
			list = append(list, host.Socket{Proto: h.proto, Addr: h.addr, Port: uint16(p)})
		}
	}
	return list, nil
}

// WatchPorts implements edge.Reservations. The model's kernel binds nothing for itself.
func (e *Edge) WatchPorts(ctx context.Context, _ func()) { <-ctx.Done() }

// BindHooks implements edge.Reservations.
func (e *Edge) BindHooks() error { return errors.New("the model has no hooks") }

// Intruders implements edge.Reservations.
func (e *Edge) Intruders() (list []host.Socket, err error) {
	unlock, err := e.enter("Intruders")
	if err != nil {
		return nil, err
	}
	defer unlock()
	for _, p := range e.k.programs {
		if slices.ContainsFunc(e.holds, func(h *hold) bool {
			return h.large() && h.proto == p.Proto && h.first <= p.Port && p.Port <= h.last && meet(h.addr, p.Addr)
		}) {
			list = append(list, p.Socket)
		}
	}
	return list, nil
}

// SocketOwner implements edge.Reservations.
func (e *Edge) SocketOwner(inode uint32) string {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	for _, p := range e.k.programs {
		if p.Inode == inode {
			return p.owner
		}
	}
	return ""
}
