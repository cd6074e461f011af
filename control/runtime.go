package control

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
)

// maxRuntimeID is what a runtime's identifier may have: runc and crun use it as
// the name of a directory (NAME_MAX).
const maxRuntimeID = 255

// ofRuntime is the key in names under which a runtime's requests for one of its
// containers take turns, before that of the container's name: a Release that
// comes while Attach still runs waits for it, and finds what it made.
func ofRuntime(runtime, id string) string { return "runtime " + runtime + " " + id }

func (c *Controller) lockRuntime(runtime, id string) (unlock func()) {
	if runtime == "" {
		return func() {}
	}
	return c.names.lock(ofRuntime(runtime, id))
}

// checkRuntime accepts a word and an identifier, both or neither.
func checkRuntime(runtime, id string) error {
	if (runtime == "") != (id == "") {
		return invalidf("runtime %q and runtime id %q: give both or neither", runtime, id)
	}
	for i, b := range []byte(runtime) {
		if !(b >= 'a' && b <= 'z' || i > 0 && (b >= '0' && b <= '9' || b == '-')) || len(runtime) > maxName {
			return invalidf("runtime %.20q: use a short word of a-z, 0-9 and -", runtime)
		}
	}
	if len(id) > maxRuntimeID {
		return invalidf("runtime id %.20q... is %d bytes long: at most %d are kept", id, len(id), maxRuntimeID)
	}
	for _, b := range []byte(id) {
		if b <= ' ' || b >= 0x7f || b == '/' {
			return invalidf("runtime id %.40q: use printable ASCII without blanks and /", id)
		}
	}
	return nil
}

// byRuntimeLocked returns what a runtime attached, or is attaching, as id.
func (c *Controller) byRuntimeLocked(runtime, id string) *container {
	for _, ct := range c.containers {
		if runtime != "" && ct.rec.Runtime == runtime && ct.rec.RuntimeID == id {
			return ct
		}
	}
	return nil
}

// nameOfRuntime makes a plan for a container that its runtime has attached
// before one for the container that stands.
func (c *Controller) nameOfRuntime(p *attachPlan) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ct := c.byRuntimeLocked(p.rec.Runtime, p.rec.RuntimeID); ct != nil {
		p.rec.Name = ct.rec.Name
	}
}

// further returns the container that a runtime adds to, nil when the plan is no
// addition. The caller holds the name.
func (c *Controller) further(p attachPlan) (*container, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct := c.containers[p.rec.Name]
	switch {
	case ct == nil, p.rec.Runtime == "", ct.rec.Runtime != p.rec.Runtime, ct.rec.RuntimeID != p.rec.RuntimeID:
		return nil, nil
	case ct.rec.NetnsDev != p.rec.NetnsDev || ct.rec.NetnsIno != p.rec.NetnsIno:
		return nil, conflictf("container %s of %s is attached already: in another namespace: release it first", ct.rec.Name, ct.rec.Runtime)
	case ct.rec.Mode != api.ModeBridge || p.rec.Mode != api.ModeBridge:
		return nil, conflictf("container %s of %s is attached already: with another mode: release it first", ct.rec.Name, ct.rec.Runtime)
	}
	return ct, nil
}

// extend gives a container the interfaces, ports and labels of a plan that it
// lacks. The caller holds the name and rolls back on error.
func (c *Controller) extend(u *undo, ct *container, p attachPlan, ns *host.Netns) error {
	was := ct.record()
	oldEndpoints, oldMappings := len(ct.endpoints), len(ct.mappings)
	for _, j := range p.joins {
		stands, err := c.stands(ct, j)
		if err == nil && !stands {
			err = c.reserveEndpoint(u, ct, j)
		}
		if err != nil {
			return err
		}
	}
	for _, s := range p.publish {
		if slices.ContainsFunc(ct.mappings, func(m *mapping) bool { return m.hostIP == s.HostIP && m.matches(s) }) {
			continue
		}
		if err := c.reserveMapping(u, ct, s); err != nil {
			return err
		}
	}
	endpoints, mappings := ct.endpoints[oldEndpoints:], ct.mappings[oldMappings:]
	labels := maps.Clone(was.Labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	maps.Copy(labels, p.rec.Labels)
	if len(endpoints)+len(mappings) == 0 && maps.Equal(labels, was.Labels) {
		return nil
	}
	for _, e := range endpoints {
		if err := c.wire(u, e, ns); err != nil {
			return err
		}
	}
	err := u.do("labels", func() error { c.setLabels(ct, labels); return nil },
		func() error { c.setLabels(ct, was.Labels); return nil })
	if err != nil {
		return err
	}
	if err := c.commitStep(u, ct, was); err != nil {
		return err
	}
	for _, m := range mappings {
		err := u.do("claim", func() error { return c.claim(m) }, func() error { c.unclaim(m); return nil })
		if err != nil {
			return err
		}
	}
	show := func(on bool) func() {
		return func() {
			for _, e := range endpoints {
				e.live = on
			}
			for _, m := range mappings {
				m.live = on
			}
		}
	}
	if err := c.snapshotStep(u, show(true), show(false)); err != nil {
		return err
	}
	c.reclaim(ct)
	return nil
}

// stands reports whether a container has what a plan would join, and refuses
// what it has otherwise.
func (c *Controller) stands(ct *container, j joinPlan) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.findNetworkLocked(j.network)
	if err != nil {
		return false, err
	}
	e := ct.endpointNamed(j.ifname)
	if j.ifname == "" {
		e = ct.endpointIn(n)
	}
	if e == nil {
		return false, nil
	}
	if e.net != n {
		return false, conflictf("interface %s is its port in network %s: choose another name", e.ifname, e.net.rec.Name)
	}
	for _, f := range families {
		if j.ips[f].IsValid() && e.addr(f) != j.ips[f] {
			return false, conflictf("interface %s stands already with address %s: release it first", e.ifname, e.addr(f))
		}
	}
	if !j.mac.IsZero() && e.mac != j.mac {
		return false, conflictf("interface %s stands already with MAC address %s: release it first", e.ifname, e.mac)
	}
	return true, nil
}

func (ct *container) endpointNamed(ifname string) *endpoint {
	for _, e := range ct.endpoints {
		if e.ifname == ifname {
			return e
		}
	}
	return nil
}

func (c *Controller) setLabels(ct *container, labels map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ct.rec.Labels = labels
}

// Release undoes what a runtime attached: one interface, or with the last one
// the container. What is not there is no error.
func (c *Controller) Release(_ context.Context, in api.Release) error {
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := checkRuntime(in.Runtime, in.RuntimeID); err != nil {
		return err
	}
	if in.Runtime == "" {
		return invalidf("whose container: give runtime and runtime_id, or use detach")
	}
	return c.releaseOf(in, func(*endpoint) bool { return true })
}

// releaseOf takes away the interfaces of a runtime's container that are named
// and for which gone says yes.
func (c *Controller) releaseOf(in api.Release, gone func(*endpoint) bool) error {
	defer c.lockRuntime(in.Runtime, in.RuntimeID)()
	c.mu.Lock()
	ct := c.byRuntimeLocked(in.Runtime, in.RuntimeID)
	c.mu.Unlock()
	if ct == nil {
		return nil
	}
	unlock, ok := c.holdContainer(ct)
	defer unlock()
	if !ok {
		return nil
	}
	name := ct.rec.Name
	var list []*endpoint
	for _, e := range ct.endpoints {
		if (in.Ifname == "" || e.ifname == in.Ifname) && gone(e) {
			list = append(list, e)
		}
	}
	if len(list) == len(ct.endpoints) && (in.Ifname == "" || len(list) > 0) {
		err := c.release(ct)
		c.log.Info("released", "container", name, "reason", "released by "+in.Runtime)
		return err
	}
	var errs []error
	for _, e := range list {
		errs = append(errs, c.withdraw(ct, e))
		c.log.Info("disconnected", "container", name, "network", e.net.rec.Name, "interface", e.ifname, "reason", "released by "+in.Runtime)
	}
	return errors.Join(errs...)
}

// withdraw takes one of several interfaces away, and published ports that the
// others cannot serve with it. That the namespace has vanished is no obstacle.
func (c *Controller) withdraw(ct *container, e *endpoint) error {
	rest := &container{endpoints: slices.DeleteFunc(slices.Clone(ct.endpoints), func(o *endpoint) bool { return o == e })}
	gone := make(map[*mapping]bool)
	for _, m := range ct.mappings {
		if !rest.serves(m.hostIP) {
			gone[m] = true
		}
	}
	var errs []error
	if len(gone) > 0 {
		if err := c.withdrawPorts(ct, gone); err != nil {
			return containerErr(ct.rec.Name, err)
		}
	}
	ns, err := ct.openNetns()
	if err == nil {
		defer ns.Close()
	} else {
		ns = nil
	}
	if err := errors.Join(append(errs, c.leave(ct, e, ns))...); err != nil {
		return containerErr(ct.rec.Name, err)
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
		return out, invalidf("garbage of which runtime: give its name; what was attached by hand is detached by hand")
	}
	if in.Valid == nil {
		return out, nil
	}
	valid := make(map[api.Attachment]bool, len(in.Valid))
	for _, a := range in.Valid {
		valid[a] = true
	}
	stale := func(ct *container, e *endpoint) bool {
		return e.live && (in.Network == "" || e.runtimeNetwork() == in.Network) &&
			!valid[api.Attachment{RuntimeID: ct.rec.RuntimeID}] && !valid[api.Attachment{RuntimeID: ct.rec.RuntimeID, Ifname: e.ifname}]
	}
	var found []api.Attachment
	c.mu.Lock()
	for _, ct := range c.sortedContainersLocked() {
		if ct.rec.Runtime != in.Runtime {
			continue
		}
		for _, e := range ct.endpoints {
			if stale(ct, e) {
				found = append(found, api.Attachment{RuntimeID: ct.rec.RuntimeID, Ifname: e.ifname})
			}
		}
	}
	c.mu.Unlock()
	var errs []error
	for _, a := range found {
		err := c.releaseOf(api.Release{Runtime: in.Runtime, RuntimeID: a.RuntimeID, Ifname: a.Ifname},
			func(e *endpoint) bool { return stale(e.ct, e) })
		if err == nil {
			out.Released = append(out.Released, a)
		}
		errs = append(errs, err)
	}
	return out, errors.Join(errs...)
}

// runtimeNetwork is the runtime's name of an endpoint's network.
func (e *endpoint) runtimeNetwork() string {
	if e.runtimeNet != "" {
		return e.runtimeNet
	}
	return e.net.rec.Name
}

// selects reports whether a filter takes a container.
func selects(f api.ContainerFilter, ct *container) bool {
	return (f.Runtime == "" || f.Runtime == ct.rec.Runtime) &&
		(f.RuntimeID == "" || f.RuntimeID == ct.rec.RuntimeID) &&
		(f.Network == "" || slices.ContainsFunc(ct.endpoints, func(e *endpoint) bool { return e.net.rec.Name == f.Network }))
}

// idIs reports whether a container can be called by the beginning of an ID:
// the daemon's own or the runtime's.
func (ct *container) idIs(prefix string) bool {
	return strings.HasPrefix(ct.rec.ID, prefix) || strings.HasPrefix(ct.rec.RuntimeID, prefix)
}
