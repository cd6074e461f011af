package model

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"

	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	maxName   = 63
	MaxIfname = 15 // IFNAMSIZ less the final NUL
	minMTU    = 68 // RFC 791; RFC 8200 asks for 1280 where IPv6 is spoken
	maxMTU    = 65535
	maxLabels = 64 << 10 // bytes, keys and values of one object
)

// CheckName accepts what is safe as a file name, a log word and a DNS label
// with dots and underscores: [a-zA-Z0-9][a-zA-Z0-9_.-]*, as Docker does.
func CheckName(what, name string) error {
	if name == "" {
		return Invalidf("%s name is empty: give one", what)
	}
	if len(name) > maxName {
		return Invalidf("%s name %.20q... is %d bytes long: use at most %d", what, name, len(name), maxName)
	}
	for i, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '-' || c == '_' || c == '.'):
		default:
			return Invalidf("%s name %q: use letters, digits and, after the first, any of _ . -", what, name)
		}
	}
	return nil
}

// checkIfname follows the kernel's dev_valid_name.
func checkIfname(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return Invalidf("interface name %q is not allowed: use a name like eth0", name)
	case len(name) > MaxIfname:
		return Invalidf("interface name %q is %d bytes long: the kernel allows %d", name, len(name), MaxIfname)
	case name == "lo":
		return Invalidf("interface name lo is taken by the loopback device: use a name like eth0")
	case name == "all" || name == "default":
		return Invalidf("interface name %q would collide with the sysctl tree: use a name like eth0", name)
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || c == '/' || c == ':' || c == '%' {
			return Invalidf("interface name %q: use printable ASCII without blanks, / : and %%", name)
		}
	}
	return nil
}

// CheckLabels bounds the labels of an object, which what names in the error.
func CheckLabels(what string, labels map[string]string) error {
	n := 0
	for k, v := range labels {
		if k == "" {
			return Invalidf("%s: a label without a key: write KEY=VALUE", what)
		}
		n += len(k) + len(v)
	}
	if n > maxLabels {
		return Invalidf("%s: labels of %d bytes: at most %d are kept", what, n, maxLabels)
	}
	return nil
}

// parseMAC accepts a unicast address that is not all zero.
func parseMAC(s string) (header.MAC, error) {
	m, err := header.ParseMAC(s)
	if err != nil {
		return m, Invalidf("MAC address %q is malformed: write it like 02:00:00:00:00:01", s)
	}
	if m.IsZero() || m.IsMulticast() {
		return m, Invalidf("MAC address %s is not that of one station: clear the lowest bit of the first byte", s)
	}
	return m, nil
}

// DeriveMAC makes a locally administered unicast address for an address of a
// network: whoever gets the address later gets its MAC too, so that what its
// neighbours remember stays true. try counts collisions with given MACs.
func DeriveMAC(network string, a netip.Addr, try int) header.MAC {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s|%s|%d", network, a, try))
	var m header.MAC
	copy(m[:], sum[:])
	m[0] = m[0]&^0x03 | 0x02
	return m
}

// GatewayMAC is a function of the address, so that a container's neighbour
// entry stays true when a network is removed and made again.
func GatewayMAC(a netip.Addr) header.MAC {
	if a.Is4() {
		b := a.As4()
		return header.MAC{0x02, 0x76, b[0], b[1], b[2], b[3]}
	}
	sum := sha256.Sum256(a.AsSlice())
	return header.MAC{0x02, 0x77, sum[0], sum[1], sum[2], sum[3]}
}

// NewID returns 128 random bits in hex.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// ParsePrefix reads a CIDR whose host bits are zero or not; they are cleared.
func ParsePrefix(what, s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if _, aerr := netip.ParseAddr(s); aerr == nil {
			return p, Invalidf("%s %q has no prefix length: write it like 10.1.0.0/24", what, s)
		}
		return p, Invalidf("%s %q is malformed: write it like 10.1.0.0/24", what, s)
	}
	if p.Addr().Is4In6() {
		return p, Invalidf("%s %q mixes the families: write the IPv4 form", what, s)
	}
	return p.Masked(), nil
}

// ParseAddr reads an address without a zone; IPv4 in IPv6 becomes IPv4.
func ParseAddr(what, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, Invalidf("%s %q is not an IP address: write one like 10.1.0.5", what, s)
	}
	return a.Unmap(), nil
}

// MergeLabels is what labels are with some set anew; an empty value takes a label
// away. It shares no map with the old ones.
func MergeLabels(old, set map[string]string) map[string]string {
	labels := maps.Clone(old)
	if labels == nil && len(set) > 0 {
		labels = make(map[string]string, len(set))
	}
	for k, v := range set {
		if labels[k] = v; v == "" {
			delete(labels, k)
		}
	}
	return labels
}
