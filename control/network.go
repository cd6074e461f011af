package control

import (
	"context"
	"errors"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/plan"
)

// CreateNetwork makes a network.
func (c *Controller) CreateNetwork(_ context.Context, in api.NetworkCreate) (api.Network, error) {
	leave, err := c.enter()
	if err != nil {
		return api.Network{}, err
	}
	defer leave()
	rec, err := model.CheckNetwork(in)
	if err != nil {
		return api.Network{}, err
	}
	defer c.names.Lock(ofNetwork(rec.Name))()
	h := &netChange{c: c, n: inventory.NewNetwork(rec)}
	if err := h.choose(); err != nil {
		return api.Network{}, err
	}
	if err := h.apply(); err != nil {
		return api.Network{}, err
	}
	n := h.n
	c.log.Info("network created", "network", rec.Name, "subnets", model.SubnetTexts(n.Rec), "interface", n.Rec.TAP)
	c.events.NetworkCreated(n, model.SubnetTexts(n.Rec))
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.View(), nil
}

// RemoveNetwork deletes a network without containers.
func (c *Controller) RemoveNetwork(_ context.Context, name string) error {
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	c.mu.Lock()
	n, err := c.inv.Network(name)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	defer c.names.Lock(ofNetwork(n.Rec.Name))()
	return c.removeNetwork(n.Rec.Name)
}

// removeNetwork is RemoveNetwork for who holds the network's name.
func (c *Controller) removeNetwork(name string) error {
	c.mu.Lock()
	n, err := c.inv.Network(name)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if n.Rec.Name == model.DefaultNetwork {
		return model.Conflictf("network %s is the default network: it cannot be removed", model.DefaultNetwork)
	}
	err = (&netChange{c: c, n: n, delta: plan.Network{Gone: true}}).apply()
	c.mu.Lock()
	gone := c.inv.Networks[name] != n
	c.mu.Unlock()
	if !gone {
		return err
	}
	c.log.Info("network removed", "network", n.Called())
	c.events.NetworkRemoved(n)
	return err
}

// dropEphemeral removes a network that was to go with its last container, when
// that has gone.
func (c *Controller) dropEphemeral(name string) {
	c.mu.Lock()
	n := c.inv.Networks[name]
	drop := n != nil && n.Ready && n.Rec.Ephemeral && len(n.Members) == 0
	c.mu.Unlock()
	if !drop {
		return
	}
	defer c.names.Lock(ofNetwork(name))()
	err := c.removeNetwork(name)
	if err != nil && !errors.Is(err, api.ErrConflict) && !errors.Is(err, api.ErrNotFound) { // joined or removed meanwhile
		c.log.Error("remove a network with its last container", "network", name, "err", joined(err))
	}
}

// PruneNetworks deletes every network without containers but the default one and
// those that a runtime relies on.
func (c *Controller) PruneNetworks(_ context.Context) (api.Pruned, error) {
	out := api.Pruned{Networks: []string{}}
	leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	c.mu.Lock()
	var names []string
	for _, n := range c.inv.ReadyNetworks() {
		if n.Rec.Name != model.DefaultNetwork && len(n.Members) == 0 && !n.Used() {
			names = append(names, n.Rec.Name)
		}
	}
	c.mu.Unlock()
	for _, name := range names {
		unlock := c.names.Lock(ofNetwork(name))
		err := c.removeNetwork(name)
		unlock()
		switch {
		case err == nil:
			out.Networks = append(out.Networks, name)
		case errors.Is(err, api.ErrConflict), errors.Is(err, api.ErrNotFound): // joined or removed meanwhile
		default:
			return out, err
		}
	}
	return out, nil
}
