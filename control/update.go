package control

import (
	"context"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/plan"
)

// UpdateNetwork changes what the data path reads anew with each snapshot. What a
// container has been given, its addresses, routes and MTU, would have to be
// changed inside the containers; for those make another network.
func (c *Controller) UpdateNetwork(_ context.Context, name string, in api.NetworkUpdate) (api.Network, error) {
	leave, err := c.enter()
	if err != nil {
		return api.Network{}, err
	}
	defer leave()
	c.mu.Lock()
	n, err := c.inv.Network(name)
	c.mu.Unlock()
	if err != nil {
		return api.Network{}, err
	}
	defer c.names.Lock(ofNetwork(n.Rec.Name))()
	c.mu.Lock()
	same, was, called := c.inv.Networks[n.Rec.Name] == n && n.Ready, n.Rec, n.Called()
	c.mu.Unlock()
	if !same { // removed while we waited
		return api.Network{}, model.NotFoundf("network %s does not exist: see vswitch network ls", name)
	}
	rec, err := model.Update(was, in)
	if err != nil {
		return api.Network{}, model.Invalidf("network %s: %w", was.Name, err)
	}
	h := &netChange{c: c, n: n, delta: plan.Network{Amend: true}, was: was, rec: rec}
	if err := h.apply(); err != nil {
		return api.Network{}, err
	}
	c.log.Info("network updated", "network", n.Called())
	c.events.NetworkUpdated(n, called)
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.View(), nil
}
