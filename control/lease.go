package control

import (
	"context"
	"net/netip"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

// leaseTime is how long an address is kept for a container that is to come. What
// lies between the two requests of a runtime is its own work and no more.
const leaseTime = 2 * time.Minute

// lease is an address that a runtime was promised.
type lease struct {
	runtime string
	until   time.Time
}

// FreeSubnet says which subnet a new network could have.
func (c *Controller) FreeSubnet(_ context.Context, in api.SubnetRequest) (out api.FreeSubnet, err error) {
	if in.Subnet != "" {
		p, err := parsePrefix("subnet", in.Subnet)
		if err != nil {
			return out, err
		}
		if err := checkSubnet(&state.Subnet{Prefix: p}); err != nil {
			return out, &refusal{api.ErrInvalid, err}
		}
		c.mu.Lock()
		o, taken := c.overlapLocked(p)
		c.mu.Unlock()
		if o != nil {
			return out, conflictf("subnet %s overlaps network %s (%s): choose another", p, o.rec.Name, taken)
		}
		if route, bad := c.host.Overlaps(p); bad {
			return out, conflictf("subnet %s overlaps route %s: choose another", p, route)
		}
		return api.FreeSubnet{Subnet: p.String(), Gateway: firstHost(p).String()}, nil
	}
	var except []netip.Prefix
	for _, s := range in.Except {
		p, err := parsePrefix("subnet", s)
		if err != nil {
			return out, err
		}
		except = append(except, p)
	}
	f := ipv4
	if in.IPv6 {
		f = ipv6
	}
	pool := c.pools[f]
	p, ok := nextSubnet(pool, max(poolBits[f], pool.Bits()), func(p netip.Prefix) bool {
		for _, e := range except {
			if e.Overlaps(p) {
				return false
			}
		}
		c.mu.Lock()
		o, _ := c.overlapLocked(p)
		c.mu.Unlock()
		if o != nil {
			return false
		}
		_, bad := c.host.Overlaps(p)
		return !bad
	})
	if !ok {
		return out, fullf("no subnet in %s is free of networks and routes of the host: choose one", pool)
	}
	return api.FreeSubnet{Subnet: p.String(), Gateway: firstHost(p).String()}, nil
}

// LeaseAddress keeps an address of a network for a container to come.
func (c *Controller) LeaseAddress(_ context.Context, network string, in api.LeaseRequest) (out api.Lease, err error) {
	if in.Runtime == "" {
		return out, invalidf("lease in network %s: for which runtime: give its name", network)
	}
	var a netip.Addr
	if in.Address != "" {
		if a, err = parseAddr("address", in.Address); err != nil {
			return out, err
		}
	}
	var within netip.Prefix
	if in.Within != "" {
		if within, err = parsePrefix("range", in.Within); err != nil {
			return out, err
		}
	}
	f := ipv4
	if in.IPv6 || a.Is6() || within.Addr().Is6() {
		f = ipv6
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.findNetworkLocked(network)
	if err != nil {
		return out, err
	}
	for i, s := range n.rec.Subnets {
		if familyOf(s.Prefix.Addr()) != f {
			continue
		}
		if within.IsValid() && (within.Bits() < s.Prefix.Bits() || !s.Prefix.Contains(within.Addr())) {
			return out, invalidf("range %s is outside subnet %s of network %s: choose one inside", within, s.Prefix, n.rec.Name)
		}
		if a, err = n.pools[i].lease(a, within, in.Runtime, time.Now()); err != nil {
			return out, err
		}
		return api.Lease{Address: netip.PrefixFrom(a, s.Prefix.Bits()).String()}, nil
	}
	return out, invalidf("network %s has no %s subnet: choose another network", n.rec.Name, f)
}

// EndLease gives an address back. One that is not leased is no error.
func (c *Controller) EndLease(_ context.Context, network, address string) error {
	a, err := parseAddr("address", address)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.findNetworkLocked(network)
	if err != nil {
		return err
	}
	for _, p := range n.pools {
		delete(p.leased, a)
	}
	return nil
}

// lease promises an address to a runtime, the one that is asked for or the next
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
