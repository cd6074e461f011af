package model

import (
	"net/netip"
	"strings"
)

// Egress is the way by which flows that a container begins leave, in place of the host's: by an
// interface, by a next hop, from an address, or several of these at once. A family for which a next
// hop or an address is wanted and none is named has no way.
type Egress struct {
	Dev         string
	Via, Source [2]netip.Addr // by families
}

// ParseEgress reads dev=IF,via=ADDR,source=ADDR, each optional, the addresses once for each family.
// Empty is the host's way.
func ParseEgress(s string) (e Egress, err error) {
	if s == "" {
		return e, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		key, value, _ := strings.Cut(part, "=")
		switch key {
		case "dev":
			if e.Dev != "" {
				return e, Invalidf("egress %q: two interfaces: name one", s)
			}
			if err := checkIfname(value); err != nil {
				return e, Invalidf("egress %q: %w", s, err)
			}
			e.Dev = value
		case "via":
			err = e.add(&e.Via, s, value)
		case "source":
			err = e.add(&e.Source, s, value)
		default:
			return e, Invalidf("egress %q: write dev=INTERFACE, via=ADDRESS, source=ADDRESS, or several of them with commas", s)
		}
		if err != nil {
			return e, err
		}
	}
	if a := e.Via[IPv6]; a.IsLinkLocalUnicast() && e.Dev == "" {
		return e, Invalidf("egress %q: %s is on every link: name its interface, dev=INTERFACE,via=%[2]s", s, a)
	}
	return e, nil
}

// add reads an address of s into the place of its family.
func (e *Egress) add(to *[2]netip.Addr, s, value string) error {
	a, err := netip.ParseAddr(value)
	a = a.Unmap()
	if err != nil || a.Zone() != "" || !a.IsGlobalUnicast() && (to == &e.Source || !a.IsLinkLocalUnicast()) {
		return Invalidf("egress %q: %q is no address of a station", s, value)
	}
	f := FamilyOf(a)
	if to[f].IsValid() {
		return Invalidf("egress %q: two addresses of one family: name one", s)
	}
	to[f] = a
	return nil
}

// String is what ParseEgress reads, always in one order.
func (e Egress) String() string {
	var words []string
	if e.Dev != "" {
		words = append(words, "dev="+e.Dev)
	}
	for key, list := range [2][2]netip.Addr{e.Via, e.Source} {
		for _, a := range list {
			if a.IsValid() {
				words = append(words, [2]string{"via=", "source="}[key]+a.String())
			}
		}
	}
	return strings.Join(words, ",")
}
