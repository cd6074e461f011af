package control

import (
	"errors"

	"github.com/vswitch/vswitch/control/inventory"
)

// Handover: Docker moves a container's interface by itself, into a namespace that
// does not exist yet when it asks for the interface. The end waits in the host's
// namespace, down, and is the container's from the moment it was made: guard,
// published ports, release and restart are the same as for any other, since they
// hang on the host end. Of the namespace nothing is known and nothing is needed;
// when it goes the cable goes with it.

// dropCable is unplug and the cable's end. The kernel takes tens of milliseconds
// for each of the two, and the runtime holds up other containers while it waits for
// us: they are left to the kernel. The next daemon finds what this one does not remove.
func (h *change) dropCable(e *inventory.Endpoint) {
	c := h.c
	id, had := h.forgetPort(e)
	c.spawn(func() {
		var err error
		if had {
			err = c.closePort(id)
		}
		if err = errors.Join(err, c.edge.DelLink(e.Veth, e.Index)); err != nil {
			c.log.Error("remove interface", "interface", e.Veth, "err", joined(err))
		}
	})
}

// handedOver learns what the ends of a container are called since its runtime has
// moved them, or somebody has renamed the host's.
func (c *Controller) handedOver(ct *inventory.Container, renamed bool) {
	c.background(func() error {
		unlock, ok := c.lockContainer(ct)
		defer unlock()
		if !ok {
			return nil
		}
		if links, err := c.edge.Links(); renamed && err == nil {
			c.mu.Lock()
			c.inv.FollowNames(ct, links)
			c.mu.Unlock()
		}
		for _, e := range ct.Endpoints {
			c.followHandover(e)
		}
		return nil
	})
}

// followHandover reads the name of a container end. It is for people only, so
// that one that cannot be read keeps the one it had.
func (c *Controller) followHandover(e *inventory.Endpoint) {
	peer, _, err := c.edge.Peer(e.Veth, e.Index)
	if err != nil {
		return
	}
	c.mu.Lock()
	e.Ifname = peer.Name
	c.inv.Changed(e.Container)
	c.mu.Unlock()
}
