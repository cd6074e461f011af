package kernel

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// ClaimSubnet says that p is a network's: what comes by an uplink from its addresses is forged.
// Of a routed network, whose addresses nobody but the switch has, every packet to it is ours
// as well, whatever its protocol.
func (k *Kernel) ClaimSubnet(p netip.Prefix, routed bool) error {
	is := flowmap.SubnetOurs
	if routed {
		is = flowmap.SubnetRouted
	}
	err := k.planes.subnets.Put(flowmap.SubnetKeyOf(p), is)
	switch {
	case errors.Is(err, unix.ENOSPC):
		return fmt.Errorf("claim subnet %s: %d subnets are claimed already", p, flowmap.MaxSubnets)
	case err != nil:
		return fmt.Errorf("claim subnet %s: %w", p, err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.leftSubnets, flowmap.SubnetKeyOf(p))
	return nil
}

// DropSubnet undoes ClaimSubnet. A subnet without a claim is no error.
func (k *Kernel) DropSubnet(p netip.Prefix) error {
	if err := k.planes.subnets.Delete(flowmap.SubnetKeyOf(p)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("drop claim of subnet %s: %w", p, err)
	}
	return nil
}
