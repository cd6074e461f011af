package control

import (
	"github.com/vswitch/vswitch/control/host"
)

// followShaping learns what others shape with the queueing disciplines of cables, as
// CNI's bandwidth plugin does, and makes it hold.
//
// What goes into a container passes the root qdisc of its host end by itself, but for
// flows that the kernel carries from namespace to namespace: the data path is told. What
// comes out is read by the packet socket before any qdisc of the ingress sees it, so the
// limit is set on the container's own end.
func (c *Controller) followShaping() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.shapeKick:
		}
		// The plugin makes qdisc, filter and the device's qdisc one after the other.
		if !c.pause(worldDelay) {
			return
		}
		select {
		case <-c.shapeKick:
		default:
		}
		if err := c.syncShaping(); err != nil {
			c.log.Error("follow the queueing disciplines", "err", joined(err))
		}
	}
}

func (c *Controller) syncShaping() error {
	c.mu.Lock()
	live := make(map[int]*endpoint, len(c.byVeth))
	for _, e := range c.byVeth {
		if e.live {
			live[e.index] = e
		}
	}
	c.mu.Unlock()
	now, err := c.host.Shapings(func(index int) bool { return live[index] != nil })
	if err != nil {
		return err
	}
	queues := false
	limits := make(map[*endpoint]host.Limit)
	c.mu.Lock()
	for index, e := range live {
		s := now[index]
		queues = queues || s.Queued != e.shaping.Queued
		if s.Limit != e.shaping.Limit {
			limits[e] = s.Limit
		}
		e.shaping = s
	}
	c.mu.Unlock()
	if queues {
		err = c.rebuild()
	}
	for e, l := range limits {
		c.background(func() error { return c.limit(e, l) })
	}
	return err
}

// limit sets what a container may send.
func (c *Controller) limit(e *endpoint, l host.Limit) error {
	unlock, ok := c.holdContainer(e.ct)
	defer unlock()
	if !ok {
		return nil
	}
	ns, err := e.ct.openNetns()
	if err == nil {
		err = c.host.SetLimit(ns, e.ifname, l)
		ns.Close()
	}
	if err != nil {
		c.log.Warn("what the container sends is not limited as the ingress qdisc of its cable says",
			"container", e.ct.rec.Name, "interface", e.ifname, "err", err)
		return nil
	}
	c.log.Info("limit of what the container sends", "container", e.ct.rec.Name, "interface", e.ifname, "bytes", l.Rate)
	return nil
}
