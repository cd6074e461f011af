package control

import (
	"context"
	"errors"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/process"
)

// Attach registers a container and wires it. The same request again returns the
// container that stands.
func (c *Controller) Attach(_ context.Context, in api.Attach) (api.Container, error) {
	leave, err := c.enter()
	if err != nil {
		return api.Container{}, err
	}
	defer leave()
	plan, err := c.checkAttach(in)
	if err != nil {
		return api.Container{}, err
	}
	defer c.lockRuntime(plan.rec.Runtime, plan.rec.RuntimeID)()
	c.nameOfRuntime(&plan)
	name := plan.rec.Name
	defer c.names.lock(ofContainer(name))()

	var ns *host.Netns
	if plan.rec.Netns != "" || plan.rec.PID != 0 {
		if ns, err = openNetns(plan.rec.Netns, plan.rec.PID); err != nil {
			return api.Container{}, containerErr(name, err)
		}
		defer ns.Close()
		plan.rec.NetnsDev, plan.rec.NetnsIno = ns.ID()
		if plan.rec.Mode == api.ModeBridge && c.host.IsHost(ns) {
			return api.Container{}, invalidf("container %s: the namespace is the host's own: give that of a container, or use --network host", name)
		}
	}
	u := &undo{fault: c.fault}
	start := time.Now()
	ct, err := c.further(plan)
	if err != nil {
		return api.Container{}, err
	}
	if ct != nil {
		err = c.extend(u, ct, plan, ns)
	} else {
		var have *api.Container
		if have, err = c.repeated(plan); have != nil {
			return *have, nil
		}
		if err != nil {
			return api.Container{}, err
		}
		if ct, err = c.attach(u, plan, ns); err == nil {
			c.watchProcess(ct)
		}
	}
	if err != nil {
		err = c.failed(u, "container "+name, containerErr(name, err))
		for _, j := range plan.joins {
			c.dropEphemeral(j.network)
		}
		return api.Container{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log.Info("attached", "container", name, "mode", plan.rec.Mode, "addresses", addresses(ct), "took", time.Since(start).Round(10*time.Microsecond))
	c.emitAttachLocked(ct)
	return c.viewContainerLocked(ct), nil
}

func openNetns(path string, pid int) (*host.Netns, error) {
	var ns *host.Netns
	var err error
	if path != "" {
		ns, err = host.OpenNetns(path)
	} else {
		ns, err = host.OpenNetnsPID(pid)
	}
	return ns, wrapHost(err)
}

// repeated returns the container when it stands as asked, and an error when
// another one has the name.
func (c *Controller) repeated(p attachPlan) (*api.Container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct := c.containers[p.rec.Name]
	if ct == nil {
		return nil, nil
	}
	name := p.rec.Name
	switch {
	case ct.rec.NetnsDev != p.rec.NetnsDev || ct.rec.NetnsIno != p.rec.NetnsIno:
		return nil, conflictf("container %s is attached already: in another namespace: detach it first or choose another name", name)
	case ct.rec.Digest != p.rec.Digest:
		return nil, conflictf("container %s is attached already: with other options: detach it first or choose another name", name)
	}
	v := c.viewContainerLocked(ct)
	return &v, nil
}

// attach performs a plan. The caller holds the name and rolls back on error.
func (c *Controller) attach(u *undo, p attachPlan, ns *host.Netns) (*container, error) {
	ct := &container{rec: p.rec}
	if p.rec.Bound {
		err := u.do("process", func() (err error) {
			if ct.proc, err = process.Open(p.rec.PID); err != nil {
				return invalidf("%w", err)
			}
			ct.rec.PIDStart = ct.proc.Start
			return nil
		}, func() error { ct.proc.Close(); return nil })
		if err != nil {
			return nil, err
		}
	}
	err := u.do("name", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if p.rec.Mode == api.ModeContainer {
			if _, err := c.findContainerLocked(p.rec.Peer); err != nil {
				return err
			}
		}
		c.containers[p.rec.Name] = ct
		return nil
	}, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.containers, p.rec.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, j := range p.joins {
		if err := c.reserveEndpoint(u, ct, j); err != nil {
			return nil, err
		}
	}
	for _, s := range p.publish {
		if err := c.reserveMapping(u, ct, s); err != nil {
			return nil, err
		}
	}
	for _, e := range ct.endpoints {
		if err := c.wire(u, e, ns); err != nil {
			return nil, err
		}
	}
	// On disk before any frame passes: on a full disk nothing happens.
	err = u.do("commit", func() error { return c.commit(ct) },
		func() error { return c.store.DeleteContainer(ct.rec.ID) })
	if err != nil {
		return nil, err
	}
	for _, m := range ct.mappings {
		err := u.do("claim", func() error { return c.claim(m) }, func() error { c.unclaim(m); return nil })
		if err != nil {
			return nil, err
		}
	}
	return ct, c.snapshotStep(u, func() { ct.show(true) }, func() { ct.show(false) })
}

// snapshotStep changes what the snapshot shows.
func (c *Controller) snapshotStep(u *undo, change, back func()) error {
	set := func(fn func()) error {
		c.mu.Lock()
		fn()
		c.mu.Unlock()
		return c.rebuild()
	}
	err := u.do("snapshot", func() error {
		if err := set(change); err != nil {
			return errors.Join(err, set(back))
		}
		return nil
	}, func() error { return set(back) })
	return err
}

// show sets what of a container is compiled. The caller holds mu.
func (ct *container) show(on bool) {
	ct.ready = on
	for _, e := range ct.endpoints {
		e.live = on
	}
	for _, m := range ct.mappings {
		m.live = on
	}
}

func addresses(ct *container) []string {
	list := make([]string, 0, len(ct.endpoints))
	for _, e := range ct.endpoints {
		for _, a := range e.addrs {
			list = append(list, a.String())
		}
	}
	return list
}
