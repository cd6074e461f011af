package control

import (
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/shaping"
)

// shaper learns what others shape with the queueing disciplines of cables, as
// CNI's bandwidth plugin does, and which programs they have hung up there, and makes it
// hold; control/shaping says when it looks.
//
// What goes into a container passes the root qdisc and the programs of its host end by
// itself, except flows that the kernel carries from namespace to namespace: the data path
// is told. What comes out is read by the packet socket before any qdisc of the ingress
// sees it, so the limit is set on the container's own end.
type shaper struct{ c *Controller }

func newShaping(c *Controller) *shaping.Looks {
	s := shaper{c}
	return shaping.New(shaping.Looks{
		Rows: func() (int, uint64) { return c.sw.FlowRows() }, Queues: s.sync, Programs: s.programs,
		Failed: func(err error) { c.log.Error("follow what others have put on cables", "err", joined(err)) },
	})
}

// live are the endpoints whose flows may be carried, by the index of the cable.
func (s shaper) live() map[int]*inventory.Endpoint {
	c := s.c
	c.mu.Lock()
	live := make(map[int]*inventory.Endpoint, len(c.inv.Endpoints))
	for _, e := range c.inv.Endpoints {
		if e.Live {
			live[e.Index] = e
		}
	}
	c.mu.Unlock()
	return live
}

func (s shaper) sync() error {
	c, live := s.c, s.live()
	now, err := c.edge.Shapings(func(index int) bool { return live[index] != nil })
	if err != nil {
		return err
	}
	queues := false
	limits := make(map[*inventory.Endpoint]host.Limit)
	c.mu.Lock()
	for index, e := range live {
		sh := now[index]
		queues = queues || sh.Queued != e.Shaping.Queued
		if sh.Limit != e.Shaping.Limit {
			limits[e] = sh.Limit
		}
		e.Shaping = sh
	}
	c.mu.Unlock()
	if queues {
		err = c.builder.rebuild()
	}
	for e, l := range limits {
		c.background(func() error { return s.limit(e, l) })
	}
	return err
}

// programs looks at every cable and uplink, which costs the kernel a question each. Changes of qdiscs
// do not ask for it: our own cables make some. misses says that a chain keeps flows from having rows.
func (s shaper) programs() (misses bool, err error) {
	c, live, uplinks := s.c, s.live(), s.c.underlay.Now().Names()
	now, err := c.edge.Programs(func(index int) bool { return live[index] != nil || uplinks[index] != "" })
	if err != nil {
		return false, err
	}
	var seen []*inventory.Endpoint
	c.mu.Lock()
	changed, out := c.inv.Uplinks.Have(now, uplinks)
	for index, e := range live {
		way, told := e.SetProgram(now[index])
		if changed = changed || way; told {
			seen = append(seen, e)
		}
	}
	c.mu.Unlock()
	for _, p := range now {
		misses = misses || p.Misses
	}
	if changed {
		err = c.builder.rebuild()
	}
	// Who hears of a program may rely on it that nothing passes by it any more.
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range seen {
		c.events.OnTheWayIn(e, e.Program.Name)
	}
	for _, index := range out {
		c.events.OnTheWayOut(uplinks[index], now[index].Name)
	}
	return misses, err
}

// limit sets what a container may send.
func (s shaper) limit(e *inventory.Endpoint, l host.Limit) error {
	c := s.c
	unlock, ok := c.lockContainer(e.Container)
	defer unlock()
	if !ok {
		return nil
	}
	ns, err := openNetnsOf(e.Container, c.edge)
	if err == nil {
		err = c.edge.SetLimit(ns, e.Ifname, l)
		ns.Close()
	}
	if err != nil {
		c.log.Warn("what the container sends is not limited as the ingress qdisc of its cable says",
			"container", e.Container.Called(), "interface", e.Ifname, "err", err)
		return nil
	}
	c.log.Info("limit of what the container sends", "container", e.Container.Called(), "interface", e.Ifname, "bytes", l.Rate)
	return nil
}
