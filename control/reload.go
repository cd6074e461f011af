package control

import (
	"net/netip"

	"github.com/vswitch/vswitch/control/model"
)

// Reload puts in force what of another configuration can be while the switch runs: its
// pools and timeouts. After an error nothing has changed.
func (c *Controller) Reload(next Config) error {
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := next.Fill(); err != nil {
		return err
	}
	c.mu.Lock()
	was, pools := c.cfg.timeouts, c.inv.Pools
	c.cfg.timeouts = next.timeouts
	c.inv.Pools = poolsOf(&next, c.store.Identity())
	c.mu.Unlock()
	if err = c.builder.rebuild(); err != nil {
		c.mu.Lock()
		c.cfg.timeouts, c.inv.Pools = was, pools
		c.mu.Unlock()
	}
	return err
}

// poolsOf are the spaces that subnets are taken from, by family.
func poolsOf(cfg *Config, identity string) [2]netip.Prefix {
	pools := [2]netip.Prefix{cfg.Pool, cfg.Pool6}
	if !pools[model.IPv6].IsValid() {
		pools[model.IPv6] = model.UniqueLocal(identity)
	}
	return pools
}
