package flowmap

import (
	"net/netip"

	"github.com/vswitch/vswitch/dataplane/header"
)

// MaxSubnets is the number of subnets that can be claimed at a time: two for each network
// that has a port.
const MaxSubnets = 8192

// Subnet is what the subnet of a network is to the programs.
type Subnet uint8

const (
	SubnetOurs   Subnet = iota + 1 // nobody beyond an uplink speaks from it
	SubnetRouted                   // and every packet to it is ours
)

// SubnetKey is struct bpf_lpm_trie_key: IPv4 as ::ffff:a.b.c.d, as everywhere.
type SubnetKey struct {
	Bits uint32 // of Addr
	Addr header.Addr
}

// SubnetKeyOf is the key of a subnet.
func SubnetKeyOf(p netip.Prefix) SubnetKey {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return SubnetKey{uint32(bits), header.AddrFrom(p.Masked().Addr())}
}
