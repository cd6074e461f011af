package model

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

// checkSubnets sorts what a request says of subnets, gateways, ranges and
// reserved addresses by family.
func checkSubnets(in api.NetworkCreate) ([]state.Subnet, error) {
	given, err := byFamily("subnet", slices.Concat(listOf(in.Subnet), in.Subnets), ParsePrefix, netip.Prefix.Addr)
	if err != nil {
		return nil, err
	}
	gateways, err := byFamily("gateway", slices.Concat(listOf(in.Gateway), in.Gateways), ParseAddr, addrItself)
	if err != nil {
		return nil, err
	}
	ranges, err := byFamily("ip-range", slices.Concat(listOf(in.IPRange), in.IPRanges), ParsePrefix, netip.Prefix.Addr)
	if err != nil {
		return nil, err
	}
	reserved, err := parseReserved(in.Reserved)
	if err != nil {
		return nil, err
	}
	wanted, err := wantedFamilies(in, given)
	if err != nil {
		return nil, err
	}
	var list []state.Subnet
	for _, f := range Families {
		s := state.Subnet{Prefix: given[f], Gateway: gateways[f], IPRange: ranges[f], Reserved: reserved[f]}
		switch {
		case !given[f].IsValid() && (s.Gateway.IsValid() || s.IPRange.IsValid() || len(s.Reserved) > 0):
			return nil, fmt.Errorf("gateway, ip-range and reserved addresses need a subnet: give an %s one with --subnet", f)
		case !wanted[f]:
			continue
		}
		mode := [2]string{in.ModeIPv4, in.ModeIPv6}[f]
		if mode == "" {
			mode = in.Mode
		}
		if s.Mode, err = checkMode(mode); err != nil {
			return nil, err
		}
		if !s.Prefix.IsValid() {
			s.Prefix = toChoose(f)
		} else if err := CheckSubnet(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	for f, mode := range [2]string{in.ModeIPv4, in.ModeIPv6} {
		if mode != "" && !wanted[f] {
			return nil, fmt.Errorf("mode %s for %s, which the network does not have: leave it out", mode, Family(f))
		}
	}
	return list, nil
}

// toChoose is an invalid prefix that tells the family nevertheless.
func toChoose(f Family) netip.Prefix { return netip.PrefixFrom(f.Unspecified(), -1) }

func parseReserved(in map[string]string) (out [2]map[string]netip.Addr, err error) {
	for name, s := range in {
		a, err := ParseAddr("reserved address", s)
		if err != nil {
			return out, err
		}
		f := FamilyOf(a)
		if out[f] == nil {
			out[f] = make(map[string]netip.Addr)
		}
		out[f][name] = a
	}
	return out, nil
}

// wantedFamilies follows Docker, where IPv4 is on unless it is switched off, except
// for a network that names an IPv6 subnet and nothing else.
func wantedFamilies(in api.NetworkCreate, given [2]netip.Prefix) (wanted [2]bool, err error) {
	asked := [2]*bool{in.IPv4, in.IPv6}
	wanted = [2]bool{
		given[IPv4].IsValid() || !given[IPv6].IsValid() || in.IPv6 != nil && *in.IPv6,
		given[IPv6].IsValid(),
	}
	for f, on := range asked {
		if on == nil {
			continue
		}
		if wanted[f] = *on; !*on && given[f].IsValid() {
			return wanted, fmt.Errorf("subnet %s is %s, which is switched off: leave one of the two out", given[f], Family(f))
		}
	}
	if !wanted[IPv4] && !wanted[IPv6] {
		return wanted, errors.New("IPv4 and IPv6 are both off: leave one on")
	}
	return wanted, nil
}

func checkMode(mode string) (string, error) {
	switch mode {
	case "", api.GatewayNAT:
		return "", nil
	case api.GatewayRouted, api.GatewayIsolated:
		return mode, nil
	}
	return "", fmt.Errorf("mode %q: use nat, routed or isolated", mode)
}

// unusable are the spaces in which no network can live.
var unusable = []struct {
	p   netip.Prefix
	why string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "means this host (RFC 1122)"},
	{netip.MustParsePrefix("127.0.0.0/8"), "is loopback"},
	{netip.MustParsePrefix("224.0.0.0/4"), "is multicast"},
	{netip.MustParsePrefix("240.0.0.0/4"), "is reserved (RFC 1112)"},
	{netip.MustParsePrefix("169.254.0.0/16"), "is link-local (RFC 3927)"},
	{netip.MustParsePrefix("::/8"), "is reserved (RFC 4291)"},
	{netip.MustParsePrefix("fe80::/10"), "is link-local (RFC 4291)"},
	{netip.MustParsePrefix("ff00::/8"), "is multicast"},
}

// CheckSubnet looks whether the addresses of a subnet that was named fit together,
// and chooses its gateway.
func CheckSubnet(s *state.Subnet) error {
	for _, u := range unusable {
		if u.p.Overlaps(s.Prefix) {
			return fmt.Errorf("subnet %s overlaps %s, which %s: choose another with --subnet", s.Prefix, u.p, u.why)
		}
	}
	if free := s.Prefix.Addr().BitLen() - s.Prefix.Bits(); free < 1 {
		return fmt.Errorf("subnet %s has no room for a container beside the gateway: choose a larger one", s.Prefix)
	}
	if !s.Gateway.IsValid() {
		s.Gateway = FirstHost(s.Prefix)
	}
	if r := s.IPRange; r.IsValid() && (r.Bits() < s.Prefix.Bits() || !s.Prefix.Contains(r.Addr())) {
		return fmt.Errorf("ip-range %s is outside subnet %s: choose one inside", r, s.Prefix)
	}
	if !s.Prefix.Contains(s.Gateway) {
		return fmt.Errorf("gateway %s is outside subnet %s: choose one inside", s.Gateway, s.Prefix)
	}
	// The pool without a gateway knows which addresses a host can have.
	p := newAddressPool("", s.Prefix, netip.Prefix{}, netip.Addr{}, nil)
	if why := p.why(s.Gateway); why != "" {
		return fmt.Errorf("gateway %s %s: choose another", s.Gateway, why)
	}
	for name, a := range s.Reserved {
		if !s.Prefix.Contains(a) {
			return fmt.Errorf("reserved address %s (%s) is outside subnet %s: choose one inside", a, name, s.Prefix)
		}
	}
	return nil
}

// DefaultPool is the space of networks that name no IPv4 subnet.
var DefaultPool = netip.MustParsePrefix("10.88.0.0/13")

// PoolBits are the lengths of the subnets taken from the pools.
var PoolBits = [2]int{24, 64}

// UniqueLocal is the default space of networks that name no IPv6 subnet: a /48
// whose 40 random bits come from the identity of the state directory, so that
// two hosts can be joined one day and a restart changes nothing (RFC 4193
// section 3.2).
func UniqueLocal(identity string) netip.Prefix {
	sum := sha256.Sum256([]byte(identity))
	a := [16]byte{0: 0xfd}
	copy(a[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// FirstHost is the address a network's gateway has unless told.
func FirstHost(subnet netip.Prefix) netip.Addr {
	if subnet.Bits() >= subnet.Addr().BitLen()-1 {
		return subnet.Addr()
	}
	return subnet.Addr().Next()
}

// LastAddr is the highest address of a prefix.
func LastAddr(p netip.Prefix) netip.Addr {
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

// NextSubnet is the first subnet of bits length in space for which free says
// yes.
func NextSubnet(space netip.Prefix, bits int, free func(netip.Prefix) bool) (netip.Prefix, bool) {
	for a := space.Masked().Addr(); a.IsValid() && space.Contains(a); {
		p := netip.PrefixFrom(a, bits)
		if free(p) {
			return p, true
		}
		a = LastAddr(p).Next()
	}
	return netip.Prefix{}, false
}
