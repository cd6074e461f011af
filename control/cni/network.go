package cni

import (
	"cmp"
	"net/netip"
	"slices"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/vswitch/vswitch/control/api"
)

// networkConfig is the part of a configuration that says which network a
// container joins, and how that is made when there is none of the name.
type networkConfig struct {
	Network string `json:"network"` // default: bridge, then name
	Bridge  string `json:"bridge"`  // of plugin bridge: containers on one share a network

	Subnet     string            `json:"subnet"`
	Subnets    []string          `json:"subnets"`
	Gateway    string            `json:"gateway"`
	Gateways   []string          `json:"gateways"`
	IPRange    string            `json:"ipRange"`
	IPRanges   []string          `json:"ipRanges"`
	IPv4       *bool             `json:"ipv4"`
	IPv6       *bool             `json:"ipv6"`
	Reserved   map[string]string `json:"reserved"`
	MTU        int               `json:"mtu"`
	Internal   bool              `json:"internal"`
	Mode       string            `json:"mode"`
	ModeIPv4   string            `json:"modeIPv4"`
	ModeIPv6   string            `json:"modeIPv6"`
	ICC        *bool             `json:"icc"`
	HostAccess *bool             `json:"hostAccess"`
}

// ipRange is a range as plugin host-local has it.
type ipRange struct {
	Subnet     string `json:"subnet"`
	RangeStart string `json:"rangeStart"`
	RangeEnd   string `json:"rangeEnd"`
	Gateway    string `json:"gateway"`
}

func (c *config) network() string {
	return cmp.Or(c.networkConfig.Network, c.networkConfig.Bridge, c.Name)
}

// wanted is the network of a configuration: with the ranges that the runtime
// gives in the place of those in the file, and with the subnets of a delegated
// IPAM plugin, when it gave addresses.
func (c *config) wanted(given *types100.Result) (api.NetworkCreate, error) {
	n := c.networkConfig
	in := api.NetworkCreate{
		Name: c.network(), Subnet: n.Subnet, Subnets: n.Subnets, Gateway: n.Gateway, Gateways: n.Gateways,
		IPRange: n.IPRange, IPRanges: n.IPRanges, IPv4: n.IPv4, IPv6: n.IPv6, Reserved: n.Reserved,
		MTU: n.MTU, Internal: n.Internal, Mode: n.Mode, ModeIPv4: n.ModeIPv4, ModeIPv6: n.ModeIPv6,
		ICC: n.ICC, HostAccess: n.HostAccess, Ephemeral: true,
		Labels: map[string]string{"org.vswitch.runtime": api.RuntimeCNI},
	}
	if len(c.RuntimeConfig.IPRanges) > 0 {
		in.Subnet, in.Gateway, in.IPRange = "", "", ""
		in.Subnets, in.Gateways, in.IPRanges = nil, nil, nil
		for _, set := range c.RuntimeConfig.IPRanges {
			if len(set) != 1 {
				return in, badConfig("ipRanges: a set of %d ranges: a network has one range of each family", len(set))
			}
			if err := set[0].addTo(&in); err != nil {
				return in, err
			}
		}
	}
	if given != nil {
		in.Subnet, in.Gateway, in.IPRange, in.IPRanges = "", "", "", nil
		in.Subnets, in.Gateways = nil, nil
		for _, ip := range given.IPs {
			a, _ := netip.AddrFromSlice(ip.Address.IP)
			bits, _ := ip.Address.Mask.Size()
			if a = a.Unmap(); bits == a.BitLen() {
				continue // a host's address says nothing of the subnet
			}
			in.Subnets = append(in.Subnets, netip.PrefixFrom(a, bits).Masked().String())
			if ip.Gateway != nil {
				in.Gateways = append(in.Gateways, ip.Gateway.String())
			}
		}
		if len(in.Subnets) > 0 {
			in.IPv4, in.IPv6 = nil, nil
		}
	}
	return in, nil
}

// addTo adds a range to a network. From where to where addresses are chosen must
// be a CIDR block.
func (r ipRange) addTo(in *api.NetworkCreate) error {
	p, err := netip.ParsePrefix(r.Subnet)
	if err != nil {
		return badConfig("ipRanges: subnet %q is malformed: write it like 10.1.0.0/24", r.Subnet)
	}
	in.Subnets = append(in.Subnets, p.Masked().String())
	if r.Gateway != "" {
		in.Gateways = append(in.Gateways, r.Gateway)
	}
	if r.RangeStart == "" && r.RangeEnd == "" {
		return nil
	}
	first, last := p.Masked().Addr(), lastOf(p.Masked())
	for _, end := range []struct {
		text string
		addr *netip.Addr
	}{{r.RangeStart, &first}, {r.RangeEnd, &last}} {
		if end.text == "" {
			continue
		}
		if *end.addr, err = netip.ParseAddr(end.text); err != nil || !p.Contains(*end.addr) {
			return badConfig("ipRanges: address %q is not in subnet %s", end.text, p)
		}
	}
	for bits := p.Bits(); bits <= first.BitLen(); bits++ {
		if b := netip.PrefixFrom(first, bits).Masked(); slices.Contains(edges(b), first) && slices.Contains(edges(b), last) && first != last || first == last && bits == first.BitLen() {
			in.IPRanges = append(in.IPRanges, b.String())
			return nil
		}
	}
	return badConfig("ipRanges: %s to %s is no CIDR block: give one such as 10.1.0.128/25", first, last)
}

// edges are the addresses by which people name the ends of a block: with or
// without those that are no host's.
func edges(p netip.Prefix) []netip.Addr {
	first, last := p.Addr(), lastOf(p)
	return []netip.Addr{first, first.Next(), last, last.Prev()}
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}
