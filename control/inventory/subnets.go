package inventory

import (
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
)

// MakeRoom gives a network the subnets that were asked for, and chooses where they are
// invalid what free takes. It enters the network.
func (v *Inventory) MakeRoom(n *Network, asked []state.Subnet, free func(netip.Prefix) bool) error {
	name := n.Rec.Name
	if v.Networks[name] != nil && name == model.DefaultNetwork {
		return model.Conflictf("network %s exists already: it is the default network, which is always there: choose another name", name)
	}
	if v.Networks[name] != nil {
		return model.Conflictf("network %s exists already: choose another name, or remove it with vswitch network rm %s", name, name)
	}
	n.Rec.Subnets = slices.Clone(asked)
	for i := range n.Rec.Subnets {
		s := &n.Rec.Subnets[i]
		if s.Prefix.IsValid() {
			if o, p := v.Overlap(s.Prefix); o != nil {
				return model.Conflictf("network %s: subnet %s overlaps network %s (%s): choose another with --subnet",
					name, s.Prefix, o.Called(), p)
			}
			continue
		}
		f := model.FamilyOf(s.Prefix.Addr())
		p, ok := v.NextSubnet(f, free)
		if !ok {
			return model.Fullf("network %s: no subnet in %s is free of networks and routes of the host: choose one with --subnet", name, v.Pools[f])
		}
		s.Prefix, s.Gateway = p, model.FirstHost(p)
	}
	n.Fill(nil)
	v.EnterNetwork(n)
	return nil
}
