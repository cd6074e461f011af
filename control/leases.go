package control

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
)

// FreeSubnet says which subnet a new network could have.
func (c *Controller) FreeSubnet(_ context.Context, in api.SubnetRequest) (out api.FreeSubnet, err error) {
	if in.Subnet != "" {
		p, err := model.ParsePrefix("subnet", in.Subnet)
		if err != nil {
			return out, err
		}
		if err := model.CheckSubnet(&state.Subnet{Prefix: p}); err != nil {
			return out, model.Refuse(api.ErrInvalid, err)
		}
		c.mu.Lock()
		o, taken := c.inv.Overlap(p)
		c.mu.Unlock()
		if o != nil {
			return out, model.Conflictf("subnet %s overlaps network %s (%s): choose another", p, o.Called(), taken)
		}
		if route, bad := c.edge.Overlaps(p); bad {
			return out, model.Conflictf("subnet %s overlaps route %s: choose another", p, route)
		}
		return api.FreeSubnet{Subnet: p.String(), Gateway: model.FirstHost(p).String()}, nil
	}
	var except []netip.Prefix
	for _, s := range in.Except {
		p, err := model.ParsePrefix("subnet", s)
		if err != nil {
			return out, err
		}
		except = append(except, p)
	}
	f := model.IPv4
	if in.IPv6 {
		f = model.IPv6
	}
	pool := c.inv.Pools[f]
	p, ok := model.NextSubnet(pool, max(model.PoolBits[f], pool.Bits()), func(p netip.Prefix) bool {
		if slices.ContainsFunc(except, p.Overlaps) {
			return false
		}
		c.mu.Lock()
		n, _ := c.inv.Overlap(p)
		c.mu.Unlock()
		if n != nil {
			return false
		}
		_, bad := c.edge.Overlaps(p)
		return !bad
	})
	if !ok {
		return out, model.Fullf("no subnet in %s is free of networks and routes of the host: choose one", pool)
	}
	return api.FreeSubnet{Subnet: p.String(), Gateway: model.FirstHost(p).String()}, nil
}

// LeaseAddress keeps an address of a network for a container to come.
func (c *Controller) LeaseAddress(_ context.Context, network string, in api.LeaseRequest) (out api.Lease, err error) {
	if in.Runtime == "" {
		return out, model.Invalidf("lease in network %s: for which runtime: give its name", network)
	}
	var a netip.Addr
	if in.Address != "" {
		if a, err = model.ParseAddr("address", in.Address); err != nil {
			return out, err
		}
	}
	var within netip.Prefix
	if in.Within != "" {
		if within, err = model.ParsePrefix("range", in.Within); err != nil {
			return out, err
		}
	}
	f := model.IPv4
	if in.IPv6 || a.Is6() || within.Addr().Is6() {
		f = model.IPv6
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.inv.Network(network)
	if err != nil {
		return out, err
	}
	p, err := n.Addrs.Lease(f, a, within, in.Runtime, time.Now())
	if err != nil {
		return out, err
	}
	return api.Lease{Address: p.String()}, nil
}

// EndLease gives an address back. One that is not leased is no error.
func (c *Controller) EndLease(_ context.Context, network, address string) error {
	a, err := model.ParseAddr("address", address)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.inv.Network(network)
	if err != nil {
		return err
	}
	n.Addrs.EndLease(a)
	return nil
}
