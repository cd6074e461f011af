package docker

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// With the IPAM driver vswitch Docker's addresses come from the pools that all
// other containers of the switch have theirs from. A pool's ID is its subnet, and
// the part of it to choose from: nothing is kept for it. Docker asks for a pool and
// the gateway in it before it makes the network, and for a container's address
// before the endpoint; in between the address is leased.

// poolTime is how long a subnet is not told to anybody else. Docker makes the
// network next.
const poolTime = time.Minute

// promised are the subnets that were told and are not networks yet.
type promised struct {
	mu    sync.Mutex
	until map[string]time.Time
}

// list returns those that still hold.
func (p *promised) list() (out []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s, until := range p.until {
		if time.Now().After(until) {
			delete(p.until, s)
			continue
		}
		out = append(out, s)
	}
	return out
}

// add promises a subnet, unless somebody was faster.
func (p *promised) add(subnet string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.until[subnet]) {
		return false
	}
	if p.until == nil {
		p.until = make(map[string]time.Time)
	}
	p.until[subnet] = time.Now().Add(poolTime)
	return true
}

// keep forgets subnets: they are networks by now, or never will be.
func (p *promised) keep(subnets []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range subnets {
		delete(p.until, s)
	}
}

// pool is a pool's ID taken apart.
type pool struct{ subnet, part netip.Prefix }

func (p pool) id() string {
	if p.part.IsValid() {
		return p.subnet.String() + " " + p.part.String()
	}
	return p.subnet.String()
}

func parsePool(id string) (p pool, err error) {
	subnet, part, parted := strings.Cut(id, " ")
	p.subnet, err = netip.ParsePrefix(subnet)
	if err == nil && parted {
		p.part, err = netip.ParsePrefix(part)
	}
	if err != nil {
		return p, fmt.Errorf("pool id %.60q is none of the IPAM driver vswitch", id)
	}
	return p, nil
}

// poolRequest is the body of IpamDriver.RequestPool.
type poolRequest struct {
	AddressSpace, Pool, SubPool string
	Options                     map[string]string
	V6                          bool
}

func (d *driver) requestPool(ctx context.Context, in poolRequest) (any, error) {
	var p pool
	var err error
	for _, part := range []struct {
		text string
		to   *netip.Prefix
	}{{in.Pool, &p.subnet}, {in.SubPool, &p.part}} {
		if part.text == "" {
			continue
		}
		if *part.to, err = netip.ParsePrefix(part.text); err != nil {
			return nil, fmt.Errorf("subnet %.60q is malformed: write it like 10.1.0.0/24", part.text)
		}
		*part.to = part.to.Masked()
	}
	if p.part.IsValid() && (!p.subnet.IsValid() || !p.subnet.Contains(p.part.Addr()) || p.part.Bits() < p.subnet.Bits()) {
		return nil, fmt.Errorf("ip-range %s is outside the subnet: give both, one inside the other", p.part)
	}
	name := ""
	for key, v := range in.Options {
		if key != ownPrefix+"network" {
			return nil, fmt.Errorf("ipam option %s is not known: see docs/integrations/docker.md", key)
		}
		name = v
	}
	if name != "" {
		n, err := d.Network(ctx, name)
		if err == nil {
			return d.poolOf(n, p, in.V6)
		}
		if !isNotFound(err) {
			return nil, err
		}
	}
	if p.subnet.IsValid() {
		if _, err := d.FreeSubnet(ctx, api.SubnetRequest{Subnet: p.subnet.String()}); err != nil {
			return nil, err
		}
		d.pools.add(p.subnet.String())
		return poolAnswer(p), nil
	}
	for {
		free, err := d.FreeSubnet(ctx, api.SubnetRequest{IPv6: in.V6, Except: d.pools.list()})
		if err != nil {
			return nil, err
		}
		if p.subnet, err = netip.ParsePrefix(free.Subnet); err != nil {
			return nil, err
		}
		if d.pools.add(free.Subnet) {
			return poolAnswer(p), nil
		}
	}
}

// poolOf is the pool of a network that stands. It has to be asked for by name:
// dockerd refuses a subnet that it did not name when the host has a route to it, and
// asks for another, for ever.
func (d *driver) poolOf(n api.Network, p pool, v6 bool) (any, error) {
	if p.subnet.IsValid() {
		v6 = p.subnet.Addr().Is6()
	}
	for _, s := range n.Subnets {
		sub, err := netip.ParsePrefix(s.Subnet)
		if err != nil || sub.Addr().Is6() != v6 {
			continue
		}
		if p.subnet != sub || p.part.IsValid() {
			return nil, fmt.Errorf("network %s has the subnet %s: give it as --subnet %[2]s, without --ip-range", n.Name, sub)
		}
		return poolAnswer(p), nil
	}
	return nil, fmt.Errorf("network %s has no such subnet: see vswitch network inspect %s", n.Name, n.Name)
}

func poolAnswer(p pool) any {
	return struct {
		PoolID, Pool string
		Data         map[string]string
	}{p.id(), p.subnet.String(), map[string]string{}}
}

func (d *driver) releasePool(_ context.Context, in struct{ PoolID string }) (any, error) {
	p, err := parsePool(in.PoolID)
	d.pools.keep([]string{p.subnet.String()})
	return struct{}{}, err
}

// addressRequest is the body of IpamDriver.RequestAddress.
type addressRequest struct {
	PoolID, Address string
	Options         map[string]string
}

// Options of RequestAddress.
const (
	optAddressType = "RequestAddressType"
	typeGateway    = "com.docker.network.gateway"
)

func (d *driver) requestAddress(ctx context.Context, in addressRequest) (any, error) {
	p, err := parsePool(in.PoolID)
	if err != nil {
		return nil, err
	}
	var a netip.Addr
	if in.Address != "" {
		if a, err = netip.ParseAddr(bare(in.Address)); err != nil || !p.subnet.Contains(a) {
			return nil, fmt.Errorf("address %.60q is none of subnet %s", in.Address, p.subnet)
		}
	}
	n, s, err := d.networkOf(ctx, p)
	if err != nil {
		return nil, err
	}
	switch {
	case in.Options[optAddressType] == typeGateway:
		// The network that stands knows its own; for one that does not yet the
		// switch will take what it is given.
		gw := s.Gateway
		if n == nil || gw == "" {
			gw = p.subnet.Masked().Addr().Next().String()
			if p.subnet.Bits() >= p.subnet.Addr().BitLen()-1 {
				gw = p.subnet.Masked().Addr().String() // RFC 3021
			}
			if a.IsValid() {
				gw = a.String()
			}
		}
		if a.IsValid() && gw != a.String() {
			return nil, fmt.Errorf("network %s has not the gateway %s: leave --gateway out", n.Name, a)
		}
		return addressAnswer(gw, p.subnet.Bits()), nil
	case n == nil && a.IsValid(): // reserved by --aux-address, in a network to come
		return addressAnswer(a.String(), p.subnet.Bits()), nil
	case n == nil:
		return nil, fmt.Errorf("subnet %s is no network of the switch: the IPAM driver vswitch serves networks of the driver vswitch", p.subnet)
	}
	want := api.LeaseRequest{Runtime: api.RuntimeDocker, Address: in.Address, IPv6: p.subnet.Addr().Is6()}
	if a.IsValid() {
		want.Address = a.String()
	} else if p.part.IsValid() {
		want.Within = p.part.String()
	}
	l, err := d.LeaseAddress(ctx, n.Name, want)
	if err != nil {
		return nil, err
	}
	return addressAnswer(bare(l.Address), p.subnet.Bits()), nil
}

func addressAnswer(a string, bits int) any {
	return struct {
		Address string
		Data    map[string]string
	}{fmt.Sprintf("%s/%d", a, bits), map[string]string{}}
}

// networkOf finds the network that has a pool's subnet, nil when there is none yet.
func (d *driver) networkOf(ctx context.Context, p pool) (*api.Network, api.Subnet, error) {
	list, err := d.Networks(ctx)
	if err != nil {
		return nil, api.Subnet{}, err
	}
	for i := range list {
		for _, s := range list[i].Subnets {
			if s.Subnet == p.subnet.String() {
				return &list[i], s, nil
			}
		}
	}
	return nil, api.Subnet{}, nil
}

// releaseAddress is no error for an address that nobody keeps: the one of an
// endpoint went with it.
func (d *driver) releaseAddress(ctx context.Context, in struct{ PoolID, Address string }) (any, error) {
	p, err := parsePool(in.PoolID)
	if err != nil {
		return nil, err
	}
	n, _, err := d.networkOf(ctx, p)
	if err != nil || n == nil {
		return struct{}{}, err
	}
	if err := d.EndLease(ctx, n.Name, bare(in.Address)); err != nil && !isNotFound(err) {
		return nil, err
	}
	return struct{}{}, nil
}
