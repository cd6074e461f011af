package control

import (
	"cmp"
	"context"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
)

// lockContainer takes the name of a container that somebody has found, so that no
// other operation on it runs until unlock. It is not ok when the container is not
// attached any more. While the name is held it does not change.
func (c *Controller) lockContainer(ct *inventory.Container) (unlock func(), ok bool) {
	for {
		c.mu.Lock()
		name := ct.Rec.Name
		c.mu.Unlock()
		unlock := c.names.Lock(ofContainer(name))
		c.mu.Lock()
		same, there := ct.Rec.Name == name, c.inv.Containers[name] == ct
		c.mu.Unlock()
		if same {
			return unlock, there
		}
		unlock() // renamed while we waited
	}
}

// UpdateContainer gives a container another name, and labels. A runtime may say
// only later what its user calls a container. The description of its interfaces
// keeps the name under which they were made.
func (c *Controller) UpdateContainer(_ context.Context, name string, in api.ContainerUpdate) (out api.Container, err error) {
	if in.Name != "" {
		if err := model.CheckName("container", in.Name); err != nil {
			return out, err
		}
	}
	if err := model.CheckLabels("container "+name, in.Labels); err != nil {
		return out, err
	}
	defer func() {
		if way, is := in.Labels[api.LabelWayOut]; err == nil && (!is || way != "") { // else it leaves
			c.byHand.Return(&out, c.Publish, c.events)
		}
	}()
	leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	c.mu.Lock()
	ct, err := c.inv.Container(name)
	c.mu.Unlock()
	if err != nil {
		return out, err
	}
	defer c.names.Lock(ofRuntime(ct.Rec.Runtime, ct.Rec.RuntimeID))()
	c.mu.Lock()
	old := ct.Rec.Name
	c.mu.Unlock()
	to, was := cmp.Or(in.Name, old), c.events.Name(ct)
	keys := []string{ofContainer(old), ofContainer(to)}
	slices.Sort(keys) // one order for all: two renames cannot wait for each other
	for _, key := range slices.Compact(keys) {
		defer c.names.Lock(key)()
	}
	c.mu.Lock()
	same, other := c.inv.Containers[old] == ct && ct.Ready, c.inv.Containers[to]
	c.mu.Unlock()
	switch {
	case !same: // detached or renamed while we waited
		return out, model.NotFoundf("container %s is not attached: see vswitch ps", name)
	case other != nil && other != ct:
		return out, model.Conflictf("container name %s is that of another container: choose another", to)
	}
	h := newChange(c, ct)
	h.name, h.delta.Rename = to, to != old
	h.label(model.MergeLabels(h.was.Labels, in.Labels))
	if err := h.apply(); err != nil {
		return out, containerErr(old, err)
	}
	if now := c.events.Renamed(ct, was); now != was {
		c.log.Info("renamed", "container", now, "was", was)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return ct.View(), nil
}
