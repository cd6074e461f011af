package control

import (
	"context"
	"errors"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
)

// Release undoes what a runtime attached: one interface, or with the last one
// the container. That there is none is no error.
func (c *Controller) Release(_ context.Context, in api.Release) error {
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := model.CheckRuntime(in.Runtime, in.RuntimeID); err != nil {
		return err
	}
	if in.Runtime == "" {
		return model.Invalidf("whose container: give runtime and runtime_id, or use detach")
	}
	return c.releaseOf(in, func(*inventory.Endpoint) bool { return true })
}

// releaseOf takes away the interfaces of a runtime's container that are named
// and for which gone says yes.
func (c *Controller) releaseOf(in api.Release, gone func(*inventory.Endpoint) bool) error {
	defer c.names.Lock(ofRuntime(in.Runtime, in.RuntimeID))()
	c.mu.Lock()
	ct := c.inv.OfRuntime(in.Runtime, in.RuntimeID)
	c.mu.Unlock()
	if ct == nil {
		return nil
	}
	unlock, ok := c.lockContainer(ct)
	defer unlock()
	if !ok {
		return nil
	}
	name := ct.Called()
	var list []*inventory.Endpoint
	for _, e := range ct.Endpoints {
		if (in.Ifname == "" || e.Ifname == in.Ifname) && gone(e) {
			list = append(list, e)
		}
	}
	end, why := c.events.Ending(ct), "released by "+in.Runtime
	if len(list) == len(ct.Endpoints) && (in.Ifname == "" || len(list) > 0) {
		err := newChange(c, ct).withdrawAll()
		c.log.Info("released", "container", end.Name, "reason", why)
		end.Tell(why)
		return err
	}
	if len(list) == 0 {
		return nil
	}
	// That the namespace has vanished is no obstacle.
	ns, err := openNetnsOf(ct, c.edge)
	if err == nil {
		defer ns.Close()
	} else {
		ns = nil
	}
	h := newChange(c, ct)
	h.force = ns == nil && !ct.Rec.Handover
	if err := h.withdraw(ns, list, ct.Unserved(list)); err != nil {
		return containerErr(name, err)
	}
	for _, e := range list {
		c.log.Info("disconnected", "container", end.Name, "network", e.Network.Called(), "interface", e.Ifname, "reason", why)
		c.events.Moved(api.EventDisconnect, e)
	}
	return nil
}

// GC releases what a runtime attached and does not name any more.
func (c *Controller) GC(_ context.Context, in api.GC) (api.Collected, error) {
	out := api.Collected{Released: []api.Attachment{}}
	leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	if in.Runtime == "" {
		return out, model.Invalidf("garbage of which runtime: give its name; what was attached by hand is detached by hand")
	}
	if in.Valid == nil {
		return out, nil
	}
	valid := make(map[api.Attachment]bool, len(in.Valid))
	for _, a := range in.Valid {
		valid[a] = true
	}
	stale := func(ct *inventory.Container, e *inventory.Endpoint) bool {
		return e.Live && (in.Network == "" || e.RuntimeNetwork() == in.Network) &&
			!valid[api.Attachment{RuntimeID: ct.Rec.RuntimeID}] && !valid[api.Attachment{RuntimeID: ct.Rec.RuntimeID, Ifname: e.Ifname}]
	}
	var found []api.Attachment
	c.mu.Lock()
	for _, ct := range c.inv.ReadyContainers() {
		if ct.Rec.Runtime != in.Runtime {
			continue
		}
		for _, e := range ct.Endpoints {
			if stale(ct, e) {
				found = append(found, api.Attachment{RuntimeID: ct.Rec.RuntimeID, Ifname: e.Ifname})
			}
		}
	}
	c.mu.Unlock()
	var errs []error
	for _, a := range found {
		err := c.releaseOf(api.Release{Runtime: in.Runtime, RuntimeID: a.RuntimeID, Ifname: a.Ifname},
			func(e *inventory.Endpoint) bool { return stale(e.Container, e) })
		if err == nil {
			out.Released = append(out.Released, a)
		}
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}
