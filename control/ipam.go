package control

import (
	"net/netip"
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
	if !a.IsValid() || !rng.Contains(a) {
		a = rng.Addr().Prev() // invalid at 0.0.0.0 or ::
	}
	// Among one more address than there are obstacles one is free, unless the
	// walk came round first.
	obstacles := len(p.taken) + len(p.reserved) + len(p.leased) + 4
	for range obstacles {
		if a = a.Next(); !a.IsValid() || !rng.Contains(a) {
			a = rng.Addr()
		}
		if p.why(a) == "" {
			p.taken[a], p.last = owner, a
			return a, nil
		}
	}
	return netip.Addr{}, fullf("network %s is full: no free address in %s: detach a container or make a network with a larger subnet",
		p.network, rng)
}

// take gives owner the address it asks for. One that is leased goes to a container
// of the runtime that holds the lease.
func (p *addressPool) take(a netip.Addr, owner, runtime string) error {
	if !p.subnet.Contains(a) {
		return invalidf("address %s is outside subnet %s of network %s: choose one inside", a, p.subnet, p.network)
	}
	if who := p.taken[a]; who != "" {
		return conflictf("address %s of network %s is in use by container %s: choose another", a, p.network, who)
	}
	if who := p.leasedTo(a); who != "" {
		if who != runtime {
			return conflictf("address %s of network %s is kept for a container of %s: choose another", a, p.network, who)
		}
		delete(p.leased, a)
	}
	if why := p.why(a); why != "" {
		return invalidf("address %s of network %s %s: choose another", a, p.network, why)
	}
	p.taken[a] = owner
	return nil
}

// release takes an address back.
func (p *addressPool) release(a netip.Addr) { delete(p.taken, a) }

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
		if a.Is4() && a == lastAddr(p.subnet) {
			return "is the broadcast address"
		}
	}
	return ""
}

// firstHost is the address a network's gateway has unless told.
func firstHost(subnet netip.Prefix) netip.Addr {
	if subnet.Bits() >= subnet.Addr().BitLen()-1 {
		return subnet.Addr()
	}
	return subnet.Addr().Next()
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for i := range b {
		for bit := range 8 {
			if i*8+bit >= p.Bits() {
				b[i] |= 0x80 >> bit
			}
		}
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// nextSubnet is the first subnet of bits length in space for which free says
// yes.
func nextSubnet(space netip.Prefix, bits int, free func(netip.Prefix) bool) (netip.Prefix, bool) {
	for a := space.Masked().Addr(); a.IsValid() && space.Contains(a); {
		p := netip.PrefixFrom(a, bits)
		if free(p) {
			return p, true
		}
		a = lastAddr(p).Next()
	}
	return netip.Prefix{}, false
}
