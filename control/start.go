package control

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/byhand"
	"github.com/vswitch/vswitch/control/claims"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/events"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/metrics"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/naming"
	"github.com/vswitch/vswitch/control/observe"
	"github.com/vswitch/vswitch/control/process"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// New opens all parts, brings back what the state holds and follows
// the kernel from then on. The caller holds the state directory, and calls Close.
func New(cfg Config) (_ *Controller, err error) {
	if err := cfg.Fill(); err != nil {
		return nil, errors.Join(err, cfg.Edge.Close())
	}
	c := &Controller{
		cfg: cfg, edge: cfg.Edge, log: cfg.Log, started: time.Now().UTC(), bootID: process.BootID(),
		byPort: make(map[frame.PortID]portOwner), sockets: make(map[frame.PortID]edge.Socket),
		unrestored: make(unrestored),
	}
	c.claims = claims.New(cfg.Edge, func(which conntrack.Selector) int { return c.sw.FlushConns(which) }, cfg.Log)
	c.inv = inventory.New(&c.dir)
	c.shaping = newShaping(c)
	c.builder.kick = make(chan struct{}, 1)
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.events = events.New(c.ctx, c.started, &c.dir)
	c.underlay = newUnderlay(c)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	// Before anything is made: a wrong --uplink or a lack of rights changes nothing.
	if err := c.underlay.Check(); err != nil {
		if cfg.Strict || !cfg.State.Attached(cfg.StateDir) {
			return nil, err
		}
		c.log.Warn("an uplink is waited for, as containers are attached", "err", err)
	}
	store, contents, err := cfg.State.Open(cfg.StateDir)
	if err != nil {
		return nil, err
	}
	c.store = store
	c.byHand = byhand.New(store, contents.ByHand, cfg.Log)
	identify(c, &contents)
	if contents.Refused != nil {
		c.log.Warn("changes cannot be stored and are refused until they can", "err", joined(contents.Refused))
	}
	c.inv.Marks, c.stored = inventory.Marks(store.Identity()), contents.Numbers
	refused := func(what string, n int) {
		c.log.Warn("a number in the state file is out of range or given twice: another takes its place", "of", what, "number", n)
	}
	c.inv.Numbers.Keep(contents, refused)
	for _, a := range contents.Numbers.Slots {
		if !c.claims.Keep(a.Addr, a.Number) && a.Number != 0 {
			refused("address "+a.Addr.String(), a.Number)
		}
	}
	c.inv.Pools = poolsOf(&cfg, store.Identity())
	cables := 0
	for _, rec := range contents.Containers {
		cables += len(rec.Endpoints)
	}
	apart := c.edge.Together(cables, ringSlots(cables))
	defer apart()
	var restored atomic.Bool
	if err := begin(c.edge, &cfg, store, contents.Reserved, restored.Load); err != nil {
		return nil, err
	}
	c.sw, err = dataplane.New(dataplane.Config{
		Workers: cfg.Workers, MaxConns: cfg.MaxFlows, Opened: c.edge.Opened(), Peers: c.edge.Peers(), Flows: c.edge.Flows(),
		PortKey: model.PortKey(store.Identity()),
	})
	if err != nil {
		return nil, err
	}
	c.claims.TellPeers(c.sw.SetHostPeers) // before the first flow
	c.claims.TellBusy(c.sw.SetBusyPorts)  // and before adopted ones go on
	c.builder.done = make(chan struct{})
	go c.builder.run(c.install)
	c.readers = readers.New(readers.BoundsFor(cfg.ReaderMemory), c.readerReached)
	watching := observe.Config{
		Switch: c.sw, Directory: &c.dir, Log: c.log, RingBytes: cfg.CaptureRing, RingOf: cfg.CaptureRingOf,
		Relay: c.relayed, Names: func() metrics.Names { return c.naming.Counts() }, Led: c.led.Resolve, Relayed: c.edge.ConnectHooks, Readers: c.readers,
		FlowLog: cfg.FlowLog, IPFIX: cfg.IPFIX, Identity: store.Identity(),
	}
	if c.observer, err = observe.New(watching); err != nil && !cfg.Strict && len(contents.Containers) > 0 {
		c.log.Warn("flows are told to nobody, as containers are attached", "err", err)
		watching.FlowLog, watching.IPFIX = "", ""
		c.observer, err = observe.New(watching)
	}
	if err != nil {
		return nil, err
	}
	c.sw.Start()

	for _, rec := range contents.Containers {
		for _, e := range rec.Endpoints {
			c.recorded = append(c.recorded, e.Egress)
		}
	}
	if err := c.underlay.Start(); err != nil {
		return nil, err
	}
	if len(c.underlay.Now().Uplinks) == 0 {
		c.log.Warn("no interface holds a default route: containers cannot reach the outside until one does")
	}
	if err := c.restore(contents); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.recorded = nil
	c.mu.Unlock()
	// All is there that rows of a process before are decided by.
	if err := errors.Join(c.shaping.Queues(), c.claims.Settle()); err != nil {
		return nil, err
	}
	if kept, ended := c.sw.TakeOver(); kept+ended > 0 {
		c.log.Info("flows go on in the kernel", "rows", kept, "ended", ended)
	}
	restored.Store(true)
	// Only now: a port that is gone ends its container, which restore must have done with.
	c.heard = make(chan struct{})
	go c.followSwitch()
	c.mu.Lock()
	n := c.inv.Networks[model.DefaultNetwork]
	c.mu.Unlock()
	if n == nil {
		if _, err := c.CreateNetwork(c.ctx, api.NetworkCreate{Name: model.DefaultNetwork, IPv6: &cfg.IPv6}); err != nil {
			return nil, err
		}
	} else if cfg.IPv6 && !model.HasFamily(n.Rec, model.IPv6) {
		c.log.Warn("the default network was made without IPv6 and stays so: make another with vswitch network create --ipv6")
	}
	steering, err := c.edge.Steer(c.relayReached)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.relay = steering
	c.mu.Unlock()
	if c.naming, err = naming.New(c.edge, &c.dir, c.log, c.events.Emit); err != nil {
		c.log.Error("containers' names are not answered", "err", err) // all else works
	}
	if err := c.edge.DropHeld(); err != nil {
		c.log.Warn("of what the daemon before has left not all is gone", "err", joined(err))
	}
	if err := c.store.Remember(c.edge.HoldState); err != nil {
		c.log.Warn("what is stored is on the disk alone", "err", joined(err))
	}
	apart() // Watch tells of changes since
	c.spawn(func() { c.underlay.Watch(c.ctx) })
	c.spawn(func() { c.underlay.Run(c.ctx) })
	c.spawn(func() { c.underlay.FollowNeighbors(c.ctx) })
	c.spawn(func() { c.shaping.Run(c.ctx) })
	c.spawn(func() { c.naming.Run(c.ctx) })
	c.spawn(func() { c.claims.Follow(c.ctx, c.sw.SetBusyPorts, c.events.Emit) })
	c.spawn(func() { c.claims.FollowPeers(c.ctx, c.sw.SetHostPeers) })
	return c, nil
}

// relayed counts the host's own connections to published ports.
func (c *Controller) relayed() metrics.Relay {
	if c.relay == nil {
		return metrics.Relay{}
	}
	return metrics.Relay(c.relay.Stats())
}

// Readers bounds what readers of the daemon may take.
func (c *Controller) Readers() *readers.Readers { return c.readers }

// readerReached tells that a reader was refused something.
func (c *Controller) readerReached(r readers.Reached) {
	c.events.Emit(api.Event{
		Type:    api.EventLimitHit,
		Message: fmt.Sprintf("%s was refused what readers of the daemon may have: %s, at most %d", r.Reader, strings.ReplaceAll(r.Kind.String(), "_", " "), r.Bound),
	})
}

// relayReached tells that a user of the host has all connections that the relay lets one have.
func (c *Controller) relayReached(r relay.Reached) {
	who, what := "sockets that no program has any more", "TCP connections"
	if r.Who.Known {
		who = fmt.Sprintf("user %d", r.Who.UID)
	}
	if r.Proto == header.ProtoUDP {
		what = "UDP sessions"
	}
	c.events.Emit(api.Event{
		Type: api.EventLimitHit, Count: uint64(r.Held),
		Message: fmt.Sprintf("%s: %d %s from this host to published ports, as many as one user may have: each new one ends the idlest", who, r.Held, what),
	})
}

// spawn runs work that Close waits for, unless it has begun.
func (c *Controller) spawn(fn func()) {
	c.bgMu.Lock()
	defer c.bgMu.Unlock()
	if c.bgDone {
		return
	}
	c.bg.Add(1)
	go func() { defer c.bg.Done(); fn() }()
}

// begin tells the edge for whom it works, and what a process before has left. Until all is
// restored no disk keeps it from reserving ports: the record of them is for who cleans up
// after a process that was killed.
func begin(e edge.Edge, cfg *Config, store *state.Store, left []state.PortRange, restored func() bool) error {
	owner := edge.Owner{Identity: store.Identity(), Directory: cfg.StateDir, Kept: cfg.Kept, PutReserved: func(list []reserve.Range) error {
		rec := make([]state.PortRange, 0, len(list))
		for _, r := range list {
			rec = append(rec, state.PortRange{First: r.First, Last: r.Last})
		}
		err := store.PutReserved(rec)
		if err != nil && !restored() {
			cfg.Log.Warn("reserved ports are not stored", "err", err)
			return nil
		}
		return err
	}}
	for _, r := range left {
		owner.Reserved = append(owner.Reserved, reserve.Range{First: r.First, Last: r.Last})
	}
	return e.Begin(owner)
}

// Close ends the controller and its workers. With a container attached all else stays for the
// next start, with none every trace goes.
func (c *Controller) Close() error {
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
	for _, ct := range c.inv.Containers {
		if ct.Process != nil {
			ct.Process.Close()
		}
	}
	if c.observer != nil {
		c.observer.Close()
	}
	c.bg.Wait()
	held, _ := c.edge.HeldFor()
	kept := c.inv.Cabled(c.edge.Link, c.edge.Links) || c.inv.Marks == "" && held != ""
	if kept { // for the next start
		c.edge.Keep()
	}
	errs = append(errs, c.naming.Close())
	if c.relay != nil {
		errs = append(errs, c.relay.Close())
	}
	if c.builder.done != nil {
		close(c.builder.kick)
		<-c.builder.done
	}
	if c.sw != nil {
		errs = append(errs, c.sw.Close())
	}
	for _, k := range c.sockets {
		errs = append(errs, k.Close())
	}
	for _, n := range c.inv.Networks {
		if n.Plugged {
			errs = append(errs, n.TAP.Close())
		}
	}
	if !kept && c.inv.Marks != "" { // else another daemon has the state, or nobody could read it
		_, err := c.edge.KeepUplinks()
		errs = append(errs, err)
	}
	if c.heard != nil {
		<-c.heard
	}
	errs = append(errs, c.edge.Close()) // stores what it no longer reserves
	if c.store != nil {
		errs = append(errs, c.store.Close())
	}
	return errors.Join(errs...)
}

// Observer returns what watches the switch, until Close.
func (c *Controller) Observer() *observe.Observer { return c.observer }
