package model

import (
	"net/netip"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

// Addresses are those of a network: a pool for each of its subnets, in their order. It
// is not safe for concurrent use.
type Addresses struct {
	network string // for messages
	pools   []*addressPool
}

// NewAddresses makes the pools of a network. cursors are how far they had got.
func NewAddresses(rec state.Network, cursors []netip.Addr) *Addresses {
	p := &Addresses{network: rec.Name}
	for _, s := range rec.Subnets {
		gw := s.Gateway
		if s.Mode == api.GatewayIsolated {
			gw = netip.Addr{} // nobody has it
		}
		pool := newAddressPool(rec.Name, s.Prefix, s.IPRange, gw, s.Reserved)
		pool.shared = rec.Labels[api.LabelDockerPool] != ""
		for _, a := range cursors {
			if FamilyOf(a) == pool.family() {
				pool.last = a
			}
		}
		p.pools = append(p.pools, pool)
	}
	return p
}

// Take gives owner an address of each pool, the one of its family that is asked for or
// the next that is free; all or none.
func (p *Addresses) Take(ips [2]netip.Addr, owner, runtime string) (list []netip.Addr, err error) {
	for _, f := range Families {
		if ips[f].IsValid() && p.of(f) == nil {
			return nil, Invalidf("address %s: network %s has no %s subnet: leave it out or choose another network", ips[f], p.network, f)
		}
	}
	for _, pool := range p.pools {
		a := ips[pool.family()]
		if a.IsValid() {
			err = pool.take(a, owner, runtime)
		} else {
			a, err = pool.next(owner)
		}
		if err != nil {
			p.Release(list)
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// Call says what people call the network, for messages.
func (p *Addresses) Call(name string) {
	p.network = name
	for _, pool := range p.pools {
		pool.network = name
	}
}

// Release takes addresses back, in the order in which take gave them.
func (p *Addresses) Release(list []netip.Addr) {
	for i, a := range list {
		delete(p.pools[i].taken, a)
	}
}

// Rename gives addresses that are taken another owner.
func (p *Addresses) Rename(list []netip.Addr, owner string) {
	for i, a := range list {
		p.pools[i].taken[a] = owner
	}
}

// Cursors are how far the pools have got.
func (p *Addresses) Cursors() (list []netip.Addr) {
	for _, pool := range p.pools {
		if pool.last.IsValid() {
			list = append(list, pool.last)
		}
	}
	return list
}

// Lease promises an address of a family to a runtime until a while after now: the one
// that is asked for or the next that is free, of a range or the pool's own. Both may be
// invalid. The address comes with the length of its subnet.
func (p *Addresses) Lease(f Family, a netip.Addr, within netip.Prefix, runtime string, now time.Time) (netip.Prefix, error) {
	pool := p.of(f)
	if pool == nil {
		return netip.Prefix{}, Invalidf("network %s has no %s subnet: choose another network", p.network, f)
	}
	if s := pool.subnet; within.IsValid() && (within.Bits() < s.Bits() || !s.Contains(within.Addr())) {
		return netip.Prefix{}, Invalidf("range %s is outside subnet %s of network %s: choose one inside", within, s, p.network)
	}
	a, err := pool.lease(a, within, runtime, now)
	return netip.PrefixFrom(a, pool.subnet.Bits()), err
}

// EndLease gives an address back. One that is not leased is no error.
func (p *Addresses) EndLease(a netip.Addr) {
	for _, pool := range p.pools {
		delete(pool.leased, a)
	}
}

// InUse counts the addresses that are taken.
func (p *Addresses) InUse() (n int) {
	for _, pool := range p.pools {
		n += len(pool.taken)
	}
	return n
}

// of is the pool of a family, nil when there is none.
func (p *Addresses) of(f Family) *addressPool {
	for _, pool := range p.pools {
		if pool.family() == f {
			return pool
		}
	}
	return nil
}
