package control

import (
	"context"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
)

// Connect joins an attached container to another network.
func (c *Controller) Connect(_ context.Context, name string, in api.Connect) (api.Container, error) {
	var out api.Container
	j, err := model.CheckJoin(in)
	if err != nil {
		return out, containerErr(name, err)
	}
	err = c.onContainer(name, func(ct *inventory.Container) error {
		if err := ct.NeedsEndpoints(); err != nil {
			return err
		}
		ns, err := openNetnsOf(ct, c.edge)
		if err != nil {
			return err
		}
		defer ns.Close()
		h := newChange(c, ct)
		h.ns, h.delta.Reroute = ns, true
		h.join(j)
		if err := h.apply(); err != nil {
			return err
		}
		e := h.endpoints[0]
		c.log.Info("connected", "container", c.events.Name(ct), "network", e.Network.Called(), "addresses", e.Addrs)
		c.events.Moved(api.EventConnect, e)
		c.mu.Lock()
		defer c.mu.Unlock()
		out = ct.View()
		return nil
	})
	return out, err
}

// onContainer runs an operation on an attached container.
func (c *Controller) onContainer(name string, fn func(*inventory.Container) error) error {
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	c.mu.Lock()
	ct, err := c.inv.Container(name)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	unlock, ok := c.lockContainer(ct)
	defer unlock()
	if !ok { // detached while we waited
		return model.NotFoundf("container %s is not attached: see vswitch ps", name)
	}
	if err := fn(ct); err != nil {
		return containerErr(ct.Called(), err)
	}
	return nil
}

// openNetnsOf opens the namespace a container was attached in.
func openNetnsOf(ct *inventory.Container, in edge.Namespaces) (edge.Netns, error) {
	if ct.Rec.Handover && ct.Rec.Runtime != api.RuntimeDocker { // found again (adopt.go)
		return nil, model.Invalidf("its namespace is not known since the state was lost: detach it and attach it again")
	}
	if ct.Rec.Handover {
		return nil, model.Invalidf("its runtime moves its interfaces: connect and disconnect it there, as with docker network connect")
	}
	ns, err := openNetns(in, ct.Rec.Netns, ct.Rec.PID)
	if err != nil {
		return nil, err
	}
	if dev, ino := ns.ID(); dev != ct.Rec.NetnsDev || ino != ct.Rec.NetnsIno {
		ns.Close()
		return nil, model.Conflictf("its namespace is another one by now: detach it and attach it again")
	}
	return ns, nil
}

// Disconnect takes a container out of a network.
func (c *Controller) Disconnect(_ context.Context, name, network string) error {
	return c.onContainer(name, func(ct *inventory.Container) error {
		if err := ct.NeedsEndpoints(); err != nil {
			return err
		}
		c.mu.Lock()
		n, err := c.inv.Network(network)
		c.mu.Unlock()
		if err != nil {
			return err
		}
		e := ct.EndpointIn(n)
		if e == nil {
			return model.NotFoundf("it is not in network %s: see vswitch inspect %s", n.Called(), ct.Called())
		}
		if len(ct.Endpoints) == 1 {
			return model.Conflictf("%s is its only network: detach it instead", n.Called())
		}
		if lost := ct.Unserved([]*inventory.Endpoint{e}); len(lost) > 0 {
			return model.Conflictf("its published ports lead through network %s: remove them first: vswitch port rm %s %s", n.Called(), ct.Called(), strings.Join(inventory.PortTexts(lost), " "))
		}
		ns, err := openNetnsOf(ct, c.edge)
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := newChange(c, ct).withdraw(ns, []*inventory.Endpoint{e}, nil); err != nil {
			return err
		}
		c.log.Info("disconnected", "container", c.events.Name(ct), "network", n.Called())
		c.events.Moved(api.EventDisconnect, e)
		return nil
	})
}

// Ports lists the published ports of a container.
func (c *Controller) Ports(_ context.Context, name string) ([]api.PortMapping, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct, err := c.inv.View(name)
	return ct.Ports, err
}

// Publish adds published ports to a container, all or none, and returns them.
func (c *Controller) Publish(ctx context.Context, name string, rules []string) ([]api.PortMapping, error) {
	specs, err := parseRules(name, rules)
	if err != nil {
		return nil, err
	}
	var out []api.PortMapping
	err = c.onContainer(name, func(ct *inventory.Container) error {
		if err := ct.NeedsEndpoints(); err != nil {
			return err
		}
		h := newChange(c, ct)
		h.byHand = !api.IsRuntime(ctx)
		h.publish(specs...)
		if err := h.apply(); err != nil {
			return err
		}
		c.log.Info("published", "container", c.events.Name(ct), "ports", rules)
		c.events.Ports(api.EventPublish, ct, h.mappings)
		c.mu.Lock()
		defer c.mu.Unlock()
		out = ct.ViewMappings(h.mappings)
		return nil
	})
	return out, err
}

// Unpublish takes published ports away, all or none. A rule without a host port
// means every mapping to its container ports.
func (c *Controller) Unpublish(ctx context.Context, name string, rules []string) error {
	specs, err := parseRules(name, rules)
	if err != nil {
		return err
	}
	return c.onContainer(name, func(ct *inventory.Container) error {
		var gone []*inventory.Mapping
		for i, s := range specs {
			found := false
			for _, m := range ct.Mappings {
				if m.Matches(s) {
					found = true
					if !slices.Contains(gone, m) {
						gone = append(gone, m)
					}
				}
			}
			if !found {
				return model.NotFoundf("%s is not published: see vswitch port ls %s", rules[i], ct.Called())
			}
		}
		h := newChange(c, ct)
		h.byHand = !api.IsRuntime(ctx)
		if err := h.withdraw(nil, nil, gone); err != nil {
			return err
		}
		c.log.Info("unpublished", "container", c.events.Name(ct), "ports", rules)
		c.events.Ports(api.EventUnpublish, ct, gone)
		return nil
	})
}

func parseRules(name string, rules []string) ([]model.PublishSpec, error) {
	if len(rules) == 0 {
		return nil, model.Invalidf("container %s: no port is named: write [HOSTIP:][HOSTPORT:]PORT[/tcp|udp|sctp]", name)
	}
	specs := make([]model.PublishSpec, 0, len(rules))
	for _, r := range rules {
		s, err := model.ParsePublish(r)
		if err != nil {
			return nil, containerErr(name, err)
		}
		specs = append(specs, s)
	}
	return specs, nil
}
