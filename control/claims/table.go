// Package claims holds what of the host's is the switch's: the published ports, and the
// addresses of the host that have a claim slot. It keeps the ports from the host's
// programs and from other containers, and claims them in the kernel.
package claims

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// lastSlot is the largest number of a claim slot: the one after it means every IPv6
// address.
const lastSlot = flowmap.WildcardSlot6 - 1

// Edge is what claims ask of the host's side.
type Edge interface {
	edge.Claims
	edge.Reservations
	Addrs() ([]host.Addr, error)
	OthersPorts() ([]edge.OthersPorts, error)
}

// Table has every published interval, also those being made, and every slot. Its methods
// are safe for concurrent use.
type Table struct {
	edge  Edge
	flush func(conntrack.Selector) int
	log   *slog.Logger

	mu      sync.Mutex // guards what follows, and Ports.claims
	all     map[*Ports]bool
	single  map[onePort][]*Ports // of all, the ones of one port
	wide    map[*Ports]bool      // and the others
	users   map[netip.Addr]int   // of a claim slot, by host address
	undone  []netip.Addr         // whose slot could not be dropped yet
	numbers *model.Numbering[netip.Addr]
}

// Ports are an interval of published host ports.
type Ports struct {
	Proto               uint8
	HostIP              netip.Addr // invalid: every address of the host; unspecified: of its family
	HostFirst, HostLast uint16

	who    func() string // the container's name
	hold   edge.Hold
	claims []netip.Addr // host addresses, or unspecified ones, on which its bits are set
}

// onePort is a port of the host. A start with a thousand containers would compare each with all.
type onePort struct {
	proto uint8
	port  uint16
}

func (t *Table) enterLocked(p *Ports) {
	t.all[p] = true
	if p.HostFirst != p.HostLast {
		t.wide[p] = true
		return
	}
	at := onePort{p.Proto, p.HostFirst}
	t.single[at] = append(t.single[at], p)
}

func (t *Table) removeLocked(p *Ports) {
	delete(t.all, p)
	delete(t.wide, p)
	at := onePort{p.Proto, p.HostFirst}
	if list := slices.DeleteFunc(t.single[at], func(o *Ports) bool { return o == p }); len(list) > 0 {
		t.single[at] = list
	} else {
		delete(t.single, at)
	}
}

// New is an empty table. flush ends flows of the switch and returns how many; it must not
// call the table.
func New(e Edge, flush func(conntrack.Selector) int, log *slog.Logger) *Table {
	return &Table{
		edge: e, flush: flush, log: log, all: make(map[*Ports]bool), single: make(map[onePort][]*Ports), wide: make(map[*Ports]bool),
		users: make(map[netip.Addr]int), numbers: model.NewNumbering[netip.Addr](lastSlot, false),
	}
}

// Keep lets an address have the slot that it had; not ok when that is another's.
func (t *Table) Keep(a netip.Addr, slot int) (ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return a.IsValid() && t.numbers.Keep(a, slot)
}

// Slots are the slots that addresses have or had.
func (t *Table) Slots() []model.KeyNumber[netip.Addr] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.numbers.List()
}

// Counts are the published intervals, the addresses with a slot and the slots in use.
func (t *Table) Counts() (published, addrs, slots int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all), len(t.users), t.numbers.InUse()
}

// conflictLocked returns ports that share one with p and are no more and no less
// specific: of two that differ in that the specific one wins (CVE-2019-9946).
func (t *Table) conflictLocked(p *Ports) *Ports {
	among := t.all
	if p.HostFirst == p.HostLast {
		for _, o := range t.single[onePort{p.Proto, p.HostFirst}] {
			if collide(p.HostIP, o.HostIP) {
				return o
			}
		}
		among = t.wide
	}
	for o := range among {
		if o.Proto == p.Proto && o.HostFirst <= p.HostLast && p.HostFirst <= o.HostLast && collide(p.HostIP, o.HostIP) {
			return o
		}
	}
	return nil
}

// collide reports whether two host addresses of ports are equally specific and have an
// address in common: the invalid one means all, an unspecified one all of its family.
func collide(a, b netip.Addr) bool {
	wideA, wideB := !a.IsValid() || a.IsUnspecified(), !b.IsValid() || b.IsUnspecified()
	switch {
	case wideA != wideB:
		return false
	case !wideA:
		return a == b
	}
	return !a.IsValid() || !b.IsValid() || a == b
}

// sharingLocked returns other ports with claims on an address: one of loopback alone, and
// one of every address that has loopback for a family its container lacks.
func (t *Table) sharingLocked(p *Ports, a netip.Addr) (list []*Ports) {
	for o := range t.all {
		if o != p && o.Proto == p.Proto && slices.Contains(o.claims, a) {
			list = append(list, o)
		}
	}
	return list
}

// errPublished says that another container has a port of p.
func errPublished(other, p *Ports) error {
	first, last := max(p.HostFirst, other.HostFirst), min(p.HostLast, other.HostLast)
	return model.Conflictf("port %s/%s is published by container %s: choose another host port",
		model.PortsText(first, last), model.ProtoName(other.Proto), other.who())
}

// randomTries bounds the search for a free host port against programs that take
// it meanwhile.
const randomTries = 64

// Reserve finds host ports for a rule, enters them in the table and holds them against
// the programs of the host, except for the keeper. who names
// the container; it is called without locks. Nothing is left after an error.
func (t *Table) Reserve(s model.PublishSpec, who func() string, keeper reserve.Keeper) (*Ports, error) {
	if err := t.checkHostIP(s.HostIP); err != nil {
		return nil, err
	}
	count := int(s.ContainerLast-s.ContainerFirst) + 1
	switch {
	case s.HostFirst == 0:
		for range randomTries {
			first, err := t.edge.FreePort(s.Proto, s.HostIP, count)
			if err != nil {
				return nil, refusal(err)
			}
			p, err := t.Hold(s, first, who, keeper)
			if err == nil || !isTaken(err) {
				return p, err
			}
		}
		return nil, model.Fullf("no free host port for %s: name one, as in -p HOSTPORT:%s", s, model.PortsText(s.ContainerFirst, s.ContainerLast))
	case s.HostFirst != s.HostLast && count == 1:
		var last error
		for n := int(s.HostFirst); n <= int(s.HostLast); n++ {
			p, err := t.Hold(s, uint16(n), who, keeper)
			if err == nil || !isTaken(err) {
				return p, err
			}
			last = err
		}
		return nil, fmt.Errorf("no free port in %s: the last one: %w", model.PortsText(s.HostFirst, s.HostLast), last)
	}
	return t.Hold(s, s.HostFirst, who, keeper)
}

func isTaken(err error) bool {
	return errors.Is(err, api.ErrConflict) || errors.Is(err, reserve.ErrTaken)
}

// refusal gives an error of the edge a kind.
func refusal(err error) error {
	if errors.Is(err, reserve.ErrTaken) {
		return model.Refuse(api.ErrConflict, err)
	}
	return err
}

// KeptBy is k for a container of a runtime that may keep the published ports of its containers
// from others by sockets of its own: podman, which hands them to the container's conmon
// (enable_port_reservation in containers.conf), and nerdctl, which leaves them to a process
// that sleeps. For a pod nobody does: what calls the plugin for it is the node's runtime, and
// the ports that it listens on are no pod's.
func KeptBy(runtime string, labels map[string]string, k reserve.Keeper) reserve.Keeper {
	if runtime != api.RuntimePodman && runtime != api.RuntimeCNI || labels[api.LabelPodUID] != "" {
		return reserve.Keeper{}
	}
	return k
}

// Kept are the cookies of the sockets by which programs keep the ports.
func (p *Ports) Kept() []uint64 {
	if p.hold == nil {
		return nil
	}
	return p.hold.Kept()
}

// Hold is Reserve for the interval that begins at first.
func (t *Table) Hold(s model.PublishSpec, first uint16, who func() string, keeper reserve.Keeper) (*Ports, error) {
	last := first + (s.ContainerLast - s.ContainerFirst)
	if last < first {
		return nil, model.Invalidf("publish %s: the host ports would go beyond 65535: begin with a lower one", s)
	}
	p := &Ports{Proto: s.Proto, HostIP: s.HostIP, HostFirst: first, HostLast: last, who: who}
	t.mu.Lock()
	other := t.conflictLocked(p)
	if other == nil {
		t.enterLocked(p)
	}
	t.mu.Unlock()
	if other != nil {
		return nil, errPublished(other, p)
	}
	hold, err := t.edge.TakePorts(p.Proto, p.HostIP, first, last, keeper)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.removeLocked(p)
		return nil, refusal(err)
	}
	p.hold = hold
	return p, nil
}

// Release is the end of ports that are in no snapshot any more.
func (t *Table) Release(p *Ports) error {
	t.Unclaim(p)
	var err error
	if p.hold != nil {
		err = p.hold.Release()
	}
	t.mu.Lock()
	t.removeLocked(p)
	t.mu.Unlock()
	return err
}

// checkHostIP refuses what is no address of the host: whoever may publish must
// not be able to claim the traffic of others (CVE-2020-8554).
func (t *Table) checkHostIP(a netip.Addr) error {
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() {
		return nil
	}
	addrs, err := t.edge.Addrs()
	if err != nil {
		return fmt.Errorf("read the host's addresses: %w", err)
	}
	for _, h := range addrs {
		if h.Prefix.Addr() == a {
			return nil
		}
	}
	return model.Invalidf("address %s is not one of the host: publish on one of its addresses or leave the address out", a)
}
