package control

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Connect joins an attached container to a further network.
func (c *Controller) Connect(_ context.Context, name string, in api.Connect) (api.Container, error) {
	var out api.Container
	j, err := checkJoin(in)
	if err != nil {
		return out, containerErr(name, err)
	}
	err = c.onContainer(name, func(u *undo, ct *container) error {
		if err := ct.needsEndpoints(); err != nil {
			return err
		}
		ns, err := ct.openNetns()
		if err != nil {
			return err
		}
		defer ns.Close()
		was := ct.record()
		if err := c.reserveEndpoint(u, ct, j); err != nil {
			return err
		}
		e := ct.endpoints[len(ct.endpoints)-1]
		if err := c.wire(u, e, ns); err != nil {
			return err
		}
		if err := c.commitStep(u, ct, was); err != nil {
			return err
		}
		err = c.snapshotStep(u, func() { e.live = true }, func() { e.live = false })
		if err != nil {
			return err
		}
		c.reclaim(ct)
		c.log.Info("connected", "container", ct.rec.Name, "network", e.net.rec.Name, "addresses", e.addrs)
		c.emitConnect(api.EventConnect, e)
		c.mu.Lock()
		defer c.mu.Unlock()
		out = c.viewContainerLocked(ct)
		return nil
	})
	return out, err
}

// onContainer runs an operation on a container that stands, with a list to
// undo it.
func (c *Controller) onContainer(name string, fn func(*undo, *container) error) error {
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	c.mu.Lock()
	ct, err := c.findContainerLocked(name)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	unlock, ok := c.holdContainer(ct)
	defer unlock()
	if !ok { // detached while we waited
		return notFoundf("container %s is not attached: see vswitch ps", name)
	}
	u := &undo{fault: c.fault}
	if err := fn(u, ct); err != nil {
		return c.failed(u, "container "+ct.rec.Name, containerErr(ct.rec.Name, err))
	}
	return nil
}

func (ct *container) needsEndpoints() error {
	if ct.rec.Mode != api.ModeBridge {
		return invalidf("it runs with --network %s and has no port of its own: attach it in mode bridge", ct.rec.Mode)
	}
	return nil
}

// openNetns opens the namespace a container was attached in.
func (ct *container) openNetns() (*host.Netns, error) {
	if ct.rec.Handover {
		return nil, invalidf("its runtime moves its interfaces: connect and disconnect it there, as with docker network connect")
	}
	ns, err := openNetns(ct.rec.Netns, ct.rec.PID)
	if err != nil {
		return nil, err
	}
	if dev, ino := ns.ID(); dev != ct.rec.NetnsDev || ino != ct.rec.NetnsIno {
		ns.Close()
		return nil, conflictf("its namespace is another one by now: detach it and attach it again")
	}
	return ns, nil
}

// commitStep stores a container as it stands, and again as it stood when it is
// taken back.
func (c *Controller) commitStep(u *undo, ct *container, was state.Container) error {
	return u.do("commit", func() error { return c.commit(ct) },
		func() error { return c.store.PutContainer(was, nil) })
}

// Disconnect takes a container out of a network.
func (c *Controller) Disconnect(_ context.Context, name, network string) error {
	return c.onContainer(name, func(u *undo, ct *container) error {
		if err := ct.needsEndpoints(); err != nil {
			return err
		}
		c.mu.Lock()
		n, err := c.findNetworkLocked(network)
		c.mu.Unlock()
		if err != nil {
			return err
		}
		e := ct.endpointIn(n)
		if e == nil {
			return notFoundf("it is not in network %s: see vswitch inspect %s", n.rec.Name, ct.rec.Name)
		}
		if len(ct.endpoints) == 1 {
			return conflictf("%s is its only network: detach it instead", n.rec.Name)
		}
		rest := &container{endpoints: slices.DeleteFunc(slices.Clone(ct.endpoints), func(o *endpoint) bool { return o == e })}
		for _, m := range ct.mappings {
			if !rest.serves(m.hostIP) {
				return conflictf("its published ports lead through network %s: remove them first with vswitch port rm", n.rec.Name)
			}
		}
		ns, err := ct.openNetns()
		if err != nil {
			return err
		}
		defer ns.Close()
		if err := c.leave(ct, e, ns); err != nil {
			return err
		}
		c.log.Info("disconnected", "container", ct.rec.Name, "network", n.rec.Name)
		c.emitConnect(api.EventDisconnect, e)
		return nil
	})
}

// leave takes an endpoint away for good. ns, when not nil, gets its default
// routes from other networks if this one gave them. The caller holds the name.
func (c *Controller) leave(ct *container, e *endpoint, ns *host.Netns) error {
	c.mu.Lock()
	old := ct.endpoints
	var gave [2]bool
	for _, f := range families {
		gave[f] = ct.gateway(f) == e
	}
	ct.endpoints = slices.DeleteFunc(slices.Clone(old), func(o *endpoint) bool { return o == e })
	c.mu.Unlock()
	// On disk before anything changes, so that a full disk changes nothing.
	if err := c.commit(ct); err != nil && ns != nil {
		c.mu.Lock()
		ct.endpoints = old
		c.mu.Unlock()
		return err
	}
	errs := []error{c.rebuild(), c.unplug(e), c.host.DelLink(e.veth, e.index)}
	c.mu.Lock()
	c.freeEndpointLocked(e)
	c.mu.Unlock()
	c.reclaim(ct)
	for _, f := range families {
		if heir := ct.gateway(f); gave[f] && heir != nil && ns != nil {
			errs = append(errs, c.host.SetDefaultRoute(ns, heir.ifname, subnetOf(heir.net.rec, f).Gateway))
		}
	}
	c.dropEphemeral(e.net.rec.Name)
	return errors.Join(errs...)
}

// Ports lists the published ports of a container.
func (c *Controller) Ports(_ context.Context, name string) ([]api.PortMapping, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct, err := c.findContainerLocked(name)
	if err != nil {
		return nil, err
	}
	return viewMappings(ct, ct.mappings), nil
}

// Publish adds published ports to a container, all or none, and returns them.
func (c *Controller) Publish(_ context.Context, name string, rules []string) ([]api.PortMapping, error) {
	specs, err := parseRules(name, rules)
	if err != nil {
		return nil, err
	}
	var out []api.PortMapping
	err = c.onContainer(name, func(u *undo, ct *container) error {
		if err := ct.needsEndpoints(); err != nil {
			return err
		}
		was, old := ct.record(), len(ct.mappings)
		for _, s := range specs {
			if err := c.reserveMapping(u, ct, s); err != nil {
				return err
			}
		}
		added := ct.mappings[old:]
		if err := c.commitStep(u, ct, was); err != nil {
			return err
		}
		for _, m := range added {
			err := u.do("claim", func() error { return c.claim(m) }, func() error { c.unclaim(m); return nil })
			if err != nil {
				return err
			}
		}
		set := func(on bool) func() {
			return func() {
				for _, m := range added {
					m.live = on
				}
			}
		}
		if err := c.snapshotStep(u, set(true), set(false)); err != nil {
			return err
		}
		c.log.Info("published", "container", ct.rec.Name, "ports", rules)
		c.emitPorts(api.EventPublish, ct, added)
		c.mu.Lock()
		defer c.mu.Unlock()
		out = viewMappings(ct, added)
		return nil
	})
	return out, err
}

// Unpublish takes published ports away, all or none. A rule without a host port
// means every mapping to its container ports.
func (c *Controller) Unpublish(_ context.Context, name string, rules []string) error {
	specs, err := parseRules(name, rules)
	if err != nil {
		return err
	}
	return c.onContainer(name, func(u *undo, ct *container) error {
		gone := make(map[*mapping]bool)
		for i, s := range specs {
			found := false
			for _, m := range ct.mappings {
				if m.matches(s) {
					gone[m], found = true, true
				}
			}
			if !found {
				return notFoundf("%s is not published: see vswitch port ls %s", rules[i], ct.rec.Name)
			}
		}
		if err := c.withdrawPorts(ct, gone); err != nil {
			return err
		}
		c.log.Info("unpublished", "container", ct.rec.Name, "ports", rules)
		c.emitPorts(api.EventUnpublish, ct, slices.Collect(maps.Keys(gone)))
		return nil
	})
}

// withdrawPorts takes mappings away for good. The caller holds the name.
func (c *Controller) withdrawPorts(ct *container, gone map[*mapping]bool) error {
	c.mu.Lock()
	old := ct.mappings
	ct.mappings = slices.DeleteFunc(slices.Clone(old), func(m *mapping) bool { return gone[m] })
	c.mu.Unlock()
	if err := c.commit(ct); err != nil {
		c.mu.Lock()
		ct.mappings = old
		c.mu.Unlock()
		return err
	}
	errs := []error{c.rebuild()}
	for m := range gone {
		c.sw.FlushConns(m.carries)
		errs = append(errs, c.releasePorts(m))
	}
	return errors.Join(errs...)
}

func parseRules(name string, rules []string) ([]PublishSpec, error) {
	if len(rules) == 0 {
		return nil, invalidf("container %s: no port is named: write [HOSTIP:][HOSTPORT:]PORT[/tcp|udp|sctp]", name)
	}
	specs := make([]PublishSpec, 0, len(rules))
	for _, r := range rules {
		s, err := ParsePublish(r)
		if err != nil {
			return nil, containerErr(name, err)
		}
		specs = append(specs, s)
	}
	return specs, nil
}

// matches reports whether a rule names the mapping.
func (m *mapping) matches(s PublishSpec) bool {
	if m.proto != s.Proto || m.target != s.First || m.last-m.first != s.Last-s.First {
		return false
	}
	if s.HostIP.IsValid() && s.HostIP != m.hostIP {
		return false
	}
	return s.HostFirst == 0 || s.HostFirst <= m.first && m.last <= s.HostLast
}

// carries reports whether a connection came in through the mapping.
func (m *mapping) carries(i dataplane.ConnInfo) bool {
	o := i.Orig
	return i.Kind != dataplane.ConnMasquerade && o.Proto == m.proto && m.first <= o.DstPort && o.DstPort <= m.last &&
		(!m.hostIP.IsValid() || m.hostIP.IsUnspecified() && m.hostIP.Is4() == o.Dst.Is4() || o.Dst == header.AddrFrom(m.hostIP))
}
