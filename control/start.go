package control

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// newController opens all parts, brings back what the state holds and follows
// the kernel from then on. The caller holds the directories. tune, when not nil,
// changes the controller before anything happens; for tests.
func newController(cfg DaemonConfig, tune func(*Controller)) (_ *Controller, err error) {
	c := &Controller{
		cfg: cfg, log: cfg.Log, started: time.Now().UTC(), bootID: bootID(),
		networks: make(map[string]*network), containers: make(map[string]*container),
		byPort: make(map[frame.PortID]portOwner), byVeth: make(map[string]*endpoint),
		slots: make(map[netip.Addr]int), worldKick: make(chan struct{}, 1), shapeKick: make(chan struct{}, 1),
	}
	c.events = newEvents(c.started)
	c.neigh.kick = make(chan struct{}, 1)
	c.neigh.macs = make(map[neighborKey]header.MAC)
	c.builder.kick = make(chan struct{}, 1)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	if tune != nil {
		tune(c)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.teardown())
		}
	}()
	if c.host, err = host.New(); err != nil {
		return nil, err
	}
	// Before anything is made: a wrong --uplink or a lack of rights changes nothing.
	if !c.followsRoutes() {
		if _, err := c.host.Uplinks(cfg.Uplinks); err != nil {
			return nil, err
		}
	}
	if c.kernel, err = kernel.Open(kernel.Config{NoFlowTable: cfg.NoFlowTable}); err != nil {
		return nil, err
	}
	if c.seals, err = sealKinds(c.kernel, c.host, cfg.noTCX); err != nil {
		return nil, err
	}
	if err := c.kernel.FlowTableError(); err != nil {
		c.log.Warn("the kernel takes no flow table: every frame passes through the daemon", "err", err)
	}
	store, contents, err := state.Open(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	c.store = store
	if c.pools = [2]netip.Prefix{cfg.Pool, cfg.Pool6}; !c.pools[ipv6].IsValid() {
		c.pools[ipv6] = uniqueLocal(store.Identity())
	}
	if err := errors.Join(c.restoreReserved(contents.Reserved), c.removeGuards()); err != nil {
		return nil, err
	}
	c.ports = reserve.New(c.host, reserve.Config{Kept: cfg.kept, Reserved: func(list []reserve.Range) error {
		rec := make([]state.PortRange, 0, len(list))
		for _, r := range list {
			rec = append(rec, state.PortRange{First: r.First, Last: r.Last})
		}
		return c.store.PutReserved(rec)
	}})
	c.sw, err = dataplane.New(dataplane.Config{
		Workers: cfg.Workers, MaxConns: cfg.MaxFlows, Masquerade: c.kernel.Masquerade(), Peers: c.kernel, Flows: c.kernel.Flows(),
		Resolve: c.wantNeighbor, Gone: c.portGone, Event: c.switchEvent,
		Pressure: c.pressureLog(), PortKey: portKey(store.Identity()),
	})
	if err != nil {
		return nil, err
	}
	c.sockets = port.NewPool(spareSockets, ringSlots)
	c.builder.done = make(chan struct{})
	go c.runBuilder()
	if cfg.CaptureRing > 0 {
		if err := c.startRecorder(cfg.CaptureRing, cfg.CaptureRingOf); err != nil {
			return nil, err
		}
	}
	c.sw.Start()

	all, err := c.host.Neighbors()
	if err != nil {
		return nil, err
	}
	c.neigh.replace(all)
	if err := c.syncWorld(); err != nil {
		return nil, err
	}
	if len(c.world.uplinks) == 0 {
		c.log.Warn("no interface holds a default route: containers cannot reach the outside until one does")
	}
	if err := c.restore(contents); err != nil {
		return nil, err
	}
	if n := c.networks[DefaultNetwork]; n == nil {
		if _, err := c.CreateNetwork(c.ctx, api.NetworkCreate{Name: DefaultNetwork, IPv6: &cfg.IPv6}); err != nil {
			return nil, err
		}
	} else if cfg.IPv6 && !hasFamily(n.rec, ipv6) {
		c.log.Warn("the default network was made without IPv6 and stays so: make another with vswitch network create --ipv6")
	}
	c.relay, err = relay.New(relay.Config{
		Resolve: c.resolve, Steer: func(tcp4, tcp6, udp4, udp6 int) (io.Closer, error) {
			return c.kernel.Steer(tcp4, tcp6, udp4, udp6)
		}, Log: c.log,
	})
	if err != nil {
		return nil, err
	}
	if err := c.startFlowOutputs(); err != nil {
		return nil, err
	}
	c.spawn(c.watch)
	c.spawn(c.followWorld)
	c.spawn(c.followShaping)
	c.spawn(c.followNeighbors)
	c.spawn(c.followBusyPorts)
	return c, nil
}

// spawn runs work that close waits for, unless it has begun.
func (c *Controller) spawn(fn func()) {
	c.bgMu.Lock()
	defer c.bgMu.Unlock()
	if c.bgDone {
		return
	}
	c.bg.Add(1)
	go func() { defer c.bg.Done(); fn() }()
}

// restoreReserved takes back what a killed daemon left in the host's sysctl.
func (c *Controller) restoreReserved(list []state.PortRange) error {
	if len(list) == 0 {
		return nil
	}
	ranges := make([]reserve.Range, 0, len(list))
	for _, r := range list {
		ranges = append(ranges, reserve.Range{First: r.First, Last: r.Last})
	}
	if err := reserve.RestoreReserved(ranges); err != nil {
		return err
	}
	return c.store.PutReserved(nil)
}

// close ends the daemon's part in the world. Networks that have containers keep
// their devices for the next start; with nothing attached every trace goes.
func (c *Controller) close() error {
	c.ops.Lock()
	c.closing = true
	c.ops.Unlock()
	return c.teardown()
}

func (c *Controller) teardown() error {
	c.cancel()
	c.bgMu.Lock()
	c.bgDone = true
	c.bgMu.Unlock()
	var errs []error
	if c.relay != nil {
		errs = append(errs, c.relay.Close())
	}
	for _, ct := range c.containers {
		if ct.proc != nil {
			ct.proc.Close()
		}
	}
	c.bg.Wait()
	if c.builder.done != nil {
		close(c.builder.kick)
		<-c.builder.done
	}
	for _, n := range c.networks {
		if n.tap != nil && n.ready && len(n.members) == 0 {
			errs = append(errs, n.tap.SetPersist(false))
		}
		errs = append(errs, c.dropHost(n))
	}
	for _, u := range c.world.uplinks {
		errs = append(errs, c.sw.RemovePort(u.port), u.guard.Close())
	}
	if c.sockets != nil {
		errs = append(errs, c.sockets.Close())
	}
	if c.sw != nil {
		errs = append(errs, c.sw.Close()) // closes TAPs; those that do not persist vanish
	}
	if c.ports != nil {
		errs = append(errs, c.ports.Close())
	}
	if c.kernel != nil {
		errs = append(errs, c.kernel.Close())
	}
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	if c.host != nil {
		errs = append(errs, c.host.Close())
	}
	return errors.Join(errs...)
}

// bootID names the run of the kernel: what it held in memory is gone with it.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
