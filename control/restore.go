package control

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/process"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// restore brings back what the state holds, checks it against the kernel, drops
// what has vanished and deletes what nobody knows.
func (c *Controller) restore(s state.Contents) error {
	links, err := c.host.Links()
	if err != nil {
		return err
	}
	byName := make(map[string]host.Link, len(links))
	for _, l := range links {
		byName[l.Name] = l
	}
	byID := make(map[string]*network, len(s.Networks))
	for _, rec := range s.Networks {
		n, err := c.restoreNetwork(rec, s.Cursors[rec.ID])
		if err != nil {
			return err
		}
		byID[rec.ID] = n
	}
	known := make(map[string]bool)
	for _, n := range byID {
		known[n.rec.TAP] = true
	}
	count := 0
	for _, rec := range s.Containers {
		ct, err := c.restoreContainer(rec, byID, byName)
		if err != nil {
			c.log.Warn("container not restored", "container", rec.Name, "reason", err)
			if err := c.store.DeleteContainer(rec.ID); err != nil {
				return err
			}
			continue
		}
		count++
		for _, e := range ct.endpoints {
			known[e.veth] = true
		}
	}
	for _, l := range links {
		if c.isLeftover(l) && !known[l.Name] {
			c.log.Warn("leftover interface removed", "interface", l.Name, "alias", strings.TrimPrefix(l.Alias, c.aliasPrefix()))
			if err := c.host.DelLink(l.Name, l.Index); err != nil {
				c.log.Error("remove leftover interface", "interface", l.Name, "err", err)
			}
		}
	}
	if err := c.rebuild(); err != nil {
		return err
	}
	for _, n := range byID {
		c.dropEphemeral(n.rec.Name)
	}
	if count > 0 {
		c.log.Info("restored", "networks", len(byID), "containers", count)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ct := range c.containers {
		c.watchProcess(ct)
	}
	return nil
}

// restoreNetwork raises a stored network under its old name, addresses and
// device.
func (c *Controller) restoreNetwork(rec state.Network, cursors []netip.Addr) (*network, error) {
	broken := func(s state.Subnet) bool { return !s.Prefix.IsValid() || !s.Gateway.IsValid() }
	if len(rec.Subnets) == 0 || slices.ContainsFunc(rec.Subnets, broken) || rec.TAP == "" {
		return nil, fmt.Errorf("network %s: its record in the state file is incomplete: remove the state file to start anew", rec.Name)
	}
	n := &network{rec: rec, port: frame.NoPort, macs: make(map[header.MAC]string), members: make(map[*endpoint]bool)}
	n.fill()
	for i, s := range rec.Subnets {
		for _, a := range cursors {
			if a.Is4() == s.Gateway.Is4() {
				n.pools[i].last = a
			}
		}
		if route, bad := c.overlapsForeign(rec, s.Prefix); bad {
			c.log.Warn("subnet of a network overlaps a route of the host", "network", rec.Name, "subnet", s.Prefix, "route", route)
		}
	}
	u := &undo{}
	if err := c.raiseNetwork(u, n); err != nil {
		// The device goes with us, unless containers hang on it.
		return nil, errors.Join(err, u.rollback())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastNetwork++
	n.id, n.ready = c.lastNetwork, true
	c.networks[rec.Name] = n
	return n, nil
}

// overlapsForeign leaves the network's own device out of the question.
func (c *Controller) overlapsForeign(rec state.Network, p netip.Prefix) (string, bool) {
	route, bad := c.host.Overlaps(p)
	if strings.HasSuffix(route, "dev "+rec.TAP) {
		return "", false
	}
	return route, bad
}

// restoreContainer takes a container over whose cables are the ones it had. The
// error says what is missing; what was left of it is removed.
func (c *Controller) restoreContainer(rec state.Container, nets map[string]*network, links map[string]host.Link) (ct *container, err error) {
	ct = &container{rec: rec}
	ct.rec.Endpoints, ct.rec.Ports = nil, nil
	u := &undo{}
	defer func() {
		if err != nil {
			if rerr := u.rollback(); rerr != nil {
				c.log.Error("roll back", "of", "container "+rec.Name, "err", joined(rerr))
			}
		}
	}()
	if rec.Bound {
		err := u.do("process", func() (err error) {
			if rec.BootID != c.bootID {
				return errors.New("the host was started anew")
			}
			if ct.proc, err = process.Open(rec.PID); err != nil {
				return err
			}
			if ct.proc.Start != rec.PIDStart {
				ct.proc.Close()
				return fmt.Errorf("process %d has ended", rec.PID)
			}
			return nil
		}, func() error { ct.proc.Close(); return nil })
		if err != nil {
			c.removeCables(rec, links)
			return nil, err
		}
	}
	for _, er := range rec.Endpoints {
		l, ok := links[er.Veth]
		if !ok || l.Index != er.Ifindex || l.Alias != er.Alias {
			c.log.Warn("endpoint has vanished", "container", rec.Name, "interface", er.Ifname)
			continue
		}
		if err := c.restoreEndpoint(u, ct, er, nets[er.Network]); err != nil {
			return nil, err
		}
	}
	if len(rec.Endpoints) > 0 && len(ct.endpoints) == 0 {
		return nil, errors.New("its interface or namespace has vanished")
	}
	for _, p := range rec.Ports {
		spec := PublishSpec{
			Proto: p.Proto, HostIP: p.HostIP, HostFirst: p.HostFirst, HostLast: p.HostLast,
			First: p.First, Last: p.First + (p.HostLast - p.HostFirst),
		}
		m, err := c.holdPorts(ct, spec, p.HostFirst)
		if err == nil {
			if err = c.claim(m); err != nil {
				err = errors.Join(err, c.releasePorts(m))
			}
		}
		if err != nil {
			// The container goes on without: its other connections matter more.
			c.log.Error("port not published again", "container", rec.Name, "port", spec, "err", err)
			continue
		}
		ct.mappings = append(ct.mappings, m)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.containers[rec.Name] = ct
	ct.show(true)
	return ct, nil
}

// restoreEndpoint gives a container its old place and plugs its cable in.
func (c *Controller) restoreEndpoint(u *undo, ct *container, er state.Endpoint, n *network) error {
	if n == nil {
		return errors.New("its network is gone")
	}
	mac, err := header.ParseMAC(er.MAC)
	if err != nil {
		return err
	}
	l2, err := parseLayer2(er.Guard, er.VLAN, er.Trunk)
	if err != nil {
		return err
	}
	e := &endpoint{net: n, ct: ct, ifname: er.Ifname, runtimeNet: er.RuntimeNetwork, veth: er.Veth, index: er.Ifindex, alias: er.Alias, mac: mac, layer2: l2, quota: quotaOf(&er), routes: er.Routes}
	err = u.do("address", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if err := e.takeAddrs(byFamilyOf(er.Addrs)); err != nil {
			return err
		}
		n.macs[mac] = "container " + ct.rec.Name
		n.members[e] = true
		c.byVeth[e.veth] = e
		ct.endpoints = append(ct.endpoints, e)
		return nil
	}, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.freeEndpointLocked(e)
		return c.host.DelLink(e.veth, e.index)
	})
	if err != nil {
		return err
	}
	if rec := ct.rec; rec.Handover {
		c.followHandover(e)
	}
	return u.do("port", func() error {
		// The seal there is of the process before, and so are the flows that it knows.
		if err := c.sealOf(ct).renew(e.index); err != nil {
			return err
		}
		return c.plug(e)
	}, func() error { return c.unplug(e) })
}

func byFamilyOf(list []netip.Addr) (ips [2]netip.Addr) {
	for _, a := range list {
		ips[familyOf(a)] = a
	}
	return ips
}

// removeCables removes what a vanished container left.
func (c *Controller) removeCables(rec state.Container, links map[string]host.Link) {
	for _, er := range rec.Endpoints {
		if l, ok := links[er.Veth]; ok && l.Alias == er.Alias {
			if err := c.host.DelLink(l.Name, l.Index); err != nil {
				c.log.Error("remove interface", "interface", l.Name, "err", err)
			}
		}
	}
}
