package dataplane

import (
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/share"
)

// Shared is a table that containers share: who holds most of it gives when it is full.
type Shared uint8

const (
	SharedFlows     Shared = iota // of conntrack, that the container began
	SharedReceived                // of conntrack, that others began with it
	SharedPorts                   // of masquerade, at all addresses
	SharedStations                // of the FDB
	SharedRows                    // of the kernel's flow table
	SharedWaiting                 // bytes of frames that wait for a next hop
	SharedHops                    // next hops that are waited for
	SharedFragments               // datagrams in fragments
	SharedDeferred                // bytes of fragments whose first one has not come
	SharedTime                    // us of the workers in the last second
	SharedQuestions               // to the kernel for next hops, in the last three seconds
	SharedGroups                  // memberships of multicast groups
	SharedBridged                 // flows that are bridged, of which accounts know
	SharedNewcomers               // bytes of packets that may begin a flow and wait for their container's turn
	SharedTold                    // flows between stations that the kernel tells of

	NumShared
)

var sharedNames = [NumShared]string{"flows", "flows-received", "nat-ports", "stations", "kernel-flows", "waiting-bytes", "next-hops", "fragments", "fragment-bytes", "worker-time", "hop-questions", "group-members", "bridged-flows", "newcomer-bytes", "station-flows"}

// String is the word for a shared table.
func (s Shared) String() string { return sharedNames[s] }

// Shares is what one container has of all shared tables.
type Shares struct {
	Tenant frame.PortID // that the container is counted on
	Of     [NumShared]share.Use
}

// Shares lists who holds, gave or was refused anything, by port, and how much there is of
// each table; 0: that depends.
func (s *Switch) Shares() (room [NumShared]int, list []Shares) {
	room[SharedFlows] = s.conntrack.Stats().Max
	room[SharedReceived] = room[SharedFlows]
	room[SharedStations] = s.fdb.Stats().Max
	if s.flows != nil {
		room[SharedRows] = s.flows.room()
	}
	room[SharedWaiting], room[SharedHops] = waitingChunks*chunkSize, waitingHops
	room[SharedFragments], room[SharedDeferred] = fragContexts, deferredChunks*chunkSize
	room[SharedTime], room[SharedQuestions] = len(s.workers)*int(time.Second/time.Microsecond), asksRoom
	room[SharedGroups] = fdb.MaxMembers
	room[SharedBridged] = len(s.workers) * accountSets * accountWays
	room[SharedNewcomers] = len(s.workers) * newcomerChunks * chunkSize
	if s.stations != nil {
		room[SharedTold] = flowmap.MaxStationFlows
	}
	sn := s.snapshot.Load()
	at := make(map[frame.PortID]int)
	for id := range frame.PortID(MaxPorts) {
		for n, u := range s.uses(id) {
			if u == (share.Use{}) {
				continue
			}
			tenant := id
			if p := sn.ports[id]; Shared(n).byPort() && p != nil && p.Kind == PortContainer {
				tenant = p.tenant
			}
			i, ok := at[tenant]
			if !ok {
				i = len(list)
				at[tenant] = i
				list = append(list, Shares{Tenant: tenant})
			}
			list[i].Of[n].Add(u)
		}
	}
	return room, list
}

// byPort reports whether a table counts each port, the others count containers.
func (s Shared) byPort() bool { return s >= SharedWaiting || s == SharedStations }

// uses is what is counted on a port.
func (s *Switch) uses(id frame.PortID) (of [NumShared]share.Use) {
	of[SharedFlows], of[SharedReceived] = s.conntrack.Flows(id)
	of[SharedPorts] = s.conntrack.PortsHeld(id)
	of[SharedStations] = s.fdb.Use(id)
	of[SharedRows] = s.flows.use(id)
	of[SharedGroups] = s.groups.Use(id)
	of[SharedTold] = s.stations.useOf(id)
	of[SharedWaiting], of[SharedHops] = s.waiting.shares.Use(int(id)), s.waiting.owners.Use(int(id))
	of[SharedFragments], of[SharedDeferred] = s.frags.owners.Use(int(id)), s.frags.shares.Use(int(id))
	for _, w := range s.workers {
		u := &w.accounts.held[id]
		of[SharedBridged].Add(share.Use{Held: int(u.held.Load()), Gave: u.gave.Load(), Refused: u.refused.Load()})
	}
	if e := s.ports[id].Load(); e != nil {
		of[SharedTime] = share.Use{Held: int(e.busy.Load()), Gave: e.yielded.Load()}
		of[SharedQuestions] = share.Use{Held: int(s.waiting.asks.of[id].Load()), Refused: e.unasked.Load()}
		of[SharedNewcomers] = share.Use{Held: int(e.newcomers.held.Load()) * chunkSize, Refused: e.newcomers.refused.Load()}
	}
	return of
}

// clockPorts notes how much of the workers' time each port had since it was noted last, a
// second ago or more, for a second.
func (s *Switch) clockPorts(now int64) {
	second := now - s.clocked
	if second < int64(time.Second) {
		return
	}
	s.clocked = now
	for id := range s.ports {
		e := s.ports[id].Load()
		if e == nil {
			continue
		}
		sum := uint64(0)
		for w := range e.counters {
			sum += e.counters[w].cost.Load()
		}
		e.busy.Store(int64(float64(sum-e.clocked) / float64(second) * 1e6))
		e.clocked = sum
	}
}

// moveTenants follows containers that are counted on another of their ports, because the one
// that they were counted on has left. They keep their entries, and the next port with the
// number begins without any.
func (s *Switch) moveTenants(was, is *Snapshot) {
	moved := make(map[frame.PortID]frame.PortID)
	for id, p := range is.ports {
		if old := was.ports[id]; p != nil && old != nil && p.tenant != old.tenant {
			moved[old.tenant] = p.tenant
		}
	}
	for _, p := range is.ports {
		if p != nil {
			delete(moved, p.tenant) // others are counted there
		}
	}
	for from, to := range moved {
		s.conntrack.MoveTenant(from, to)
		s.flows.moveTenant(from, to)
	}
}

// forgetShares lets what a port has given and been refused be counted anew.
func (s *Switch) forgetShares(id frame.PortID) {
	s.conntrack.Forget(id)
	s.groups.Forget(id)
	for _, t := range []*share.Table{s.waiting.shares, s.waiting.owners, s.frags.shares, s.frags.owners} {
		t.Forget(int(id))
	}
	if s.flows != nil {
		s.flows.shares.Forget(int(id))
	}
	s.stations.forget(id)
}

// sharesTold is what the tenants of shared tables had given and been refused when that was
// last told.
type sharesTold struct {
	sync.Mutex
	told [MaxPorts][NumShared]struct {
		sum uint64
		at  int64 // ns
	}
}

// tellShares tells of ports and containers that have reached their share of a table: they gave
// entries of theirs, or got none, since the last time.
func (s *Switch) tellShares(now int64) {
	s.shares.Lock()
	defer s.shares.Unlock()
	sn := s.snapshot.Load()
	for id := range frame.PortID(MaxPorts) {
		if sn.ports[id] == nil {
			continue
		}
		for n, u := range s.uses(id) {
			t, sum := &s.shares.told[id][n], u.Gave+u.Refused
			if sum <= t.sum || t.at != 0 && now-t.at < int64(eventPause) {
				t.sum = min(sum, t.sum) // it was counted anew
				continue
			}
			t.sum, t.at = sum, now
			s.notices.tell(Event{Kind: EventShare, Shared: Shared(n), Network: sn.networkOf(id), Port: id, Other: frame.NoPort})
		}
	}
}
