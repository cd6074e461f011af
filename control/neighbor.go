package control

import (
	"net/netip"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// neighbors follows the kernel's ARP and ND entries of all interfaces.
type neighbors struct {
	mu   sync.Mutex
	macs map[neighborKey]header.MAC
	kick chan struct{}
}

type neighborKey struct {
	ifindex int
	addr    netip.Addr
}

// neighborDelay lets changes that come together share a table.
const neighborDelay = time.Millisecond

func (n *neighbors) set(e host.Neighbor) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	k := neighborKey{e.Ifindex, e.Addr}
	old, had := n.macs[k]
	if len(e.MAC) != len(header.MAC{}) {
		delete(n.macs, k)
		return had
	}
	m := header.MAC(e.MAC)
	n.macs[k] = m
	return !had || old != m
}

func (n *neighbors) replace(all []host.Neighbor) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.macs = make(map[neighborKey]header.MAC, len(all))
	for _, e := range all {
		if len(e.MAC) == len(header.MAC{}) {
			n.macs[neighborKey{e.Ifindex, e.Addr}] = header.MAC(e.MAC)
		}
	}
}

// publishNeighbors gives the data path those behind uplinks.
func (c *Controller) publishNeighbors() {
	c.mu.Lock()
	ports := make(map[int]frame.PortID, len(c.world.uplinks))
	for _, u := range c.world.uplinks {
		ports[u.link.Index] = u.port
	}
	c.mu.Unlock()
	n := &c.neigh
	n.mu.Lock()
	defer n.mu.Unlock() // two tables must not overtake each other
	table := make(map[dataplane.NeighborKey]header.MAC)
	for k, mac := range n.macs {
		if id, ok := ports[k.ifindex]; ok {
			table[dataplane.NeighborKey{Uplink: id, Addr: header.AddrFrom(k.addr)}] = mac
		}
	}
	c.sw.SetNeighbors(table)
}

// followNeighbors publishes changes until the controller ends.
func (c *Controller) followNeighbors() {
	for {
		select {
		case <-c.ctx.Done():
			return
		case <-c.neigh.kick:
		}
		time.Sleep(neighborDelay)
		c.publishNeighbors()
	}
}

// wantNeighbor is dataplane.Config.Resolve.
func (c *Controller) wantNeighbor(id frame.PortID, next netip.Addr) {
	c.mu.Lock()
	u := c.byPort[id].uplink
	c.mu.Unlock()
	if u == nil {
		return
	}
	if err := c.host.Resolve(u.link.Index, next); err != nil {
		c.log.Debug("resolve", "interface", u.link.Name, "next", next, "err", err)
	}
}
