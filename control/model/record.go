package model

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

// CheckNetwork turns a request into a record, with what is left to choose
// invalid or zero.
func CheckNetwork(in api.NetworkCreate) (rec state.Network, err error) {
	rec = state.Network{
		ID: NewID(), Name: in.Name, MTU: in.MTU, Internal: in.Internal, NoICC: in.ICC != nil && !*in.ICC,
		NoHostAccess: in.HostAccess != nil && !*in.HostAccess, NoDNS: in.DisableDNS, Labels: in.Labels, Ephemeral: in.Ephemeral,
		Created: time.Now().UTC().Truncate(time.Millisecond),
	}
	if err := CheckName("network", in.Name); err != nil {
		return rec, err
	}
	switch in.Name {
	case api.ModeHost, api.ModeNone, api.ModeContainer:
		return rec, Invalidf("network name %s is a mode of --network: choose another name", in.Name)
	}
	if err := CheckLabels("network "+in.Name, in.Labels); err != nil {
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
		rec.DNSServers, err = CheckServers(in.DNSServers)
	}
	if err == nil {
		rec.Filter, err = checkFilter(in.Filter)
	}
	if err == nil {
		rec.Exempt, err = checkExempt(in.Exempt)
	}
	if err != nil {
		return rec, Invalidf("network %s: %w", in.Name, err)
	}
	return rec, nil
}

// MinMTU6 is what a link that carries IPv6 must take (RFC 8200 section 5).
const MinMTU6 = 1280

func checkMTU(rec state.Network) error {
	switch mtu := rec.MTU; {
	case mtu == 0:
	case mtu < minMTU || mtu > maxMTU:
		return fmt.Errorf("MTU %d is out of range: use %d to %d", mtu, minMTU, maxMTU)
	case HasFamily(rec, IPv6) && mtu < MinMTU6:
		return fmt.Errorf("MTU %d is too small for IPv6: use %d or more (RFC 8200)", mtu, MinMTU6)
	}
	return nil
}

// HasFamily reports whether a network has a subnet of a family.
func HasFamily(rec state.Network, f Family) bool { return SubnetOf(rec, f) != nil }

// SubnetOf returns what a network has of a family, nil when it does not.
func SubnetOf(rec state.Network, f Family) *state.Subnet {
	for i := range rec.Subnets {
		if FamilyOf(rec.Subnets[i].Prefix.Addr()) == f {
			return &rec.Subnets[i]
		}
	}
	return nil
}

// SubnetTexts are the subnets of a network for people.
func SubnetTexts(rec state.Network) (list []string) {
	for _, s := range rec.Subnets {
		list = append(list, s.Prefix.String())
	}
	return list
}

// GatewayPrefixes are the addresses of a network's TAP: none of an isolated
// family, to which the host does not belong.
func GatewayPrefixes(rec state.Network) (list []netip.Prefix) {
	for _, s := range rec.Subnets {
		if s.Mode != api.GatewayIsolated {
			list = append(list, netip.PrefixFrom(s.Gateway, s.Prefix.Bits()))
		}
	}
	return list
}

// Update is a record as a request wants it; it shares no map with the old one.
func Update(rec state.Network, in api.NetworkUpdate) (state.Network, error) {
	if in.ICC != nil {
		rec.NoICC = !*in.ICC
	}
	if in.HostAccess != nil {
		rec.NoHostAccess = !*in.HostAccess
	}
	if in.DisableDNS != nil {
		rec.NoDNS = *in.DisableDNS
	}
	var err error
	if rec.DNSServers, err = updateServers(rec.DNSServers, in.DNSAdd, in.DNSDrop); err != nil {
		return rec, err
	}
	if in.Filter != nil {
		if rec.Filter, err = checkFilter(*in.Filter); err != nil {
			return rec, err
		}
	}
	if in.Exempt != nil {
		if rec.Exempt, err = checkExempt(*in.Exempt); err != nil {
			return rec, err
		}
	}
	rec.Labels = MergeLabels(rec.Labels, in.Labels)
	return rec, CheckLabels("network "+rec.Name, in.Labels)
}

// checkFilter returns the word for the record, nothing for the default.
func checkFilter(word string) (string, error) {
	switch word {
	case "", api.FilterAPDF:
		return "", nil
	case api.FilterEIF:
		return word, nil
	}
	return "", fmt.Errorf("filter %q: use apdf (only who was written to comes in) or eif (everybody does)", word)
}

func checkExempt(list []string) (out []netip.Prefix, err error) {
	for _, s := range list {
		p, err := ParsePrefix("exempt destination", s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// FilterWord is the word for the interface.
func FilterWord(rec state.Network) string {
	if rec.Filter == "" {
		return api.FilterAPDF
	}
	return rec.Filter
}
