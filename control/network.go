package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// CreateNetwork makes a network.
func (c *Controller) CreateNetwork(_ context.Context, in api.NetworkCreate) (api.Network, error) {
	leave, err := c.enter()
	if err != nil {
		return api.Network{}, err
	}
	defer leave()
	rec, err := checkNetwork(in)
	if err != nil {
		return api.Network{}, err
	}
	defer c.names.lock(ofNetwork(rec.Name))()
	u := &undo{fault: c.fault}
	n, err := c.createNetwork(u, rec)
	if err != nil {
		return api.Network{}, c.failed(u, "network "+rec.Name, err)
	}
	c.log.Info("network created", "network", rec.Name, "subnets", subnetTexts(n.rec), "interface", n.rec.TAP)
	c.emit(api.Event{Type: api.EventNetworkCreate, Network: rec.Name, Interface: n.rec.TAP, Addresses: subnetTexts(n.rec), Message: "network " + rec.Name + " created"})
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.viewNetworkLocked(n), nil
}

// createNetwork performs what checkNetwork found possible. The caller holds the
// name.
func (c *Controller) createNetwork(u *undo, rec state.Network) (*network, error) {
	n := &network{
		rec: rec, port: frame.NoPort,
		macs: make(map[header.MAC]string), members: make(map[*endpoint]bool),
	}
	if n.rec.TAP == "" {
		n.rec.TAP = "vs-" + rec.ID[:10]
	} else if _, err := c.host.Link(n.rec.TAP); err == nil {
		return nil, conflictf("network %s: interface %s exists on the host already: choose another name", rec.Name, n.rec.TAP)
	}
	if n.rec.MTU == 0 {
		n.rec.MTU = c.defaultMTU(hasFamily(n.rec, ipv6))
	}
	err := u.do("subnet", func() error { return c.reserveSubnets(n) }, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.networks, rec.Name)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := c.raiseNetwork(u, n); err != nil {
		return nil, err
	}
	err = u.do("commit", func() error { return c.store.PutNetwork(n.rec) },
		func() error { return c.store.DeleteNetwork(n.rec.ID) })
	if err != nil {
		return nil, err
	}
	err = u.do("snapshot", func() error { return c.showNetwork(n, true) },
		func() error { return c.showNetwork(n, false) })
	if err != nil {
		// The step may have got half way.
		return nil, errors.Join(err, c.showNetwork(n, false))
	}
	return n, nil
}

// defaultMTU is the smallest of the uplinks, so that no packet on its way out
// is too big.
func (c *Controller) defaultMTU(speaksIPv6 bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	mtu := 0
	for _, up := range c.world.uplinks {
		if mtu == 0 || up.link.MTU < mtu {
			mtu = up.link.MTU
		}
	}
	if mtu == 0 {
		mtu = 1500
	}
	if speaksIPv6 {
		mtu = max(mtu, minMTU6)
	}
	return mtu
}

func (c *Controller) forgetNetwork(n *network) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.networks[n.rec.Name] == n {
		delete(c.networks, n.rec.Name)
	}
}

// fill sets what follows from the record.
func (n *network) fill() {
	n.mac = gatewayMAC(n.rec.Subnets[0].Gateway)
	n.pools = nil
	for _, s := range n.rec.Subnets {
		gw := s.Gateway
		if s.Mode == api.GatewayIsolated {
			gw = netip.Addr{} // nobody has it
		}
		n.pools = append(n.pools, newAddressPool(n.rec.Name, s.Prefix, s.IPRange, gw, s.Reserved))
	}
	n.macs[n.mac] = "the gateway"
}

// raiseNetwork makes the TAP device, or takes over the one that stands, and
// gives it to the switch.
func (c *Controller) raiseNetwork(u *undo, n *network) error {
	err := u.do("tap", func() (err error) {
		n.tap, err = port.OpenTAP(port.TAPConfig{Name: n.rec.TAP})
		if err != nil {
			return fmt.Errorf("network %s: device %s: %w", n.rec.Name, n.rec.TAP, err)
		}
		return nil
	}, func() error {
		if n.port != frame.NoPort { // RemovePort has closed it
			return c.host.DelLink(n.rec.TAP, n.tapIndex)
		}
		return errors.Join(n.tap.Close(), c.host.DelLink(n.rec.TAP, n.tapIndex))
	})
	if err != nil {
		return err
	}
	err = u.do("tap address", func() error {
		index, err := c.host.SetupTAP(n.rec.TAP, c.aliasPrefix()+"network "+n.rec.Name,
			net.HardwareAddr(n.mac[:]), n.rec.MTU, gatewayPrefixes(n.rec))
		if err != nil {
			return fmt.Errorf("network %s: %w", n.rec.Name, err)
		}
		c.mu.Lock()
		n.tapIndex = index // who looks at the host's routes meanwhile wants to know ours
		c.mu.Unlock()
		// Only now that its alias says whose it is may the device outlive us.
		if err := n.tap.SetPersist(true); err != nil {
			return fmt.Errorf("network %s: device %s: %w", n.rec.Name, n.rec.TAP, err)
		}
		return nil
	}, nil)
	if err != nil {
		return err
	}
	err = u.do("routed subnet", func() error { return c.claimSubnets(n) }, func() error { return c.dropSubnets(n) })
	if err != nil {
		return err
	}
	err = u.do("flow table", func() error { c.carryHost(n); return nil }, func() error { return c.dropHost(n) })
	if err != nil {
		return err
	}
	return u.do("tap port", func() error {
		id, err := c.sw.AddPort(n.tap)
		if err != nil {
			return fmt.Errorf("network %s: %w", n.rec.Name, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		n.port = id
		c.setPortLocked(id, portOwner{net: n})
		return nil
	}, func() error {
		c.mu.Lock()
		c.dropPortLocked(n.port)
		c.mu.Unlock()
		return c.sw.RemovePort(n.port)
	})
}

// claimSubnets makes packets to the addresses of routed subnets ours. One that
// is not routed has its claims on addresses of the host.
func (c *Controller) claimSubnets(n *network) error {
	for _, s := range n.rec.Subnets {
		if s.Mode != api.GatewayRouted || n.rec.Internal {
			continue
		}
		if err := c.kernel.ClaimSubnet(s.Prefix); err != nil {
			return errors.Join(fmt.Errorf("network %s: %w", n.rec.Name, err), c.dropSubnets(n))
		}
	}
	return nil
}

func (c *Controller) dropSubnets(n *network) error {
	var errs []error
	for _, s := range n.rec.Subnets {
		if s.Mode == api.GatewayRouted {
			errs = append(errs, c.kernel.DropSubnet(s.Prefix))
		}
	}
	return errors.Join(errs...)
}

// showNetwork puts a network into the snapshot or takes it out.
func (c *Controller) showNetwork(n *network, ready bool) error {
	c.mu.Lock()
	n.ready = ready
	c.mu.Unlock()
	return c.rebuild()
}

// RemoveNetwork deletes a network without containers.
func (c *Controller) RemoveNetwork(_ context.Context, name string) error {
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	c.mu.Lock()
	n, err := c.findNetworkLocked(name)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	defer c.names.lock(ofNetwork(n.rec.Name))()
	return c.removeNetwork(n.rec.Name)
}

func (c *Controller) removeNetwork(name string) error {
	c.mu.Lock()
	n, err := c.findNetworkLocked(name)
	switch {
	case err != nil:
	case n.rec.Name == DefaultNetwork:
		err = conflictf("network %s is the default network: it cannot be removed", DefaultNetwork)
	case len(n.members) > 0:
		err = conflictf("network %s is in use by %s: detach or disconnect them first", name, strings.Join(n.memberNames(), ", "))
	default:
		n.ready = false // nobody can join from here on
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	// Forgotten on disk before anything changes: on a full disk all stays.
	if err := c.store.DeleteNetwork(n.rec.ID); err != nil {
		return errors.Join(err, c.showNetwork(n, true))
	}
	errs := []error{c.rebuild()}
	c.mu.Lock()
	c.dropPortLocked(n.port)
	c.mu.Unlock()
	errs = append(errs, c.dropSubnets(n), c.sw.RemovePort(n.port), c.dropHost(n), c.host.DelLink(n.rec.TAP, n.tapIndex))
	c.forgetNetwork(n)
	c.log.Info("network removed", "network", name)
	c.emit(api.Event{Type: api.EventNetworkRemove, Network: name, Interface: n.rec.TAP, Message: "network " + name + " removed"})
	return errors.Join(errs...)
}

// dropEphemeral removes a network that was to go with its last container, when
// that has gone.
func (c *Controller) dropEphemeral(name string) {
	c.mu.Lock()
	n := c.networks[name]
	drop := n != nil && n.ready && n.rec.Ephemeral && len(n.members) == 0
	c.mu.Unlock()
	if !drop {
		return
	}
	defer c.names.lock(ofNetwork(name))()
	err := c.removeNetwork(name)
	if err != nil && !errors.Is(err, api.ErrConflict) && !errors.Is(err, api.ErrNotFound) { // joined or removed meanwhile
		c.log.Error("remove a network with its last container", "network", name, "err", joined(err))
	}
}

// memberNames are the containers of a network, at most ten of them.
func (n *network) memberNames() []string {
	var names []string
	for e := range n.members {
		names = append(names, e.ct.rec.Name)
	}
	slices.Sort(names)
	if more := len(names) - 10; more > 0 {
		names = append(names[:10], fmt.Sprintf("%d more", more))
	}
	return names
}

// used reports whether a runtime relies on a network, with or without containers.
func (n *network) used() bool {
	for key := range n.rec.Labels {
		if strings.HasPrefix(key, api.UsedBy) {
			return true
		}
	}
	return false
}

// PruneNetworks deletes every network without containers but the default one and
// those that a runtime relies on.
func (c *Controller) PruneNetworks(_ context.Context) (api.Pruned, error) {
	out := api.Pruned{Networks: []string{}}
	leave, err := c.enter()
	if err != nil {
		return out, err
	}
	defer leave()
	c.mu.Lock()
	var names []string
	for _, n := range c.sortedNetworksLocked() {
		if n.rec.Name != DefaultNetwork && len(n.members) == 0 && !n.used() {
			names = append(names, n.rec.Name)
		}
	}
	c.mu.Unlock()
	for _, name := range names {
		unlock := c.names.lock(ofNetwork(name))
		err := c.removeNetwork(name)
		unlock()
		switch {
		case err == nil:
			out.Networks = append(out.Networks, name)
		case errors.Is(err, api.ErrConflict), errors.Is(err, api.ErrNotFound): // joined or removed meanwhile
		default:
			return out, err
		}
	}
	return out, nil
}
