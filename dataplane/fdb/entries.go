package fdb

import (
	"slices"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/share"
)

// Entry is one row of the forwarding database.
type Entry struct {
	Network frame.NetworkID
	VLAN    uint16 // 0: the network's own
	MAC     header.MAC
	Port    frame.PortID
	Static  bool          // pinned by the snapshot: never aged, never moved
	Age     time.Duration // since the station was last heard; 0 for static
}

// Entries lists the table in no particular order; now is in ns.
func (f *Table) Entries(now int64) []Entry {
	sec := Seconds(now)
	f.RLock()
	defer f.RUnlock()
	list := make([]Entry, 0, f.learnedLocked()+f.static)
	for i := range f.cells {
		e := &f.cells[i]
		if e.key.station == 0 {
			continue
		}
		row := Entry{Network: e.key.Network(), VLAN: e.key.vlan, MAC: e.key.mac(), Port: e.port, Static: e.static}
		if seen := e.seen.Load(); !e.static && sec > seen {
			row.Age = time.Duration(sec-seen) * time.Second
		}
		list = append(list, row)
	}
	return list
}

// Stats say how full the table is.
type Stats struct {
	Learned, Static int    // entries
	Max             int    // learned entries that have room
	Moves           uint64 // of learned stations, from port to port
}

// Stats counts the entries.
func (f *Table) Stats() Stats {
	f.RLock()
	defer f.RUnlock()
	return Stats{Learned: f.learnedLocked(), Static: f.static, Max: f.max, Moves: f.moves}
}

// CopyFrom takes over what another table has learned of some stations, for which
// there must be room.
func (f *Table) CopyFrom(from *Table, stations ...header.MAC) {
	from.RLock()
	defer from.RUnlock()
	for i := range from.cells {
		e := &from.cells[i]
		if e.key.station == 0 || e.static || !slices.Contains(stations, e.key.mac()) {
			continue
		}
		if s := f.place(e.key); s.key.station == 0 {
			s.station = e.station
			s.seen.Store(e.seen.Load())
			f.enterLocked(s)
		}
	}
}

// Use is what a port holds of the learned stations.
func (f *Table) Use(p frame.PortID) share.Use {
	f.RLock()
	defer f.RUnlock()
	return f.shares.Use(int(p))
}
