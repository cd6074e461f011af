package dataplane

import (
	"errors"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
)

// housekeeping ages the tables once a second, finds vanished devices, and asks control to
// confirm the next hops in use.
func (s *Switch) housekeeping() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for left := int(refreshEvery / time.Second); ; left-- {
		select {
		case <-s.done:
			return
		case <-tick.C:
		}
		s.Tick()
		s.checkPorts()
		if left <= 0 && s.confirm() {
			left = int(refreshEvery / time.Second)
		}
	}
}

// checkPorts finds the devices whose end the kernel did not announce.
func (s *Switch) checkPorts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id := range s.ports {
		e := s.ports[id].Load()
		if e != nil && errors.Is(e.port.Check(), port.ErrGone) {
			e.owner.reportGone(frame.PortID(id), e)
		}
	}
}

// Tick ages the FDB, multicast groups, conntrack, fragments and waiting frames, and tells
// what was refused. Start calls it once a second; tests with their own clock call it
// themselves.
func (s *Switch) Tick() {
	now := s.now()
	s.fdb.Age(now)
	s.groups.Age(now)
	s.conntrack.Sweep(now, &s.snapshot.Load().timeouts)
	for _, w := range s.workers {
		w.accounts.sweep(now, s)
	}
	s.stations.sweep(s, now, true)
	s.frags.expire(now, s.workers[0])
	s.flows.sweep(s, now)
	s.flows.enterQuiet(s, now)
	s.waiting.expire(now, s)
	s.announceAgain()
	s.dropLeft(now)
	s.notices.refuse(s.conntrack.Pressure)
	s.clockPorts(now)
	s.tellShares(now)
}
