package control

import (
	"errors"
	"io"

	"github.com/vswitch/vswitch/control/kernel"
)

// carryHost lets the kernel carry long flows of the host into a network. Where it
// cannot, they stay with the switch.
func (c *Controller) carryHost(n *network) {
	account, err := c.kernel.AddFlowPort(n.tapIndex)
	if account == nil && err == nil {
		return // no flow table
	}
	if err == nil {
		err = n.tap.Count(account)
	}
	if err == nil {
		n.carrier, err = c.attachHost(n.tapIndex)
	}
	if err != nil {
		n.tap.Uncount()
		c.kernel.RemoveFlowPort(n.tapIndex)
		c.log.Warn("what the host sends into a network stays out of the flow table", "network", n.rec.Name, "interface", n.rec.TAP, "err", err)
	}
}

// attachHost attaches the program by a link, which ends with the process, or where the
// kernel has none as a filter with a deadline.
func (c *Controller) attachHost(index int) (io.Closer, error) {
	if !c.cfg.noTCX {
		l, err := c.kernel.CarryHost(index)
		if !errors.Is(err, kernel.ErrNoTCX) {
			return l, err
		}
	}
	fd, err := c.kernel.HostFD()
	if err != nil {
		return nil, err
	}
	return c.host.AddEgress(index, fd)
}

// dropHost ends it. No worker has the port of the TAP any more.
func (c *Controller) dropHost(n *network) error {
	if n.carrier == nil {
		return nil
	}
	err := n.carrier.Close()
	n.carrier = nil
	c.kernel.RemoveFlowPort(n.tapIndex)
	return err
}
