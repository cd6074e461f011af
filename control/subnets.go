package control

import (
	"net/netip"

	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
)

// reserveSubnets enters a network in the table with subnets that neither a
// network nor a route of the host overlaps.
func (h *netChange) reserveSubnets() error {
	c, n := h.c, h.n
	name, asked := n.Rec.Name, n.Rec.Subnets
	tried := make(map[netip.Prefix]bool)
	for {
		if err := h.makeRoom(asked, tried); err != nil {
			return err
		}
		again := false
		for i, s := range n.Rec.Subnets {
			route, bad := c.edge.Overlaps(s.Prefix)
			switch {
			case !bad:
			case asked[i].Prefix.IsValid():
				h.leave()
				return model.Conflictf("network %s: subnet %s overlaps route %s: choose another with --subnet", name, s.Prefix, route)
			default:
				tried[s.Prefix], again = true, true
			}
		}
		if !again {
			return nil
		}
		h.leave()
	}
}

func (h *netChange) makeRoom(asked []state.Subnet, tried map[netip.Prefix]bool) error {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	return h.c.inv.MakeRoom(h.n, asked, func(p netip.Prefix) bool { return !tried[p] })
}
