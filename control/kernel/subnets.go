package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
)

// maxSubnets is the number of subnets that can be claimed at a time.
const maxSubnets = 4096

// subnetKey is struct bpf_lpm_trie_key: IPv4 as ::ffff:a.b.c.d, as everywhere.
type subnetKey struct {
	Bits uint32 // of Addr
	Addr header.Addr
}

func keyOf(p netip.Prefix) subnetKey {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return subnetKey{uint32(bits), header.AddrFrom(p.Masked().Addr())}
}

// ClaimSubnet makes every packet to an address of p ours, whatever its protocol:
// for a routed network, whose addresses nobody but the switch has.
func (k *Kernel) ClaimSubnet(p netip.Prefix) error {
	err := k.planes.subnets.Put(keyOf(p), uint8(1))
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("claim subnet %s: %d routed subnets are claimed already", p, maxSubnets)
	case err != nil:
		return fmt.Errorf("claim subnet %s: %w", p, err)
	}
	return nil
}

// DropSubnet undoes ClaimSubnet. A subnet without a claim is no error.
func (k *Kernel) DropSubnet(p netip.Prefix) error {
	if err := k.planes.subnets.Delete(keyOf(p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("drop claim of subnet %s: %w", p, err)
	}
	return nil
}
