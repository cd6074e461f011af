package control

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/plan"
	"github.com/vswitch/vswitch/control/process"
	"github.com/vswitch/vswitch/control/state"
)

// change is a change of one container: its delta, and what the steps of its plan act on.
// Who makes one holds the container's name, and calls apply once.
type change struct {
	c     *Controller
	ct    *inventory.Container
	delta plan.Container
	ns    edge.Netns // of the container; nil: its ends wait for their runtime, or it is gone
	force bool       // what is lost goes whatever the disk says
	spare bool       // no cable is removed when a step fails

	// By the delta's numbers. What is gained was asked for or, with delta.Found, is on
	// record; its steps make the endpoints and mappings, which a loss has already.
	joins     []model.JoinPlan
	specs     []model.PublishSpec
	caller    int      // process that asks for it by the API, 0: not known
	kept      []uint64 // cookies of the sockets by which programs keep ports on record
	byHand    bool     // somebody adds the ports, or takes them away for good: the runtime knows nothing of it
	found     []foundEndpoint
	endpoints []*inventory.Endpoint
	mappings  []*inventory.Mapping

	was    state.Container // of a container that stays
	name   string          // that it gets, with delta.Rename
	labels map[string]string
	routed [2]bool // by families: a lost endpoint gives the default route
}

// foundEndpoint is the record of an endpoint, and the network it means.
type foundEndpoint struct {
	rec state.Endpoint
	net *inventory.Network
}

// newChange changes nothing yet.
func newChange(c *Controller, ct *inventory.Container) *change {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &change{c: c, ct: ct, was: ct.Record()}
}

// join adds endpoints that the container is to have.
func (h *change) join(joins ...model.JoinPlan) {
	for _, j := range joins {
		h.joins, h.endpoints = append(h.joins, j), append(h.endpoints, nil)
		h.delta.Endpoints = append(h.delta.Endpoints, strings.TrimSpace(j.Network+" "+j.Ifname))
	}
}

// publish adds ports that the container is to have.
func (h *change) publish(specs ...model.PublishSpec) {
	for _, s := range specs {
		h.specs, h.mappings = append(h.specs, s), append(h.mappings, nil)
		h.delta.Ports = append(h.delta.Ports, s.String())
	}
}

// recover adds endpoints that the container had.
func (h *change) recover(list []foundEndpoint) {
	h.found, h.endpoints = list, make([]*inventory.Endpoint, len(list))
	for _, f := range list {
		h.delta.Endpoints = append(h.delta.Endpoints, f.rec.Ifname)
	}
}

// label says which labels the container is to have.
func (h *change) label(labels map[string]string) {
	h.labels, h.delta.Relabel = labels, true
}

// lose names endpoints and ports of the container that go.
func (h *change) lose(endpoints []*inventory.Endpoint, mappings []*inventory.Mapping) {
	h.delta.Gone = true
	h.endpoints, h.mappings = endpoints, mappings
	for _, e := range endpoints {
		h.delta.Endpoints = append(h.delta.Endpoints, e.Network.Rec.Name+" "+e.Ifname)
		for _, f := range model.Families {
			h.routed[f] = h.routed[f] || h.ct.Gateway(f) == e
		}
	}
	h.delta.Ports = inventory.PortTexts(mappings)
}

// withdraw takes endpoints and published ports away for good. When ns is not nil, other
// networks give it the default routes that it had by them.
func (h *change) withdraw(ns edge.Netns, endpoints []*inventory.Endpoint, mappings []*inventory.Mapping) error {
	h.ns, h.delta.Reroute = ns, ns != nil
	h.lose(endpoints, mappings)
	return h.apply()
}

// withdrawAll takes the container away with all it has, whatever the disk says.
func (h *change) withdrawAll() error {
	h.delta.Whole, h.delta.Bound, h.delta.Unattended = true, h.ct.Process != nil, h.ct.Rec.Handover
	h.force = true
	h.lose(h.ct.Endpoints, h.ct.Mappings)
	if err := h.apply(); err != nil {
		return containerErr(h.ct.Called(), err)
	}
	return nil
}

// apply performs the change. A gain is all or nothing. A loss goes to its end once the disk
// has it.
func (h *change) apply() error {
	p := h.delta.Plan()
	h.c.log.Debug("plan", "container", h.ct.Rec.Name, "steps", p)
	var err, undone error
	if h.delta.Gone {
		err, undone = p.Lose(h.do, h.force)
	} else {
		err, undone = p.Apply(h.do)
	}
	if undone != nil {
		h.c.log.Error("roll back", "of", "container "+h.ct.Called(), "err", joined(undone))
	}
	if h.delta.Gone {
		if !h.byHand {
			h.c.byHand.Keep(h.ct, h.mappings)
		}
		for _, e := range h.endpoints {
			h.c.dropEphemeral(e.Network.Rec.Name)
		}
	}
	return err
}

// fault lets tests fail steps, also while a change nobody waits for is under way.
type fault struct {
	fn atomic.Pointer[func(plan.Step) error]
}

func (f *fault) of(s plan.Step) error {
	if fn := f.fn.Load(); fn != nil {
		return (*fn)(s)
	}
	return nil
}

// do performs one step.
func (h *change) do(s plan.Step) error {
	if err := h.c.fault.of(s); err != nil {
		return err
	}
	c := h.c
	switch s.Kind {
	case plan.Bind:
		return h.bind()
	case plan.Unbind:
		h.ct.Process.Close()
	case plan.Enter:
		return h.enter()
	case plan.Leave:
		h.leave()
	case plan.Address:
		return h.takeAddress(s.N)
	case plan.Free:
		h.freeAddress(h.endpoints[s.N])
	case plan.Hold:
		return h.hold(s.N)
	case plan.Release:
		return h.release(h.mappings[s.N])
	case plan.Cable:
		return h.makeCable(h.endpoints[s.N])
	case plan.Adopt:
		return h.adoptCable(h.endpoints[s.N])
	case plan.Cut:
		if e := h.endpoints[s.N]; !h.spare {
			return c.edge.DelLink(e.Veth, e.Index)
		}
	case plan.Plug:
		err := h.plug(h.endpoints[s.N])
		if err == nil { // also of one that was found: its network's device may be another
			h.introduce(h.endpoints[s.N])
		}
		return err
	case plan.Unplug:
		return h.unplug(h.endpoints[s.N])
	case plan.Drop:
		h.dropCable(h.endpoints[s.N])
	case plan.Rename:
		h.rename(h.name)
	case plan.Unname:
		h.rename(h.was.Name)
	case plan.Label:
		h.relabel(h.labels)
	case plan.Unlabel:
		h.relabel(h.was.Labels)
	case plan.Store:
		return h.store()
	case plan.Unstore:
		return h.unstore()
	case plan.Claim:
		return h.claim(h.mappings[s.N])
	case plan.Unclaim:
		c.claims.Unclaim(h.mappings[s.N].Ports)
	case plan.Ready:
		h.list(true)
	case plan.Unready:
		h.list(false)
	case plan.Show:
		return h.show()
	case plan.Hide:
		return h.hide()
	case plan.Reclaim:
		h.reclaim()
	case plan.Reroute:
		return h.reroute()
	default:
		panic(fmt.Sprintf("control: step %s of a container", s))
	}
	return nil
}

// bind opens the process that the container is bound to.
func (h *change) bind() (err error) {
	rec := &h.ct.Rec
	if h.ct.Process, err = process.Open(rec.PID); err != nil {
		return model.Invalidf("%w", err)
	}
	if h.delta.Found && h.ct.Process.Start != rec.PIDStart {
		h.ct.Process.Close()
		return fmt.Errorf("process %d has ended", rec.PID)
	}
	rec.PIDStart = h.ct.Process.Start
	return nil
}

// enter gives the container its name.
func (h *change) enter() error {
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.ct.Rec.Mode == api.ModeContainer && !h.delta.Found {
		if _, err := c.inv.Container(h.ct.Rec.Peer); err != nil {
			return err
		}
	}
	c.inv.Enter(h.ct)
	return nil
}

func (h *change) leave() {
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inv.Forget(h.ct)
}

func (h *change) rename(name string) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.inv.Rename(h.ct, name)
}

func (h *change) relabel(labels map[string]string) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.ct.Rec.Labels = labels
	h.c.inv.Changed(h.ct) // they say which container it is of
}

// store puts on disk what the container will be.
func (h *change) store() error {
	c := h.c
	if h.delta.Whole && h.delta.Gone {
		return c.store.DeleteContainer(h.ct.Rec.ID)
	}
	c.mu.Lock()
	next := *h.ct
	if h.delta.Gone {
		next.Endpoints, next.Mappings = inventory.Without(next.Endpoints, h.endpoints), inventory.Without(next.Mappings, h.mappings)
	}
	rec := next.Record()
	cursors := make(map[string][]netip.Addr)
	for _, e := range next.Endpoints {
		cursors[e.Network.Rec.ID] = e.Network.Addrs.Cursors()
	}
	latest := c.inv.Numbers.Latest()
	c.mu.Unlock()
	return c.store.PutContainer(rec, cursors, latest)
}

func (h *change) unstore() error {
	if h.delta.Whole {
		return h.c.store.DeleteContainer(h.ct.Rec.ID)
	}
	return h.c.store.PutContainer(h.was, nil, nil)
}

// list says what of the change the next snapshot has.
func (h *change) list(on bool) {
	c := h.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.delta.Whole {
		h.ct.Ready = on
	}
	for _, e := range h.endpoints {
		e.Live = on
	}
	for _, m := range h.mappings {
		m.Live = on
	}
	c.inv.Changed(h.ct)
}

func (h *change) show() error {
	if slices.ContainsFunc(h.endpoints, func(e *inventory.Endpoint) bool { return e.Egress != "" }) {
		if err := h.c.underlay.Sync(); err != nil { // it is tried again when something changes
			h.c.log.Error("follow the host's network", "err", joined(err))
		}
	}
	err := h.c.builder.show(h.list)
	if err == nil {
		h.announce()
	}
	return err
}

// hide takes what goes out of the container and of the snapshot, and ends the flows that
// came in by its ports, the host's own too. Unplug ends the flows of its endpoints.
func (h *change) hide() error {
	c := h.c
	c.mu.Lock()
	h.ct.Endpoints, h.ct.Mappings = inventory.Without(h.ct.Endpoints, h.endpoints), inventory.Without(h.ct.Mappings, h.mappings)
	c.mu.Unlock()
	h.list(false)
	err := c.builder.rebuild()
	c.mu.Lock()
	relay := c.relay
	c.mu.Unlock()
	if relay != nil { // else nothing has begun
		relay.Recheck()
	}
	if !h.delta.Whole {
		for _, m := range h.mappings {
			c.sw.FlushConns(m.Flows())
		}
	}
	return err
}

// reroute gives the container's default routes to the networks that are left, or to one that it
// has joined and whose interface comes before the one that has had them.
func (h *change) reroute() error {
	var errs []error
	for _, f := range model.Families {
		if e := h.ct.Gateway(f); !h.delta.Gone && slices.Contains(h.endpoints, e) {
			h.routed[f] = slices.ContainsFunc(h.ct.Endpoints, func(o *inventory.Endpoint) bool { return o != e && o.LeadsOut(f) })
		}
		if heir := h.ct.Gateway(f); h.routed[f] && heir != nil {
			errs = append(errs, h.c.edge.SetDefaultRoute(h.ns, heir.Ifname, model.SubnetOf(heir.Network.Rec, f).Gateway))
		}
	}
	return errors.Join(errs...)
}
