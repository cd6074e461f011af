package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/frame"
)

const (
	// worldDelay lets the events of one change of configuration arrive before
	// the kernel is asked.
	worldDelay = 20 * time.Millisecond
	// worldPause bounds the work that a flapping route can make.
	worldPause = 100 * time.Millisecond
	// watchRetry is the pause after a lost subscription.
	watchRetry = time.Second
	busyPeriod = time.Second
	// intruderRounds busyPeriods lie between two looks into large ranges.
	intruderRounds = 5
)

// watch follows the events of the kernel until the controller ends.
func (c *Controller) watch() {
	for {
		err := c.host.Watch(c.ctx, c.event)
		if c.ctx.Err() != nil {
			return
		}
		c.log.Error("watch of the host's network", "err", err, "retry", watchRetry)
		select {
		case <-c.ctx.Done():
			return
		case <-time.After(watchRetry):
		}
	}
}

// event sorts events; it must return quickly, or the kernel's queue overflows.
func (c *Controller) event(e host.Event) {
	switch e.Kind {
	case host.QdiscChanged:
		kick(c.shapeKick)
		return
	case host.NeighborChanged:
		if c.neigh.set(e.Neighbor) {
			kick(c.neigh.kick)
		}
		return
	case host.Resync:
		all, err := c.host.Neighbors()
		if err != nil {
			c.log.Error("read the neighbours", "err", err)
		} else {
			c.neigh.replace(all)
		}
		c.spawn(c.checkLinks)
		kick(c.shapeKick)
	case host.LinkGone:
		if ct := c.ownerOfLink(e.Link.Name); ct != nil {
			c.spawn(func() { c.linkGone(ct) })
			return
		}
		if c.isOurs(e.Link) {
			return
		}
		kick(c.shapeKick) // its qdisc went without a word
	case host.LinkChanged:
		// Our own cables say nothing about the way out; a thousand of them being
		// plugged would read the world again and again.
		if ct := c.ownerOfLink(e.Link.Name); ct != nil {
			if ct.rec.Handover && e.Link.Running {
				c.spawn(func() { c.handedOver(ct) })
			}
			return
		}
		if c.isOurs(e.Link) {
			return
		}
	case host.AddrAdded, host.AddrGone, host.RouteChanged:
	}
	kick(c.worldKick)
}

// kick sets a flag that a goroutine waits for.
func kick(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// ownerOfLink is the container whose cable's host end has a name.
func (c *Controller) ownerOfLink(name string) *container {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byVeth[name]; e != nil {
		return e.ct
	}
	return nil
}

// portGone is dataplane.Config.Gone.
func (c *Controller) portGone(id frame.PortID) {
	c.mu.Lock()
	o := c.byPort[id]
	c.mu.Unlock()
	switch {
	case o.ep != nil:
		c.spawn(func() { c.linkGone(o.ep.ct) })
	case o.uplink != nil:
		kick(c.worldKick)
	case o.net != nil:
		c.log.Error("the device of a network has vanished: restart the daemon to make it again",
			"network", o.net.rec.Name, "interface", o.net.rec.TAP)
	}
}

// checkLinks looks after all containers, when events may have been missed.
func (c *Controller) checkLinks() {
	links, err := c.host.Links()
	if err != nil {
		c.log.Error("read the links", "err", err)
		return
	}
	have := make(map[string]int, len(links))
	for _, l := range links {
		have[l.Name] = l.Index
	}
	c.mu.Lock()
	lost := make(map[*container]bool)
	for _, ct := range c.containers {
		for _, e := range ct.endpoints {
			if e.live && have[e.veth] != e.index {
				lost[ct] = true
			}
		}
	}
	c.mu.Unlock()
	for ct := range lost {
		c.linkGone(ct)
	}
}

// followWorld keeps the switch in step with links, addresses and routes.
func (c *Controller) followWorld() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.worldKick:
		}
		if !c.pause(worldDelay) {
			return
		}
		// What was said until here is in the answers of the kernel.
		select {
		case <-c.worldKick:
		default:
		}
		if err := c.syncWorld(); err != nil && !errors.Is(err, context.Canceled) {
			c.log.Error("follow the host's network", "err", joined(err))
		}
		if !c.pause(worldPause) {
			return
		}
	}
}

// pause reports whether the controller goes on.
func (c *Controller) pause(d time.Duration) bool {
	select {
	case <-c.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// followBusyPorts tells masquerade which ports the host's programs hold, also
// while there are no flows: the first of them would take a port by an old list.
func (c *Controller) followBusyPorts() {
	read := func() {
		sockets, err := c.ports.Busy()
		if err != nil {
			c.log.Error("read the host's sockets", "err", err)
			return
		}
		c.sw.SetBusyPorts(busyPorts(sockets))
	}
	read()
	known := make(map[uint32]bool)
	for round := 1; c.pause(busyPeriod); round++ {
		read()
		if round%intruderRounds == 0 {
			known = c.reportIntruders(known)
		}
	}
}

// reportIntruders logs the programs that have bound a port inside a large
// published range, which no socket holds. It returns those there are now, to be
// logged once.
func (c *Controller) reportIntruders(known map[uint32]bool) map[uint32]bool {
	sockets, err := c.ports.Intruders()
	if err != nil {
		c.log.Error("read the host's sockets", "err", err)
		return known
	}
	now := make(map[uint32]bool, len(sockets))
	for _, s := range sockets {
		now[s.Inode] = true
		if known[s.Inode] {
			continue
		}
		owner := host.Owner(s.Inode)
		if strings.HasSuffix(owner, fmt.Sprintf("(pid %d)", os.Getpid())) {
			continue // the relay's
		}
		bound := fmt.Sprintf("%d/%s", s.Port, protoName(s.Proto))
		c.log.Warn("a program has bound a published port: packets from outside go to the container", "port", bound, "program", owner)
		c.emit(api.Event{Type: api.EventPortTaken, Ports: []string{bound}, Message: "port " + bound + " is published, and bound by " + owner + " too: packets from outside go to the container"})
	}
	return now
}
