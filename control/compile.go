package control

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
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
func (b *builder) rebuild() error {
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

// show has a change listed and installed. After an error it is not listed, and the
// snapshot is the one before.
func (b *builder) show(list func(on bool)) error {
	list(true)
	err := b.rebuild()
	if err != nil {
		list(false)
		err = errors.Join(err, b.rebuild())
	}
	return err
}

// run is the one goroutine that installs snapshots.
func (b *builder) run(install func() error) {
	defer close(b.done)
	for range b.kick {
		b.mu.Lock()
		p := b.pending
		b.pending = nil
		b.mu.Unlock()
		p.err = install()
		close(p.done)
	}
}

// install compiles what stands and gives it to the data path and the relay.
func (c *Controller) install() error {
	c.mu.Lock()
	cfg, ways := c.compileLocked()
	c.mu.Unlock()
	if err := c.sw.Install(cfg); err != nil {
		c.log.Error("snapshot refused", "revision", cfg.Revision, "err", err)
		return err
	}
	c.led.Set(ways)
	c.edge.Lead(c.underlay.Now().Own, ways)
	c.dir.SetRevision(cfg.Revision)
	return nil
}

// compileLocked turns names into numbers: the controller's view into the data
// path's. It shares no memory with the controller that changes later.
func (c *Controller) compileLocked() (dataplane.SnapshotConfig, []relay.Way) {
	c.revision++
	under := c.underlay.Now()
	cfg := dataplane.SnapshotConfig{
		Revision:        c.revision,
		Routes:          under.Routes,
		Ruled:           under.Ruled,
		ByUplink:        len(under.Uplinks) > 1,
		Uplinks:         under.Configs,
		MasqueradePorts: under.Masquerade,
		MasqueradeLast:  under.HostPorts,
		Timeouts:        c.cfg.timeouts,
	}
	for _, up := range under.Uplinks {
		p := dataplane.PortConfig{ID: up.Port, Kind: dataplane.PortUplink, Missed: c.inv.Uplinks.Miss(up.Link.Index)}
		if up.Link.Ethernet { // the kernel's side carries frames
			p.Ifindex = uint32(up.Link.Index)
		}
		cfg.Ports = append(cfg.Ports, p)
	}
	var networks []policy.Network
	for _, n := range c.inv.Networks {
		if !n.Ready {
			continue
		}
		cfg.Networks = append(cfg.Networks, n.Compile())
		networks = append(networks, n.Policy())
		cfg.Ports = append(cfg.Ports, dataplane.PortConfig{ID: n.Port, Kind: dataplane.PortHost, Network: n.ID, MAC: n.MAC, Ifindex: uint32(n.TAPIndex)})
	}
	has := func(a netip.Addr) bool {
		return under.Own[a] || slices.ContainsFunc(cfg.Networks, func(n dataplane.NetworkConfig) bool { return slices.Contains(n.Gateways, a) })
	}
	var ways []relay.Way
	for _, ct := range c.inv.Containers {
		var tenant frame.PortID // the first of the container's ports
		for _, e := range ct.Endpoints {
			if !e.Live {
				continue
			}
			tenant = cmp.Or(tenant, e.Port)
			p := dataplane.PortConfig{ID: e.Port, Kind: dataplane.PortContainer, Network: e.Network.ID, MAC: e.MAC, Ifindex: uint32(e.Index), Tenant: tenant}
			e.Layer2.Apply(&p)
			p.Egress, e.Away = e.Egress, under.Away(e.Egress)
			p.Quota, p.Queued, p.Missed = e.Quota.Compile(), e.Shaping.Queued || e.Program.Name != "", e.Program.Misses
			cfg.Ports = append(cfg.Ports, p)
			for _, a := range e.Addrs {
				cfg.Stations = append(cfg.Stations, dataplane.StationConfig{Addr: a, Network: e.Network.ID, MAC: e.MAC, Port: e.Port})
			}
		}
		for _, m := range ct.Mappings {
			if !m.Live {
				continue
			}
			m.Follow(has)
			cfg.Publish = append(cfg.Publish, m.Compile()...)
			ways = append(ways, m.Ways()...)
		}
	}
	cfg.Rules = policy.Compile(&cfg, networks)
	return cfg, ways
}
