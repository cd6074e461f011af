package control

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane"
)

// publishTable holds every published interval, also those being made. Its user
// holds Controller.mu.
type publishTable struct {
	all map[*mapping]bool
}

// conflict returns a mapping that shares a port with the interval and is no more
// and no less specific: of two that differ in that the specific one wins
// (CVE-2019-9946).
func (t *publishTable) conflict(proto uint8, hostIP netip.Addr, first, last uint16) *mapping {
	for m := range t.all {
		if m.proto == proto && m.first <= last && first <= m.last &&
			collide(hostIP, m.hostIP) {
			return m
		}
	}
	return nil
}

// collide reports whether two host addresses of mappings are equally specific and
// have an address in common: the invalid one stands for all, an unspecified one
// for all of its family.
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

func (t *publishTable) add(m *mapping) {
	if t.all == nil {
		t.all = make(map[*mapping]bool)
	}
	t.all[m] = true
}

// sharing returns other mappings with claims on an address: one of loopback alone,
// and one of every address that has loopback for a family its container lacks.
func (t *publishTable) sharing(m *mapping, a netip.Addr) (list []*mapping) {
	for o := range t.all {
		if o != m && o.proto == m.proto && slices.Contains(o.claims, a) {
			list = append(list, o)
		}
	}
	return list
}

// errPublished says that another container has the port.
func errPublished(m *mapping, first, last uint16) error {
	first, last = max(first, m.first), min(last, m.last)
	return conflictf("port %s/%s is published by container %s: choose another host port",
		portsText(first, last), protoName(m.proto), m.ct.rec.Name)
}

// randomTries bounds the search for a free host port against programs that take
// it meanwhile.
const randomTries = 64

// reservePorts finds host ports for a rule, enters them in the table and holds
// them against the programs of the host. Nothing is left after an error.
func (c *Controller) reservePorts(ct *container, s PublishSpec) (*mapping, error) {
	if err := c.checkHostIP(s.HostIP); err != nil {
		return nil, err
	}
	count := int(s.Last-s.First) + 1
	switch {
	case s.HostFirst == 0:
		for range randomTries {
			first, err := c.ports.FreePort(s.Proto, s.HostIP, count)
			if err != nil {
				return nil, wrapHost(err)
			}
			m, err := c.holdPorts(ct, s, first)
			if err == nil || !isTaken(err) {
				return m, err
			}
		}
		return nil, fullf("no free host port for %s: name one, as in -p HOSTPORT:%s", s, portsText(s.First, s.Last))
	case s.HostFirst != s.HostLast && count == 1:
		var last error
		for p := int(s.HostFirst); p <= int(s.HostLast); p++ {
			m, err := c.holdPorts(ct, s, uint16(p))
			if err == nil || !isTaken(err) {
				return m, err
			}
			last = err
		}
		return nil, fmt.Errorf("no free port in %s: the last one: %w", portsText(s.HostFirst, s.HostLast), last)
	}
	return c.holdPorts(ct, s, s.HostFirst)
}

func isTaken(err error) bool {
	return errors.Is(err, api.ErrConflict) || errors.Is(err, reserve.ErrTaken)
}

// holdPorts takes the interval that begins at first.
func (c *Controller) holdPorts(ct *container, s PublishSpec, first uint16) (*mapping, error) {
	last := first + (s.Last - s.First)
	if last < first {
		return nil, invalidf("publish %s: the host ports would go beyond 65535", s)
	}
	m := &mapping{ct: ct, proto: s.Proto, hostIP: s.HostIP, first: first, last: last, target: s.First}
	c.mu.Lock()
	if other := c.published.conflict(m.proto, m.hostIP, first, last); other != nil {
		c.mu.Unlock()
		return nil, errPublished(other, first, last)
	}
	c.published.add(m)
	c.mu.Unlock()

	hold, err := c.ports.Take(m.proto, m.hostIP, first, last, holders(ct.rec.Runtime)...)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		delete(c.published.all, m)
		return nil, wrapHost(err)
	}
	m.hold = hold
	return m, nil
}

// holders are the programs of a runtime that keep the published ports of its
// containers from others by sockets of their own: podman, before it asks for the
// network, which hands them to the container's conmon (enable_port_reservation in
// containers.conf).
func holders(runtime string) []string {
	if runtime == api.RuntimePodman || runtime == api.RuntimeCNI { // Podman 4 has both
		return []string{"podman", "conmon"}
	}
	return nil
}

// releasePorts is the end of a mapping that is in no snapshot any more.
func (c *Controller) releasePorts(m *mapping) error {
	c.unclaim(m)
	var err error
	if m.hold != nil {
		err = m.hold.Release()
	}
	c.mu.Lock()
	delete(c.published.all, m)
	c.mu.Unlock()
	return err
}

// claim sets the bits of a mapping where its packets come in, and clears those
// where they no longer do.
func (c *Controller) claim(m *mapping) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	want := m.wantedClaims()
	for _, a := range m.claims {
		if !slices.Contains(want, a) {
			c.unclaimLocked(m, a)
		}
	}
	for _, a := range want {
		if slices.Contains(m.claims, a) {
			continue
		}
		slot, wild := wildcardSlot(a)
		if !wild {
			var err error
			if slot, err = c.useSlotLocked(a); err != nil {
				return err
			}
		}
		for p := int(m.first); p <= int(m.last); p++ {
			c.kernel.Published().Set(slot, m.proto, uint16(p))
		}
		m.claims = append(m.claims, a)
	}
	return nil
}

// wantedClaims are the addresses of the host at which a mapping takes packets:
// of a family that the container has not only loopback, where the relay serves
// it. From outside such a port is closed, not silent.
func (m *mapping) wantedClaims() (list []netip.Addr) {
	if m.hostIP.IsValid() {
		return []netip.Addr{m.hostIP}
	}
	for _, f := range families {
		if m.ct.gateway(f) != nil {
			list = append(list, f.unspecified())
		} else {
			list = append(list, f.loopback())
		}
	}
	return list
}

// reclaim follows a change of a container's networks.
func (c *Controller) reclaim(ct *container) {
	for _, m := range ct.mappings {
		if err := c.claim(m); err != nil {
			c.log.Error("claim a published port", "container", ct.rec.Name, "port", portsText(m.first, m.last), "err", err)
		}
	}
}

func (c *Controller) unclaim(m *mapping) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range slices.Clone(m.claims) {
		c.unclaimLocked(m, a)
	}
}

func (c *Controller) unclaimLocked(m *mapping, a netip.Addr) {
	slot, wild := wildcardSlot(a)
	if !wild {
		slot, _ = c.kernel.Slot(a) // the one it has
	}
	shared := c.published.sharing(m, a)
	for p := int(m.first); p <= int(m.last); p++ {
		if !slices.ContainsFunc(shared, func(o *mapping) bool { return int(o.first) <= p && p <= int(o.last) }) {
			c.kernel.Published().Clear(slot, m.proto, uint16(p))
		}
	}
	if !wild {
		c.dropSlotLocked(a)
	}
	m.claims = slices.DeleteFunc(m.claims, func(o netip.Addr) bool { return o == a })
}

// wildcardSlot is the slot of an unspecified address.
func wildcardSlot(a netip.Addr) (slot int, ok bool) {
	switch a {
	case ipv4.unspecified():
		return dataplane.WildcardSlot, true
	case ipv6.unspecified():
		return dataplane.WildcardSlot6, true
	}
	return 0, false
}

// useSlotLocked returns the claim slot of a host address and counts its users.
func (c *Controller) useSlotLocked(a netip.Addr) (int, error) {
	slot, err := c.kernel.Slot(a)
	if err != nil {
		return 0, fullf("address %s: %w: at most %d addresses of the host can be used", a, err, dataplane.ClaimSlots-2)
	}
	c.slots[a]++
	return slot, nil
}

func (c *Controller) dropSlotLocked(a netip.Addr) {
	if c.slots[a]--; c.slots[a] > 0 {
		return
	}
	delete(c.slots, a)
	if err := c.kernel.DropSlot(a); err != nil {
		c.log.Error("drop claim slot", "addr", a, "err", err)
	}
}

// checkHostIP refuses what is no address of the host: whoever may publish must
// not be able to claim the traffic of others (CVE-2020-8554).
func (c *Controller) checkHostIP(a netip.Addr) error {
	if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() {
		return nil
	}
	addrs, err := c.host.Addrs()
	if err != nil {
		return fmt.Errorf("read the host's addresses: %w", err)
	}
	for _, h := range addrs {
		if h.Prefix.Addr() == a {
			return nil
		}
	}
	return invalidf("address %s is not one of the host: publish on one of its addresses or leave the address out", a)
}

// relayTable finds the container behind a published port for connections of the
// host itself. Immutable.
type relayTable map[relayKey][]relayEntry

type relayKey struct {
	proto uint8
	addr  netip.Addr // unspecified: every address of its family
}

type relayEntry struct {
	first, last uint16
	target      netip.AddrPort // of first
}

// resolve is relay.Config.Resolve.
func (c *Controller) resolve(proto uint8, local netip.AddrPort) (netip.AddrPort, bool) {
	t := c.relayTab.Load()
	if t == nil {
		return netip.AddrPort{}, false
	}
	asked := local.Addr().Unmap()
	for _, addr := range [2]netip.Addr{asked, familyOf(asked).unspecified()} {
		for _, e := range (*t)[relayKey{proto, addr}] {
			if e.first <= local.Port() && local.Port() <= e.last {
				return netip.AddrPortFrom(e.target.Addr(), e.target.Port()+local.Port()-e.first), true
			}
		}
	}
	return netip.AddrPort{}, false
}

// busyPorts turns sockets into what masquerade skips.
func busyPorts(sockets []host.Socket) *dataplane.BusyPorts {
	b := new(dataplane.BusyPorts)
	for _, s := range sockets {
		b.Set(s.Proto, s.Port)
	}
	return b
}
