package underlay

import (
	"context"
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
	mu     sync.Mutex
	macs   map[neighborKey]header.MAC
	kicked chan struct{}
}

type neighborKey struct {
	ifindex int
	addr    netip.Addr
}

func (n *neighbors) init() {
	n.macs, n.kicked = make(map[neighborKey]header.MAC), make(chan struct{}, 1)
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

// publishNeighbors gives the data path what is behind uplinks.
func (u *Underlay) publishNeighbors() {
	ports := make(map[int]frame.PortID)
	for _, up := range u.Now().Uplinks {
		ports[up.Link.Index] = up.Port
	}
	n := &u.neigh
	n.mu.Lock()
	defer n.mu.Unlock() // two tables must not overtake each other
	table := make(map[dataplane.NeighborKey]header.MAC)
	for k, mac := range n.macs {
		if id, ok := ports[k.ifindex]; ok {
			table[dataplane.NeighborKey{Uplink: id, Addr: header.AddrFrom(k.addr)}] = mac
		}
	}
	u.cfg.Neighbors(table)
}

// FollowNeighbors publishes changes until ctx ends.
func (u *Underlay) FollowNeighbors(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-u.neigh.kicked:
		}
		time.Sleep(neighborDelay)
		u.publishNeighbors()
	}
}

// Resolve asks for the MAC address of a next hop, as dataplane.Config.Resolve.
func (u *Underlay) Resolve(id frame.PortID, next netip.Addr) {
	for _, up := range u.Now().Uplinks {
		if up.Port != id {
			continue
		}
		if err := u.cfg.Edge.Resolve(up.Link.Index, next); err != nil {
			u.cfg.Log.Debug("resolve", "interface", up.Link.Name, "next", next, "err", err)
		}
	}
}
