package claims

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

const (
	busyPeriod = time.Second
	// intruderRounds busyPeriods lie between two looks into large ranges.
	intruderRounds = 5
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
	set(b)
}

// Follow is TellBusy again and again, also while there are no flows: the first of them would
// take a port by an old list. It tells of programs that take published ports, until ctx ends.
func (t *Table) Follow(ctx context.Context, set func(*conntrack.BusyPorts), tell func(api.Event)) {
	tick := time.NewTicker(busyPeriod)
	defer tick.Stop()
	known := make(map[uint32]bool)
	for round := 1; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t.TellBusy(set)
		t.retryDrops()
		if round%intruderRounds == 0 {
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
