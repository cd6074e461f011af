package model

import (
	"net/netip"
	"time"
)

// addressPool hands out the addresses of one network. It goes round its range,
// so that an address that was freed is not given to another container while
// neighbours may still remember who had it. Not safe for concurrent use.
type addressPool struct {
	network string // for messages
	subnet  netip.Prefix
	rng     netip.Prefix // where addresses are chosen: ip-range, else subnet
	gateway netip.Addr
	// reserved are addresses never handed out, by address.
	reserved map[netip.Addr]string
	taken    map[netip.Addr]string // container by address
	leased   map[netip.Addr]lease  // what runtimes were promised
	// last was handed out last; the search goes on behind it.
	last netip.Addr
	// shared: somebody else gives out addresses of it, the lowest that he takes for free, and
	// does not ask. The ones chosen here are the highest.
	shared bool
}

func newAddressPool(network string, subnet, rng netip.Prefix, gateway netip.Addr, reserved map[string]netip.Addr) *addressPool {
	if !rng.IsValid() {
		rng = subnet
	}
	p := &addressPool{
		network: network, subnet: subnet, rng: rng, gateway: gateway,
		reserved: make(map[netip.Addr]string, len(reserved)),
		taken:    make(map[netip.Addr]string),
	}
	for name, a := range reserved {
		p.reserved[a] = name
	}
	return p
}

// next gives the next free address of the range to owner.
func (p *addressPool) next(owner string) (netip.Addr, error) { return p.nextIn(p.rng, owner) }

func (p *addressPool) nextIn(rng netip.Prefix, owner string) (netip.Addr, error) {
	a := p.last
	if !a.IsValid() || !rng.Contains(a) || p.shared {
		a = rng.Addr().Prev() // invalid at 0.0.0.0 or ::
	}
	// Among one more address than there are obstacles one is free, unless the
	// walk came round first.
	obstacles := len(p.taken) + len(p.reserved) + len(p.leased) + 4
	for range obstacles {
		if p.shared {
			a = a.Prev()
		} else {
			a = a.Next()
		}
		switch {
		case a.IsValid() && rng.Contains(a):
		case p.shared:
			a = LastAddr(rng)
		default:
			a = rng.Addr()
		}
		if p.why(a) == "" {
			p.taken[a], p.last = owner, a
			return a, nil
		}
	}
	return netip.Addr{}, Fullf("network %s is full: no free address in %s: detach a container or make a network with a larger subnet",
		p.network, rng)
}

// Take gives owner the address it asks for. One that is leased goes to a container
// of the runtime that holds the lease.
func (p *addressPool) take(a netip.Addr, owner, runtime string) error {
	if !p.subnet.Contains(a) {
		return Invalidf("address %s is outside subnet %s of network %s: choose one inside", a, p.subnet, p.network)
	}
	if who := p.taken[a]; who != "" {
		return Conflictf("address %s of network %s is in use by container %s: choose another", a, p.network, who)
	}
	if who := p.leasedTo(a); who != "" {
		if who != runtime {
			return Conflictf("address %s of network %s is kept for a container of %s: choose another", a, p.network, who)
		}
		delete(p.leased, a)
	}
	if why := p.why(a); why != "" {
		return Invalidf("address %s of network %s %s: choose another", a, p.network, why)
	}
	p.taken[a] = owner
	return nil
}

func (p *addressPool) family() Family { return FamilyOf(p.subnet.Addr()) }

// why says what keeps an address from being handed out, "" when nothing does.
func (p *addressPool) why(a netip.Addr) string {
	if p.taken[a] != "" {
		return "is in use"
	}
	if p.leasedTo(a) != "" {
		return "is kept for a container to come"
	}
	if a == p.gateway {
		return "is the gateway"
	}
	if name, ok := p.reserved[a]; ok {
		return "is reserved for " + name
	}
	// RFC 3021: a /31 has neither; RFC 4291 2.6.1: the all-zero host of IPv6 is
	// the subnet-router anycast address, and IPv6 has no broadcast.
	if p.subnet.Bits() < a.BitLen()-1 {
		if a == p.subnet.Addr() {
			return "is the address of the subnet itself"
		}
		if a.Is4() && a == LastAddr(p.subnet) {
			return "is the broadcast address"
		}
	}
	return ""
}

// leaseTime is how long an address is kept for a container that is to come. What
// lies between the two requests of a runtime is its own work and no more.
const leaseTime = 2 * time.Minute

// Lease is an address that a runtime was promised.
type lease struct {
	runtime string
	until   time.Time
}

// Lease promises an address to a runtime, the one that is asked for or the next
// that is free, of a range or the pool's own.
func (p *addressPool) lease(a netip.Addr, within netip.Prefix, runtime string, now time.Time) (netip.Addr, error) {
	for a, l := range p.leased {
		if now.After(l.until) {
			delete(p.leased, a)
		}
	}
	var err error
	switch {
	case a.IsValid():
		err = p.take(a, runtime, "")
	case within.IsValid():
		a, err = p.nextIn(within, runtime)
	default:
		a, err = p.next(runtime)
	}
	if err != nil {
		return a, err
	}
	delete(p.taken, a)
	if p.leased == nil {
		p.leased = make(map[netip.Addr]lease)
	}
	p.leased[a] = lease{runtime, now.Add(leaseTime)}
	return a, nil
}

// leasedTo returns the runtime that an address is promised to, "" when it is not
// or not any more.
func (p *addressPool) leasedTo(a netip.Addr) string {
	l, ok := p.leased[a]
	if !ok || time.Now().After(l.until) {
		return ""
	}
	return l.runtime
}
