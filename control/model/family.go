package model

import (
	"fmt"
	"net/netip"
)

// Family is an address family; it indexes what there is one of for each.
type Family int

const (
	IPv4 Family = iota
	IPv6
)

// Families are both, in the order in which they are listed.
var Families = [2]Family{IPv4, IPv6}

// FamilyOf is the family of a valid address. One that is IPv4 in IPv6 is IPv6.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String is the name for people.
func (f Family) String() string { return [...]string{"IPv4", "IPv6"}[f] }

// Unspecified is 0.0.0.0 or ::.
func (f Family) Unspecified() netip.Addr {
	return [...]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}[f]
}

// Loopback is 127.0.0.1 or ::1.
func (f Family) Loopback() netip.Addr {
	return [...]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}[f]
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
		f := FamilyOf(addr(v))
		if had[f] != "" {
			return out, fmt.Errorf("two values of %s are %s, %s and %s: give one of each family", what, f, had[f], s)
		}
		out[f], had[f] = v, s
	}
	return out, nil
}

func addrItself(a netip.Addr) netip.Addr { return a }

// ByFamilyOf sorts a list with at most one address of each family.
func ByFamilyOf(list []netip.Addr) (ips [2]netip.Addr) {
	for _, a := range list {
		ips[FamilyOf(a)] = a
	}
	return ips
}
