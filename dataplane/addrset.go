package dataplane

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane/header"
)

// addrSet is a set of addresses, as the bounds between those that are in it and those that
// are not: below the first is none, and what is at a bound or above it is on its other side.
// A host has few, next to each other in memory, where a table of routes is a walk through nodes.
type addrSet struct {
	v4 []uint32
	v6 []halves
}

// halves are the two parts of an IPv6 address.
type halves struct{ high, low uint64 }

func halvesOf(a *header.Addr) halves {
	return halves{binary.BigEndian.Uint64(a[:8]), binary.BigEndian.Uint64(a[8:])}
}

// has reports whether an address is in the set.
func (s *addrSet) has(a *header.Addr) bool {
	below := 0 // bounds that are not above a
	if a.Is4() {
		x := binary.BigEndian.Uint32(a[12:])
		for n := len(s.v4); n > 0; {
			half := (n + 1) / 2
			if s.v4[below+half-1] <= x {
				below += half
			}
			n -= half
		}
		return below&1 == 1
	}
	x := halvesOf(a)
	for n := len(s.v6); n > 0; {
		half := (n + 1) / 2
		if b := &s.v6[below+half-1]; b.high < x.high || b.high == x.high && b.low <= x.low {
			below += half
		}
		n -= half
	}
	return below&1 == 1
}

// newAddrSet makes the set of the addresses that in is true of. in must say the same of all
// addresses between two neighbouring bounds of the prefixes.
func newAddrSet(prefixes []netip.Prefix, in func(netip.Addr) bool) (s addrSet) {
	var bounds []netip.Addr
	for _, p := range prefixes {
		bounds = append(bounds, p.Masked().Addr())
		if next := lastOf(p).Next(); next.IsValid() {
			bounds = append(bounds, next)
		}
	}
	slices.SortFunc(bounds, netip.Addr.Compare)
	for _, b := range bounds {
		switch a := header.AddrFrom(b); {
		case b.Is4() && in(b) != (len(s.v4)&1 == 1):
			s.v4 = append(s.v4, binary.BigEndian.Uint32(a[12:]))
		case b.Is6() && in(b) != (len(s.v6)&1 == 1):
			s.v6 = append(s.v6, halvesOf(&a))
		}
	}
	return s
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// oursOf are the addresses of the host and of networks' subnets. A route that is not ours may
// lie inside of one that is.
func (s *Snapshot) oursOf(cfg *SnapshotConfig) addrSet {
	var list []netip.Prefix
	add := func(p netip.Prefix) {
		for p := range s.fib.Subnets(p) {
			list = append(list, p)
		}
	}
	for _, r := range cfg.Routes {
		if r.Kind == RouteLocal {
			add(r.Prefix)
		}
	}
	for _, n := range s.networks {
		for _, p := range n.Subnets {
			add(p)
		}
		for _, g := range n.Gateways {
			add(netip.PrefixFrom(g, g.BitLen()))
		}
	}
	return newAddrSet(list, func(a netip.Addr) bool {
		r, _ := s.fib.Lookup(a)
		return r.ours()
	})
}
