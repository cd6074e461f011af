package control

import (
	"errors"
	"strings"

	"github.com/vswitch/vswitch/control/host"
)

// Handover: Docker moves a container's interface by itself, into a namespace that
// does not exist yet when it asks for the interface. The end waits in the host's
// namespace, down, and is the container's from the moment it was made: guard,
// published ports, release and restart are the same as for any other, since they
// hang on the host end. Of the namespace nothing is known and nothing is needed;
// when it goes the cable goes with it.

// waitPrefix begins the names of container ends that wait.
const waitPrefix = "wait"

// waitsAs is the name under which the container end is made: that of the host
// end, with another beginning.
func (e *endpoint) waitsAs() string {
	return waitPrefix + strings.TrimPrefix(e.veth, "veth")
}

// isWaiting reports whether a link is a container end that waits, or waited
// until now. The runtime finds it by its name, so that it has no alias, which it
// would take into the container.
func (c *Controller) isWaiting(l host.Link) bool {
	return l.Kind == "veth" && len(l.Name) == maxIfname &&
		strings.HasPrefix(l.Name, waitPrefix+strings.TrimPrefix(c.vethPrefix(), "veth"))
}

// dropCable is unplug and the cable's end. The kernel takes tens of milliseconds
// for each of the two, and the runtime holds up other containers while it waits for
// us: they are left to the kernel. What is still there when the daemon ends is found
// by the next.
func (c *Controller) dropCable(e *endpoint) {
	id, had := c.forgetPort(e)
	c.spawn(func() {
		var err error
		if had {
			err = c.removePort(e, id)
		}
		if err = errors.Join(err, c.host.DelLink(e.veth, e.index)); err != nil {
			c.log.Error("remove interface", "interface", e.veth, "err", joined(err))
		}
	})
}

// handedOver learns what the ends of a container are called since its runtime has
// moved them.
func (c *Controller) handedOver(ct *container) {
	c.background(func() error {
		unlock, ok := c.holdContainer(ct)
		defer unlock()
		if !ok {
			return nil
		}
		for _, e := range ct.endpoints {
			c.followHandover(e)
		}
		return nil
	})
}

// followHandover reads the name of a container end. It is for people only, so
// that one that cannot be read keeps the one it had.
func (c *Controller) followHandover(e *endpoint) {
	peer, _, err := c.host.Peer(e.veth, e.index)
	if err != nil {
		return
	}
	c.mu.Lock()
	e.ifname = peer.Name
	c.mu.Unlock()
}
