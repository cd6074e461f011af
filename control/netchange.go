package control

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/plan"
	"github.com/vswitch/vswitch/control/state"
)

// netChange is a change of one network, like change. Who makes one holds the network's
// name, and calls apply once.
type netChange struct {
	c     *Controller
	n     *inventory.Network
	delta plan.Network
	// The record before and after, with delta.Amend.
	was, rec state.Network
	closed   bool // the device, which the switch had
}

// apply performs the change as change.apply does.
func (h *netChange) apply() error {
	p := h.delta.Plan()
	h.c.log.Debug("plan", "network", h.n.Rec.Name, "steps", p)
	var err, undone error
	if h.delta.Gone {
		err, undone = p.Lose(h.do, false)
	} else {
		err, undone = p.Apply(h.do)
	}
	if undone != nil {
		h.c.log.Error("roll back", "of", "network "+h.n.Called(), "err", joined(undone))
	}
	return err
}

// do performs one step.
func (h *netChange) do(s plan.Step) error {
	if err := h.c.fault.of(s); err != nil {
		return err
	}
	c, n := h.c, h.n
	switch s.Kind {
	case plan.Enter:
		return h.enter()
	case plan.Leave:
		h.leave()
	case plan.Number:
		return h.takeNumbers()
	case plan.Unnumber:
		h.freeNumbers()
	case plan.Device:
		return h.openDevice()
	case plan.Remove:
		return h.removeDevice()
	case plan.Route:
		return h.claimSubnets()
	case plan.Unroute:
		return h.dropSubnets()
	case plan.Carry:
		if err := n.TAP.Carry(n.Rec.PortNumber); err != nil {
			c.log.Warn("what the host sends into a network stays out of the flow table", "network", n.Called(), "interface", n.Rec.TAP, "err", err)
		}
	case plan.Plug:
		return h.plug()
	case plan.Unplug:
		return h.unplug()
	case plan.Store:
		return h.store()
	case plan.Unstore:
		if h.delta.Amend {
			return c.store.PutNetwork(h.was, nil)
		}
		return c.store.DeleteNetwork(n.Rec.ID)
	case plan.Ready:
		h.list(true)
	case plan.Unready:
		h.list(false)
	case plan.Show:
		return h.show()
	case plan.Reopen:
		h.list(true) // whatever becomes of the snapshot: without it nobody could remove the network
		return c.builder.rebuild()
	case plan.Hide:
		h.list(false)
		return c.builder.rebuild()
	case plan.Shut:
		return h.shut()
	case plan.Amend:
		return h.amend(h.rec)
	case plan.Restore:
		return h.amend(h.was)
	default:
		panic(fmt.Sprintf("control: step %s of a network", s))
	}
	return nil
}

// choose fills in the name of the device and the MTU, where the request leaves them to us.
func (h *netChange) choose() error {
	c, rec := h.c, &h.n.Rec
	if rec.TAP == "" {
		rec.TAP = "vs-" + rec.ID[:10] // host.Link.HalfMade knows it
	} else if _, err := c.edge.Link(rec.TAP); err == nil {
		return model.Conflictf("network %s: interface %s exists on the host already: choose another name", rec.Name, rec.TAP)
	}
	if rec.MTU == 0 {
		rec.MTU = h.defaultMTU(model.HasFamily(*rec, model.IPv6))
	}
	return nil
}

// defaultMTU is the smallest of the uplinks, so that no packet on its way out
// is too big.
func (h *netChange) defaultMTU(speaksIPv6 bool) int {
	mtu := 0
	for _, up := range h.c.underlay.Now().Uplinks {
		if mtu == 0 || up.Link.MTU < mtu {
			mtu = up.Link.MTU
		}
	}
	if mtu == 0 {
		mtu = 1500
	}
	if speaksIPv6 {
		mtu = max(mtu, model.MinMTU6)
	}
	return mtu
}

// enter gives the network its name and the subnets that it did not name.
func (h *netChange) enter() error {
	if !h.delta.Found {
		return h.reserveSubnets()
	}
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.inv.EnterNetwork(h.n)
	return nil
}

func (h *netChange) leave() {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.inv.ForgetNetwork(h.n)
}

func (h *netChange) takeNumbers() error {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	return h.c.inv.Numbers.TakeNetwork(h.n)
}

func (h *netChange) freeNumbers() {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.c.inv.Numbers.FreeNetwork(h.n)
}

// openDevice makes the TAP device, or takes over the one that there is.
func (h *netChange) openDevice() (err error) {
	n := h.n
	n.TAP, err = h.c.edge.OpenDevice(edge.DeviceSpec{
		Name: n.Rec.TAP, Alias: h.c.inv.Marks.OfNetwork(n.Rec),
		MAC: net.HardwareAddr(n.MAC[:]), MTU: n.Rec.MTU, Addrs: model.GatewayPrefixes(n.Rec),
	})
	if err != nil {
		return fmt.Errorf("network %s: %w", n.Called(), err)
	}
	h.c.mu.Lock()
	n.TAPIndex = n.TAP.Index() // who looks at the host's routes meanwhile wants to know ours
	h.c.mu.Unlock()
	return nil
}

func (h *netChange) removeDevice() error {
	var err error
	if !h.closed {
		err = h.n.TAP.Close()
	}
	return errors.Join(err, h.c.edge.DelLink(h.n.Rec.TAP, h.n.TAPIndex))
}

// claimSubnets says which subnets are ours. One that is not routed has its claims on addresses
// of the host.
func (h *netChange) claimSubnets() error {
	for _, s := range h.n.Rec.Subnets {
		if err := h.c.edge.ClaimSubnet(s.Prefix, h.n.Routes(s)); err != nil {
			return errors.Join(fmt.Errorf("network %s: %w", h.n.Called(), err), h.dropSubnets())
		}
	}
	return nil
}

func (h *netChange) dropSubnets() error {
	var errs []error
	for _, s := range h.n.Rec.Subnets {
		errs = append(errs, h.c.edge.DropSubnet(s.Prefix))
	}
	return errors.Join(errs...)
}

// plug gives the device to the switch.
func (h *netChange) plug() error {
	c, n := h.c, h.n
	if err := c.sw.AddPort(n.Port, n.TAP.Descriptor()); err != nil {
		return fmt.Errorf("network %s: %w", n.Called(), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.byPort[n.Port] = portOwner{net: n}
	n.Plugged = true
	c.inv.ChangedNetwork(n)
	return nil
}

// unplug takes it back, and closes it.
func (h *netChange) unplug() error {
	c, n := h.c, h.n
	c.mu.Lock()
	delete(c.byPort, n.Port)
	n.Plugged = false
	c.inv.ChangedNetwork(n)
	c.mu.Unlock()
	err := errors.Join(c.sw.RemovePort(n.Port), n.TAP.Close())
	h.closed = true
	return err
}

func (h *netChange) store() error {
	switch {
	case h.delta.Gone:
		return h.c.store.DeleteNetwork(h.n.Rec.ID)
	case h.delta.Amend:
		return h.c.store.PutNetwork(h.rec, nil)
	}
	h.c.mu.Lock()
	rec, latest := h.n.Rec, h.c.inv.Numbers.Latest()
	h.c.mu.Unlock()
	return h.c.store.PutNetwork(rec, latest)
}

// list says whether the next snapshot has the network.
func (h *netChange) list(on bool) {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	h.n.Ready = on
	h.c.inv.ChangedNetwork(h.n)
}

func (h *netChange) show() error { return h.c.builder.show(h.list) }

// shut lets nobody join a network in which nobody is.
func (h *netChange) shut() error {
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	if len(h.n.Members) > 0 {
		return model.Conflictf("network %s is in use by %s: detach or disconnect them first", h.n.Called(), strings.Join(h.n.MemberNames(), ", "))
	}
	h.n.Ready = false
	h.c.inv.ChangedNetwork(h.n)
	return nil
}

// amend puts a record in force, or after an error the one before the change.
func (h *netChange) amend(rec state.Network) error {
	return h.c.builder.show(func(on bool) {
		if !on {
			rec = h.was
		}
		h.settle(rec)
	})
}

// settle writes the settings of a record: only what is read with the mutex held alone.
func (h *netChange) settle(rec state.Network) {
	n := h.n
	// For who finds the network by its device alone, and would open what is closed.
	if err := n.TAP.Describe(h.c.inv.Marks.OfNetwork(rec)); err != nil {
		h.c.log.Warn("the device of a network says what it was before the change", "network", rec.Name, "interface", rec.TAP, "err", err)
	}
	h.c.mu.Lock()
	defer h.c.mu.Unlock()
	n.Rec.NoICC, n.Rec.NoHostAccess, n.Rec.NoDNS, n.Rec.DNSServers = rec.NoICC, rec.NoHostAccess, rec.NoDNS, rec.DNSServers
	n.Rec.Filter, n.Rec.Exempt, n.Rec.Labels = rec.Filter, rec.Exempt, rec.Labels
	h.c.inv.ChangedNetwork(n)
}
