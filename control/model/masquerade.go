package model

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// PortsBeside are the ports beside the host's own range: first above it, then below
// down to the dynamic-looking ones, then the registered ports (RFC 6335). Of the
// privileged ones, which only a privileged port of a container gets, they have those
// that Linux has for that: no well-known service is among them.
func PortsBeside(low, high uint16) []conntrack.PortRange {
	var list []conntrack.PortRange
	add := func(first, last int) {
		if first <= last {
			list = append(list, conntrack.PortRange{First: uint16(first), Last: uint16(last)})
		}
	}
	add(max(int(high)+1, 1024), 65535)
	add(16384, int(low)-1)
	add(1024, min(int(low)-1, 16383))
	add(600, min(int(low)-1, 1023))
	return list
}

// CompileMasqueradePorts reads ranges such as 20000-29999, or single ports. They may
// overlap in no port, so that each counts once.
func CompileMasqueradePorts(in []string) ([]conntrack.PortRange, error) {
	var list []conntrack.PortRange
	for _, text := range in {
		from, to, isRange := strings.Cut(text, "-")
		if !isRange {
			to = from
		}
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := strconv.ParseUint(to, 10, 16)
		if err1 != nil || err2 != nil || first == 0 || first > last {
			return nil, fmt.Errorf("masquerade ports %q: use ranges such as 20000-29999", text)
		}
		r := conntrack.PortRange{First: uint16(first), Last: uint16(last)}
		if slices.ContainsFunc(list, func(o conntrack.PortRange) bool { return r.First <= o.Last && o.First <= r.Last }) {
			return nil, fmt.Errorf("masquerade ports %q: they are in another range already: name each port once", text)
		}
		list = append(list, r)
	}
	return list, nil
}

// PortKey makes masquerade choose the same ports after a restart as before. It
// comes from the identity of the state directory, which no container sees.
func PortKey(identity string) (key [16]byte) {
	sum := sha256.Sum256([]byte("masquerade ports " + identity))
	copy(key[:], sum[:])
	return key
}
