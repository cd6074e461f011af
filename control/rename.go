package control

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"github.com/vswitch/vswitch/control/api"
)

// holdContainer takes the name of a container that somebody has found, so that no
// other operation on it runs until unlock. It is not ok when the container is not
// attached any more. While the name is held it does not change.
func (c *Controller) holdContainer(ct *container) (unlock func(), ok bool) {
	for {
		c.mu.Lock()
		name := ct.rec.Name
		c.mu.Unlock()
		unlock := c.names.lock(ofContainer(name))
		c.mu.Lock()
		same, there := ct.rec.Name == name, c.containers[name] == ct
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
		if err := checkName("container", in.Name); err != nil {
			return out, err
		}
	}
	if err := checkLabels("container "+name, in.Labels); err != nil {
		return out, err
	}
	leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	c.mu.Lock()
	ct, err := c.findContainerLocked(name)
	c.mu.Unlock()
	if err != nil {
		return out, err
	}
	defer c.lockRuntime(ct.rec.Runtime, ct.rec.RuntimeID)()
	c.mu.Lock()
	old := ct.rec.Name
	c.mu.Unlock()
	to := cmp.Or(in.Name, old)
	keys := []string{ofContainer(old), ofContainer(to)}
	slices.Sort(keys) // one order for all: two renames cannot wait for each other
	for _, key := range slices.Compact(keys) {
		defer c.names.lock(key)()
	}
	c.mu.Lock()
	same, other := c.containers[old] == ct && ct.ready, c.containers[to]
	was := ct.record()
	c.mu.Unlock()
	switch {
	case !same: // detached or renamed while we waited
		return out, notFoundf("container %s is not attached: see vswitch ps", name)
	case other != nil && other != ct:
		return out, conflictf("container name %s is that of another container: choose another", to)
	}
	u := &undo{fault: c.fault}
	err = u.do("name", func() error { c.setName(ct, to); return nil }, func() error { c.setName(ct, old); return nil })
	if err == nil {
		err = u.do("labels", func() error { c.setLabels(ct, merged(was.Labels, in.Labels)); return nil },
			func() error { c.setLabels(ct, was.Labels); return nil })
	}
	if err == nil {
		err = c.commitStep(u, ct, was)
	}
	if err != nil {
		return out, c.failed(u, "container "+old, containerErr(old, err))
	}
	if to != old {
		c.log.Info("renamed", "container", to, "was", old)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.viewContainerLocked(ct), nil
}

// setName enters a container under a name in every table that has it.
func (c *Controller) setName(ct *container, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.containers, ct.rec.Name)
	ct.rec.Name = name
	c.containers[name] = ct
	for _, e := range ct.endpoints {
		e.net.macs[e.mac] = "container " + name
		for i, a := range e.addrs {
			e.net.pools[i].taken[a] = name
		}
	}
}

// merged is what labels are with some set anew; an empty value takes a label
// away. It shares no map with the old ones.
func merged(old, set map[string]string) map[string]string {
	labels := maps.Clone(old)
	if labels == nil && len(set) > 0 {
		labels = make(map[string]string, len(set))
	}
	for k, v := range set {
		if labels[k] = v; v == "" {
			delete(labels, k)
		}
	}
	return labels
}
