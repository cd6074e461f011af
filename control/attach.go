package control

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/state"
)

// Attach registers a container and wires it. The same request again returns the
// container that is attached. A runtime's request for a container that it has attached
// adds what that lacks.
func (c *Controller) Attach(ctx context.Context, in api.Attach) (api.Container, error) {
	leave, err := c.enter()
	if err != nil {
		return api.Container{}, err
	}
	defer leave()
	p, err := model.CheckAttach(in, c.bootID)
	if err != nil {
		return api.Container{}, err
	}
	defer c.names.Lock(ofRuntime(p.Rec.Runtime, p.Rec.RuntimeID))()
	c.mu.Lock()
	if ct := c.inv.OfRuntime(p.Rec.Runtime, p.Rec.RuntimeID); ct != nil {
		p.Rec.Name = ct.Rec.Name // which its runtime may not know
	}
	c.mu.Unlock()
	name := p.Rec.Name
	defer c.names.Lock(ofContainer(name))()

	var ns edge.Netns
	if p.Rec.Netns != "" || p.Rec.PID != 0 {
		if ns, err = openNetns(c.edge, p.Rec.Netns, p.Rec.PID); err != nil {
			return api.Container{}, containerErr(name, err)
		}
		defer ns.Close()
		p.Rec.NetnsDev, p.Rec.NetnsIno = ns.ID()
		if p.Rec.Mode == api.ModeBridge && c.edge.IsHost(ns) {
			return api.Container{}, model.Invalidf("container %s: the namespace is the host's own: give that of a container, or use --network host", name)
		}
	}
	start := time.Now()
	c.mu.Lock()
	ct := c.inv.Containers[name]
	c.mu.Unlock()
	var h *change
	switch {
	case ct == nil:
		if err := c.unrestored.bury(c, name); err != nil {
			return api.Container{}, err
		}
		ct = &inventory.Container{Rec: p.Rec}
		h = &change{c: c, ct: ct, ns: ns}
		h.delta.Whole, h.delta.Bound = true, p.Rec.Bound
		h.join(p.Joins...)
		h.publish(p.Publish...)
	case p.Rec.Runtime != "" && p.Rec.Runtime == ct.Rec.Runtime && p.Rec.RuntimeID == ct.Rec.RuntimeID:
		if err := sameRuntime(ct.Rec, p.Rec); err != nil {
			return api.Container{}, err
		}
		h = newChange(c, ct)
		h.ns, h.delta.Reroute = ns, ns != nil // runtimes add interfaces in any order
		err = h.add(p)
	default:
		if err := sameRequest(ct.Rec, p.Rec); err != nil {
			return api.Container{}, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		return ct.View(), nil
	}
	if err == nil {
		h.caller = readers.Process(ctx)
		err = h.apply()
	}
	if err != nil {
		for _, j := range p.Joins {
			c.dropEphemeral(j.Network)
		}
		return api.Container{}, containerErr(name, err)
	}
	if h.delta.Whole {
		c.watchProcess(ct)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log.Info("attached", "container", c.events.Name(ct), "mode", p.Rec.Mode, "addresses", addrTexts(ct), "took", time.Since(start).Round(10*time.Microsecond))
	c.events.Attached(ct)
	return ct.View(), nil
}

func openNetns(in edge.Namespaces, path string, pid int) (edge.Netns, error) {
	ns, err := in.OpenNetns(path, pid)
	return ns, wrapHost(err)
}

// sameRequest refuses a request for a name that an attached container has, unless it is
// the request that attached it.
func sameRequest(have, want state.Container) error {
	switch {
	case have.NetnsDev != want.NetnsDev || have.NetnsIno != want.NetnsIno:
		return model.Conflictf("container %s is attached already: in another namespace: detach it first or choose another name", have.Name)
	case have.Digest != want.Digest:
		return model.Conflictf("container %s is attached already: with other options: detach it first or choose another name", have.Name)
	}
	return nil
}

// sameRuntime refuses what a runtime cannot add to a container that it has attached.
func sameRuntime(have, want state.Container) error {
	switch {
	case have.NetnsDev != want.NetnsDev || have.NetnsIno != want.NetnsIno:
		return model.Conflictf("container %s of %s is attached already: in another namespace: release it first", have.Name, have.Runtime)
	case have.Mode != api.ModeBridge || want.Mode != api.ModeBridge:
		return model.Conflictf("container %s of %s is attached already: with another mode: release it first", have.Name, have.Runtime)
	}
	return nil
}

// add adds the interfaces, ports and labels of a request that the container lacks. What the
// request names twice comes once.
func (h *change) add(p model.AttachPlan) error {
	for _, j := range p.Joins {
		has, err := h.has(&j)
		if err != nil {
			return err
		}
		if !has && !slices.ContainsFunc(h.joins, func(o model.JoinPlan) bool { return o.Covers(j) }) {
			h.join(j)
		}
	}
	for _, s := range model.Once(p.Publish) {
		if !slices.ContainsFunc(h.ct.Mappings, func(m *inventory.Mapping) bool { return m.HostIP == s.HostIP && m.Matches(s) }) {
			h.publish(s)
		}
	}
	labels := make(map[string]string)
	maps.Copy(labels, h.was.Labels)
	maps.Copy(labels, p.Rec.Labels)
	if !maps.Equal(labels, h.was.Labels) {
		h.label(labels)
	}
	return nil
}

// has reports whether the container has the endpoint that a request would join, and
// refuses one that it has otherwise. From then on the request has the network's name.
func (h *change) has(j *model.JoinPlan) (bool, error) {
	c, ct := h.c, h.ct
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.inv.Network(j.Network)
	if err != nil {
		return false, err
	}
	j.Network = n.Rec.Name
	e := ct.EndpointNamed(j.Ifname)
	if j.Ifname == "" {
		e = ct.EndpointIn(n)
	}
	if e == nil {
		return false, nil
	}
	if e.Network != n {
		return false, model.Conflictf("interface %s is its port in network %s: choose another name", e.Ifname, e.Network.Called())
	}
	for _, f := range model.Families {
		if j.IPs[f].IsValid() && e.Addr(f) != j.IPs[f] {
			return false, model.Conflictf("interface %s already has address %s: release it first", e.Ifname, e.Addr(f))
		}
	}
	if !j.MAC.IsZero() && e.MAC != j.MAC {
		return false, model.Conflictf("interface %s already has MAC address %s: release it first", e.Ifname, e.MAC)
	}
	return true, nil
}

func addrTexts(ct *inventory.Container) []string {
	list := make([]string, 0, len(ct.Endpoints))
	for _, e := range ct.Endpoints {
		for _, a := range e.Addrs {
			list = append(list, a.String())
		}
	}
	return list
}
