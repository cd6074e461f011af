package control

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

// family is an address family; it indexes what there is one of for each.
type family int

const (
	ipv4 family = iota
	ipv6
)

var families = [2]family{ipv4, ipv6}

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

func (f family) String() string { return [...]string{"IPv4", "IPv6"}[f] }

// unspecified and loopback are the family's addresses of these names.
func (f family) unspecified() netip.Addr {
	return [...]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[f]
}

func (f family) loopback() netip.Addr {
	return [...]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}[f]
}

// checkNetwork turns a request into a record, with what is left to choose
// invalid or zero.
func checkNetwork(in api.NetworkCreate) (rec state.Network, err error) {
	rec = state.Network{
		ID: newID(), Name: in.Name, MTU: in.MTU, Internal: in.Internal, NoICC: in.ICC != nil && !*in.ICC,
		NoHostAccess: in.HostAccess != nil && !*in.HostAccess, Labels: in.Labels, Ephemeral: in.Ephemeral,
		Created: time.Now().UTC().Truncate(time.Millisecond),
	}
	if err := checkName("network", in.Name); err != nil {
		return rec, err
	}
	switch in.Name {
	case api.ModeHost, api.ModeNone, api.ModeContainer:
		return rec, invalidf("network name %s is a mode of --network: choose another name", in.Name)
	}
	if err := checkLabels("network "+in.Name, in.Labels); err != nil {
		return rec, err
	}
	if rec.TAP = in.Interface; rec.TAP != "" {
		if err := checkIfname(rec.TAP); err != nil {
			return rec, err
		}
	}
	if rec.Subnets, err = checkSubnets(in); err == nil {
		err = checkMTU(rec)
	}
	if err == nil {
		rec.Filter, err = checkFilter(in.Filter)
	}
	if err == nil {
		rec.Exempt, err = checkExempt(in.Exempt)
	}
	if err != nil {
		return rec, &refusal{api.ErrInvalid, fmt.Errorf("network %s: %w", in.Name, err)}
	}
	return rec, nil
}

// minMTU6 is what a link that carries IPv6 must take (RFC 8200 section 5).
const minMTU6 = 1280

func checkMTU(rec state.Network) error {
	switch mtu := rec.MTU; {
	case mtu == 0:
	case mtu < minMTU || mtu > maxMTU:
		return fmt.Errorf("MTU %d is out of range: use %d to %d", mtu, minMTU, maxMTU)
	case hasFamily(rec, ipv6) && mtu < minMTU6:
		return fmt.Errorf("MTU %d is too small for IPv6: use %d or more (RFC 8200)", mtu, minMTU6)
	}
	return nil
}

// checkSubnets sorts what a request says of subnets, gateways, ranges and
// reserved addresses by family.
func checkSubnets(in api.NetworkCreate) ([]state.Subnet, error) {
	given, err := byFamily("subnet", slices.Concat(listOf(in.Subnet), in.Subnets), parsePrefix, netip.Prefix.Addr)
	if err != nil {
		return nil, err
	}
	gateways, err := byFamily("gateway", slices.Concat(listOf(in.Gateway), in.Gateways), parseAddr, addrItself)
	if err != nil {
		return nil, err
	}
	ranges, err := byFamily("ip-range", slices.Concat(listOf(in.IPRange), in.IPRanges), parsePrefix, netip.Prefix.Addr)
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
	for _, f := range families {
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
		} else if err := checkSubnet(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	for f, mode := range [2]string{in.ModeIPv4, in.ModeIPv6} {
		if mode != "" && !wanted[f] {
			return nil, fmt.Errorf("mode %s for %s, which the network does not have: leave it out", mode, family(f))
		}
	}
	return list, nil
}

// toChoose is an invalid prefix that tells the family nevertheless.
func toChoose(f family) netip.Prefix { return netip.PrefixFrom(f.unspecified(), -1) }

func hasFamily(rec state.Network, f family) bool { return subnetOf(rec, f) != nil }

// subnetOf returns what a network has of a family, nil when it does not.
func subnetOf(rec state.Network, f family) *state.Subnet {
	for i := range rec.Subnets {
		if familyOf(rec.Subnets[i].Prefix.Addr()) == f {
			return &rec.Subnets[i]
		}
	}
	return nil
}

func subnetTexts(rec state.Network) (list []string) {
	for _, s := range rec.Subnets {
		list = append(list, s.Prefix.String())
	}
	return list
}

// gatewayPrefixes are the addresses of a network's TAP: none of an isolated
// family, to which the host does not belong.
func gatewayPrefixes(rec state.Network) (list []netip.Prefix) {
	for _, s := range rec.Subnets {
		if s.Mode != api.GatewayIsolated {
			list = append(list, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
		}
	}
	return list
}

func listOf(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// byFamily parses a list with at most one entry of each family.
func byFamily[T any](what string, list []string, parse func(what, s string) (T, error), addr func(T) netip.Addr) (out [2]T, err error) {
	var had [2]string
	for _, s := range list {
		v, err := parse(what, s)
		if err != nil {
			return out, err
		}
		f := familyOf(addr(v))
		if had[f] != "" {
			return out, fmt.Errorf("two values of %s are %s, %s and %s: give one of each family", what, f, had[f], s)
		}
		out[f], had[f] = v, s
	}
	return out, nil
}

func addrItself(a netip.Addr) netip.Addr { return a }

func parseReserved(in map[string]string) (out [2]map[string]netip.Addr, err error) {
	for name, s := range in {
		a, err := parseAddr("reserved address", s)
		if err != nil {
			return out, err
		}
		f := familyOf(a)
		if out[f] == nil {
			out[f] = make(map[string]netip.Addr)
		}
		out[f][name] = a
	}
	return out, nil
}

// wantedFamilies follows Docker, where IPv4 is on unless it is switched off, but
// for a network that names an IPv6 subnet and nothing else.
func wantedFamilies(in api.NetworkCreate, given [2]netip.Prefix) (wanted [2]bool, err error) {
	asked := [2]*bool{in.IPv4, in.IPv6}
	wanted = [2]bool{
		given[ipv4].IsValid() || !given[ipv6].IsValid() || in.IPv6 != nil && *in.IPv6,
		given[ipv6].IsValid(),
	}
	for f, on := range asked {
		if on == nil {
			continue
		}
		if wanted[f] = *on; !*on && given[f].IsValid() {
			return wanted, fmt.Errorf("subnet %s is %s, which is switched off: leave one of the two out", given[f], family(f))
		}
	}
	if !wanted[ipv4] && !wanted[ipv6] {
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

// checkSubnet looks whether the addresses of a subnet that was named fit together,
// and chooses its gateway.
func checkSubnet(s *state.Subnet) error {
	for _, u := range unusable {
		if u.p.Overlaps(s.Prefix) {
			return fmt.Errorf("subnet %s overlaps %s, which %s: choose another with --subnet", s.Prefix, u.p, u.why)
		}
	}
	if free := s.Prefix.Addr().BitLen() - s.Prefix.Bits(); free < 1 {
		return fmt.Errorf("subnet %s has no room for a container beside the gateway: choose a larger one", s.Prefix)
	}
	if !s.Gateway.IsValid() {
		s.Gateway = firstHost(s.Prefix)
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

// poolBits are the lengths of the subnets taken from the pools.
var poolBits = [2]int{24, 64}

// uniqueLocal is the default space of networks that name no IPv6 subnet: a /48
// whose 40 random bits come from the identity of the state directory, so that
// two hosts can be joined one day and a restart changes nothing (RFC 4193
// section 3.2).
func uniqueLocal(identity string) netip.Prefix {
	sum := sha256.Sum256([]byte(identity))
	a := [16]byte{0: 0xfd}
	copy(a[1:6], sum[:])
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// reserveSubnets enters a network in the table with subnets that neither a
// network nor a route of the host overlaps.
func (c *Controller) reserveSubnets(n *network) error {
	name, asked := n.rec.Name, n.rec.Subnets
	tried := make(map[netip.Prefix]bool)
	for {
		if err := c.enterNetwork(n, asked, tried); err != nil {
			return err
		}
		again := false
		for i, s := range n.rec.Subnets {
			route, bad := c.host.Overlaps(s.Prefix)
			switch {
			case !bad:
			case asked[i].Prefix.IsValid():
				c.forgetNetwork(n)
				return conflictf("network %s: subnet %s overlaps route %s: choose another with --subnet", name, s.Prefix, route)
			default:
				tried[s.Prefix], again = true, true
			}
		}
		if !again {
			return nil
		}
		c.forgetNetwork(n)
	}
}

// enterNetwork chooses the subnets that are invalid in asked, none of those
// tried, and enters the network.
func (c *Controller) enterNetwork(n *network, asked []state.Subnet, tried map[netip.Prefix]bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := n.rec.Name
	if c.networks[name] != nil {
		return conflictf("network %s exists already: choose another name, or remove it with vswitch network rm %s", name, name)
	}
	n.rec.Subnets = slices.Clone(asked)
	for i := range n.rec.Subnets {
		s := &n.rec.Subnets[i]
		if s.Prefix.IsValid() {
			if o, p := c.overlapLocked(s.Prefix); o != nil {
				return conflictf("network %s: subnet %s overlaps network %s (%s): choose another with --subnet",
					name, s.Prefix, o.rec.Name, p)
			}
			continue
		}
		f := familyOf(s.Prefix.Addr())
		pool := c.pools[f]
		p, ok := nextSubnet(pool, max(poolBits[f], pool.Bits()), func(p netip.Prefix) bool {
			o, _ := c.overlapLocked(p)
			return !tried[p] && o == nil
		})
		if !ok {
			return fullf("network %s: no subnet in %s is free of networks and routes of the host: choose one with --subnet", name, pool)
		}
		s.Prefix, s.Gateway = p, firstHost(p)
	}
	if n.id == 0 {
		if c.lastNetwork+1 == 0 {
			return fullf("network %s: 65535 networks were made since the daemon started: restart it", name)
		}
		c.lastNetwork++
		n.id = c.lastNetwork
	}
	n.fill()
	c.networks[name] = n
	return nil
}

// overlapLocked returns a network whose subnet overlaps p.
func (c *Controller) overlapLocked(p netip.Prefix) (*network, netip.Prefix) {
	for _, o := range c.networks {
		for _, s := range o.rec.Subnets {
			if s.Prefix.Overlaps(p) {
				return o, s.Prefix
			}
		}
	}
	return nil, netip.Prefix{}
}
