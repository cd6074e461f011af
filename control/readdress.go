package control

import "time"

// readdressDelay lets a manager of networks come to an end with what it does, and bounds how
// often the two can take turns.
const readdressDelay = 300 * time.Millisecond

// readdress gives networks the gateway's addresses back that somebody has taken from their
// device: one of them, or all by index 0. The daemon's own removals end the device first.
func readdress(c *Controller, index int) {
	select {
	case <-c.ctx.Done():
		return
	case <-time.After(readdressDelay):
	}
	c.mu.Lock()
	networks := c.inv.Plugged(index)
	c.mu.Unlock()
	for _, n := range networks {
		lost, err := n.TAP.Readdress()
		if err != nil {
			c.log.Error("give a network the gateway's address back", "network", n.Called(), "interface", n.Rec.TAP, "err", err)
		}
		if len(lost) > 0 {
			c.log.Warn("the gateway's address was taken from the device of a network: it is back", "network", n.Called(), "interface", n.Rec.TAP, "addresses", lost)
			c.events.GatewayBack(n, lost)
		}
	}
}
