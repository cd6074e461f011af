package claims

import (
	"context"
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
)

const (
	// peerPeriod is when the host is asked though nothing was heard of it.
	peerPeriod = 2 * time.Second
	// peerPause bounds the work that a program can make which opens one socket after another. In
	// it a raw socket is connected, which would have every peer of its protocol before.
	peerPause = 20 * time.Millisecond
)

// SetHostPeers is that of dataplane.Switch.
type SetHostPeers = func([]conntrack.HostPeer) (lost []flowmap.Peer, flows int)

// TellPeers asks which peers of SCTP and of protocols without ports the host itself uses, by
// a tunnel, a security association or a raw socket, and tells the data path: it ends the flows
// that have one.
func (t *Table) TellPeers(set SetHostPeers) {
	var list []conntrack.HostPeer
	for _, c := range t.edge.Consumers() {
		list = append(list, conntrack.HostPeer(c))
	}
	if lost, flows := set(list); len(lost) > 0 {
		t.log.Info("the host uses peers of containers by now", "flows", flows, "peers", len(lost), "first", lost[0].Addr, "protocol", lost[0].Proto)
	}
}

// FollowPeers is TellPeers whenever the host uses others, until ctx ends.
func (t *Table) FollowPeers(ctx context.Context, set SetHostPeers) {
	changed := make(chan struct{}, 1)
	var watch sync.WaitGroup
	watch.Go(func() {
		t.edge.WatchConsumers(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	})
	defer watch.Wait()
	tick := time.NewTicker(peerPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.TellPeers(set)
		case <-changed:
			select {
			case <-ctx.Done():
				return
			case <-time.After(peerPause):
			}
			t.TellPeers(set)
		}
	}
}
