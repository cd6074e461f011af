package control

import (
	"context"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
)

// Check returns nil when the kernel has all that a container was given.
func (c *Controller) Check(_ context.Context, name string) error {
	return c.onContainer(name, func(ct *inventory.Container) error {
		if len(ct.Endpoints) == 0 {
			return nil // its process runs, or the container would be gone
		}
		var ns edge.Netns
		if !ct.Rec.Handover { // else its runtime did the rest, and does not say where
			var err error
			if ns, err = openNetnsOf(ct, c.edge); err != nil {
				return err
			}
			defer ns.Close()
		}
		for _, e := range ct.Endpoints {
			if err := c.edge.CheckCable(ns, e.Index, cableOf(e, c.introduces())); err != nil {
				return model.Conflictf("network %s: %w: detach the container and attach it again", e.Network.Called(), err)
			}
		}
		return nil
	})
}
