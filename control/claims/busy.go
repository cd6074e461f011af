package claims

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

const (
	busyPeriod = time.Second
	// intruderRounds busyPeriods lie between two looks into large ranges.
	intruderRounds = 5
	// busyPause lies between two looks that events cause, so that links which come and go do not
	// keep the list of sockets being read.
	busyPause = 200 * time.Millisecond
)

// TellBusy tells masquerade which ports the host's programs hold.
func (t *Table) TellBusy(set func(*conntrack.BusyPorts)) {
	sockets, err := t.edge.BusyPorts()
	if err != nil {
		t.log.Error("read the host's sockets", "err", err)
		return
	}
	b := new(conntrack.BusyPorts)
	for _, s := range sockets {
		b.Set(s.Proto, s.Port)
		if !s.Addr.IsLoopback() {
			b.Reach(s.Proto, s.Port)
		}
	}
	others, err := t.edge.OthersPorts()
	if err != nil {
		t.log.Error("read the ports of other switches at the uplinks", "err", err)
	}
	for _, o := range others {
		b.Leave(o.Proto, &o.Ports)
	}
	set(b)
}

// Follow is TellBusy again and again, also while there are no flows: the first of them would
// take a port by an old list, and when the kernel may have bound a port for itself, as for a
// tunnel, which no hook tells of. It tells of programs that take published ports, until ctx ends.
func (t *Table) Follow(ctx context.Context, set func(*conntrack.BusyPorts), tell func(api.Event)) {
	changed := make(chan struct{}, 1)
	var watch sync.WaitGroup
	watch.Go(func() {
		t.edge.WatchPorts(ctx, func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
	})
	defer watch.Wait()
	tick := time.NewTicker(busyPeriod)
	defer tick.Stop()
	known := make(map[uint32]bool)
	t.TellBusy(set) // the uplinks are open by now
	for round := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-changed:
			t.TellBusy(set)
			select {
			case <-ctx.Done():
				return
			case <-time.After(busyPause):
			}
			continue
		}
		t.TellBusy(set)
		t.retryDrops()
		if round++; round%intruderRounds == 0 {
			known = t.reportIntruders(known, tell)
		}
	}
}

// reportIntruders logs the programs that have bound a port inside a large
// published range, which no socket holds. It returns those there are now, to be
// logged once.
func (t *Table) reportIntruders(known map[uint32]bool, tell func(api.Event)) map[uint32]bool {
	sockets, err := t.edge.Intruders()
	if err != nil {
		t.log.Error("read the host's sockets", "err", err)
		return known
	}
	now := make(map[uint32]bool, len(sockets))
	for _, s := range sockets {
		now[s.Inode] = true
		if known[s.Inode] {
			continue
		}
		owner := t.edge.SocketOwner(s.Inode)
		if strings.HasSuffix(owner, fmt.Sprintf("(pid %d)", os.Getpid())) {
			continue // the relay's
		}
		bound := fmt.Sprintf("%d/%s", s.Port, model.ProtoName(s.Proto))
		t.log.Warn("a program has bound a published port: packets from outside go to the container", "port", bound, "program", owner)
		tell(api.Event{Type: api.EventPortTaken, Ports: []string{bound}, Message: "port " + bound + " is published, and bound by " + owner + " too: packets from outside go to the container"})
	}
	return now
}
