package control

import (
	"net/netip"
	"sync"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane"
)

// builder makes snapshots. Changes that come while one is being made share the
// next.
type builder struct {
	mu      sync.Mutex
	pending *build
	kick    chan struct{}
	done    chan struct{} // closed when the goroutine has ended; nil: never begun
}

type build struct {
	done chan struct{}
	err  error
}

// rebuild returns when a snapshot that holds everything decided before the call
// is installed.
func (c *Controller) rebuild() error {
	b := &c.builder
	b.mu.Lock()
	if b.pending == nil {
		b.pending = &build{done: make(chan struct{})}
		b.kick <- struct{}{} // room for one, and none was pending
	}
	p := b.pending
	b.mu.Unlock()
	<-p.done
	return p.err
}

// runBuilder is the one goroutine that installs snapshots.
func (c *Controller) runBuilder() {
	b := &c.builder
	defer close(b.done)
	for range b.kick {
		b.mu.Lock()
		p := b.pending
		b.pending = nil
		b.mu.Unlock()
		p.err = c.install()
		close(p.done)
	}
}

// install compiles what stands and gives it to the data path and the relay.
func (c *Controller) install() error {
	c.mu.Lock()
	cfg, relay := c.compileLocked()
	c.mu.Unlock()
	sn, err := dataplane.NewSnapshot(cfg)
	if err != nil {
		c.log.Error("snapshot refused", "revision", cfg.Revision, "err", err)
		return err
	}
	c.sw.Install(sn)
	c.relayTab.Store(&relay)
	return nil
}

// compileLocked turns names into numbers: the controller's view into the data
// path's. It shares no memory with the controller that changes later.
func (c *Controller) compileLocked() (dataplane.SnapshotConfig, relayTable) {
	c.revision++
	cfg := dataplane.SnapshotConfig{
		Revision:        c.revision,
		Routes:          c.world.routes,
		Uplinks:         c.world.uplinkConfigs,
		MasqueradePorts: c.world.masquerade,
		Timeouts:        c.cfg.timeouts,
	}
	for _, up := range c.world.uplinks {
		cfg.Ports = append(cfg.Ports, dataplane.PortConfig{ID: up.port, Kind: dataplane.PortUplink, Ifindex: uint32(up.link.Index)})
	}
	for _, n := range c.networks {
		if !n.ready {
			continue
		}
		cfg.Networks = append(cfg.Networks, n.compile())
		cfg.Ports = append(cfg.Ports, dataplane.PortConfig{ID: n.port, Kind: dataplane.PortHost, Network: n.id, MAC: n.mac, Ifindex: uint32(n.tapIndex)})
	}
	relay := make(relayTable)
	for _, ct := range c.containers {
		for _, e := range ct.endpoints {
			if !e.live {
				continue
			}
			p := dataplane.PortConfig{ID: e.port, Kind: dataplane.PortContainer, Network: e.net.id, MAC: e.mac, Ifindex: uint32(e.index)}
			e.layer2.apply(&p)
			p.Quota, p.Queued = e.quota.compile(), e.shaping.Queued
			cfg.Ports = append(cfg.Ports, p)
			for _, a := range e.addrs {
				cfg.Hosts = append(cfg.Hosts, dataplane.HostConfig{Addr: a, Network: e.net.id, MAC: e.mac, Port: e.port})
			}
		}
		for _, m := range ct.mappings {
			if !m.live {
				continue
			}
			cfg.Publish = append(cfg.Publish, m.compile()...)
			m.addTo(relay)
		}
	}
	return cfg, relay
}

func (n *network) compile() dataplane.NetworkConfig {
	cfg := dataplane.NetworkConfig{
		ID: n.id, HostPort: n.port, GatewayMAC: n.mac, MTU: n.rec.MTU, Internal: n.rec.Internal, Isolated: n.rec.NoICC, NoHostAccess: n.rec.NoHostAccess,
		Filter: compileFilter(n.rec), Exempt: n.rec.Exempt,
	}
	for _, s := range n.rec.Subnets {
		cfg.Subnets = append(cfg.Subnets, s.Prefix)
		f := familyOf(s.Gateway)
		switch s.Mode {
		case api.GatewayIsolated:
			cfg.Modes[f] = dataplane.GatewayIsolated
			continue // the host is not there
		case api.GatewayRouted:
			cfg.Modes[f] = dataplane.GatewayRouted
		}
		cfg.Gateways = append(cfg.Gateways, s.Gateway)
	}
	return cfg
}

// compile gives a mapping to the data path: once for each family in which both
// the host's side and the container's have an address.
func (m *mapping) compile() (list []dataplane.PublishConfig) {
	for _, f := range families {
		target := m.ct.gateway(f)
		if target == nil || !target.live || m.hostIP.IsValid() && familyOf(m.hostIP) != f {
			continue
		}
		at := m.hostIP
		if !at.IsValid() {
			at = f.unspecified()
		}
		list = append(list, dataplane.PublishConfig{
			Proto: m.proto, HostAddr: at, First: m.first, Last: m.last, Addr: target.addr(f), Target: m.target,
		})
	}
	return list
}

// addTo enters a mapping for connections of the host itself. They are relayed,
// so that they may come in by one family and reach the container by the other.
func (m *mapping) addTo(relay relayTable) {
	for _, f := range families {
		if m.hostIP.IsValid() && familyOf(m.hostIP) != f {
			continue
		}
		for _, inside := range [2]family{f, 1 - f} {
			target := m.ct.gateway(inside)
			if target == nil || !target.live {
				continue
			}
			k := relayKey{m.proto, m.hostIP}
			if !m.hostIP.IsValid() {
				k.addr = f.unspecified()
			}
			relay[k] = append(relay[k], relayEntry{m.first, m.last, netip.AddrPortFrom(target.addr(inside), m.target)})
			break
		}
	}
}
