// Package fdb holds what the switch knows of layer 2: the forwarding database, which
// station is at which port, and which ports want which multicast groups. It knows
// networks, VLANs and ports by number, takes its time from the caller, and neither
// sees a frame nor a snapshot.
package fdb

import (
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/share"
)

const (
	// ageing is the ageing time of learned entries (802.1D-2004 table 7-5).
	ageing = 300 * time.Second

	// A station that moves more often than flapMoves in flapWindow is frozen
	// where it was before: one that roams moves once, one in a loop with every
	// frame.
	flapMoves  = 5
	flapWindow = 10 // s
	flapFreeze = 60 // s
)

// Table is the forwarding database: (network, VLAN, MAC) to port, in one open-addressed
// table. Workers read it under the read lock, held for a batch; what a batch
// has to change it changes under the write lock afterwards. Those locks are the
// caller's for the methods that end in Locked; the others take them. The age stamp
// is in seconds and written only when it changed, so that a busy station costs its
// cache line one store a second.
type Table struct {
	sync.RWMutex
	cells  []cell // power of two, at most half full
	static int
	max    int // learned entries
	ports  int
	shares *share.Table // the learned entries, by cell and one, of their ports
	moves  uint64       // of stations from port to port
	now    atomic.Uint32
}

// Key names a station: network<<48 | MAC, and the VLAN. The zero key is none.
type Key struct {
	station uint64
	vlan    uint16
}

// cell is free when its key is zero, which no network has.
type cell struct {
	station
	seen atomic.Uint32 // seconds
	link share.Link
}

// learned are the cells as their shares see them.
type learned Table

func (f *learned) Link(i uint32) *share.Link { return &f.cells[i-1].link }
func (f *learned) Seen(i uint32) uint32      { return f.cells[i-1].seen.Load() }

type station struct {
	key    Key
	port   frame.PortID
	static bool
	home   frame.PortID // where it was at since
	moves  uint8        // since then
	since  uint32       // seconds; with moves > flapMoves: frozen then
}

// New makes a table with room for a number of learned stations. The IDs of ports
// are below ports, and each may have one pinned station besides.
func New(maxLearned, ports int) *Table {
	f := &Table{max: maxLearned, ports: ports}
	f.resize(maxLearned + ports)
	return f
}

// learnedLocked is how many entries were learned.
func (f *Table) learnedLocked() int { return f.shares.Total() }

// enterLocked and leaveLocked count a learned entry on its port, or no longer.
func (f *Table) enterLocked(s *cell) { f.shares.Enter(f.number(s), int(s.port), 0, 1) }
func (f *Table) leaveLocked(s *cell) { f.shares.Leave(f.number(s), int(s.port), 0, 1) }

// number is that of a cell among the entries of shares.
func (f *Table) number(s *cell) uint32 {
	return uint32((uintptr(unsafe.Pointer(s))-uintptr(unsafe.Pointer(&f.cells[0])))/unsafe.Sizeof(cell{})) + 1
}

// resize makes room for entries at half load and puts them back.
func (f *Table) resize(entries int) {
	size := 64
	for size < 2*entries {
		size *= 2
	}
	old := f.cells
	var order []uint32 // of the learned ones, oldest first
	for p := 0; f.shares != nil && p < f.ports; p++ {
		for i := f.shares.Oldest(p, 0); i != 0; i = f.shares.Next(i) {
			order = append(order, i-1)
		}
	}
	f.cells = make([]cell, size)
	f.shares = share.New((*learned)(f), f.ports, 0)
	put := func(o *cell) *cell {
		s := f.place(o.key)
		s.station = o.station
		s.seen.Store(o.seen.Load())
		return s
	}
	for i := range old {
		if old[i].static {
			put(&old[i])
		}
	}
	for _, i := range order {
		f.enterLocked(put(&old[i]))
	}
}

// KeyOf is the key of a station; vlan 0 is the network's own.
func KeyOf(n frame.NetworkID, vlan uint16, m header.MAC) Key {
	return Key{uint64(n)<<48 | uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 |
		uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5]), vlan}
}

// Network is the network of the station.
func (k Key) Network() frame.NetworkID { return frame.NetworkID(k.station >> 48) }

func (k Key) mac() header.MAC {
	s := k.station
	return header.MAC{byte(s >> 40), byte(s >> 32), byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}
}

// home is where the search for a key begins (Fibonacci hashing).
func (f *Table) home(key Key) int {
	return int((key.station^uint64(key.vlan)<<20)*0x9E3779B97F4A7C15>>20) & (len(f.cells) - 1)
}

// place returns the cell of key, or the free one where it belongs.
func (f *Table) place(key Key) *cell {
	for i := f.home(key); ; i = (i + 1) & (len(f.cells) - 1) {
		if s := &f.cells[i]; s.key == key || s.key.station == 0 {
			return s
		}
	}
}

// Lookup finds the port of a station, or frame.NoPort.
func (f *Table) Lookup(key Key) frame.PortID {
	f.RLock()
	defer f.RUnlock()
	return f.LookupLocked(key)
}

// LookupLocked is Lookup for who holds the lock.
func (f *Table) LookupLocked(key Key) frame.PortID {
	if s := f.place(key); s.key.station != 0 {
		return s.port
	}
	return frame.NoPort
}

// Heard is what the table says of a source address.
type Heard uint8

const (
	HeardKnown Heard = iota // as expected, stamp refreshed
	HeardNew                // unknown or moved: to be learned
	HeardSpoof              // pinned to another port
	HeardFlap               // frozen on another port
)

// HearLocked notes that a station spoke on a port at a time, see Seconds. It needs
// the lock for reading.
func (f *Table) HearLocked(key Key, p frame.PortID, sec uint32) Heard {
	s := f.place(key)
	switch {
	case s.key.station == 0:
		return HeardNew
	case s.static:
		if s.port != p {
			return HeardSpoof
		}
		return HeardKnown
	case s.port != p:
		if s.frozen(sec) {
			return HeardFlap
		}
		return HeardNew
	}
	if s.seen.Load() != sec {
		s.seen.Store(sec)
	}
	return HeardKnown
}

// Learned is what came of an address that was new on a port.
type Learned uint8

const (
	LearnedNew     Learned = iota
	LearnedMoved           // from another port
	LearnedFrozen          // it moved too often and stays where it was
	LearnedAtLimit         // the port had as many as it may
	LearnedFull            // the table was full
)

func (e *station) frozen(sec uint32) bool {
	return e.moves > flapMoves && sec-e.since < flapFreeze
}

// move takes the station to a port, or back to where it was before it began to
// flap, and reports whether it may go. A frame in a loop then finds its source
// elsewhere on every port of the loop.
func (e *station) move(p frame.PortID, sec uint32) bool {
	if e.frozen(sec) {
		return false
	}
	if e.moves > flapMoves || sec-e.since >= flapWindow {
		e.home, e.moves, e.since = e.port, 0, sec
	}
	if e.moves++; e.moves > flapMoves {
		e.port, e.since = e.home, sec
		return false
	}
	e.port = p
	return true
}

// LearnLocked enters or moves a station; limit is how many the port may have.
// It needs the lock for writing. A port at its limit loses one of its own. When the
// table is full, the port that holds the most entries loses one, so that a flood of
// addresses evicts only its own. The oldest gives that was not heard since.
func (f *Table) LearnLocked(key Key, p frame.PortID, limit int, sec uint32) Learned {
	s := f.place(key)
	if s.key.station != 0 {
		switch {
		case s.static, s.port == p: // twice in a batch
			return LearnedNew
		}
		f.leaveLocked(s)
		moved := s.move(p, sec)
		if moved {
			f.moves++
		}
		s.seen.Store(sec)
		f.enterLocked(s)
		if !moved {
			return LearnedFrozen
		}
		return LearnedMoved
	}
	how := LearnedNew
	victim := uint32(0)
	switch {
	case f.shares.Held(int(p)) >= limit:
		how, victim = LearnedAtLimit, f.shares.VictimOf(int(p), 0)
	case f.learnedLocked() >= f.max:
		how = LearnedFull
		victim, _ = f.shares.Victim(int(p))
	}
	switch {
	case victim != 0:
		f.shares.Gave(int(f.cells[victim-1].port))
		f.removeLocked(int(victim - 1))
	case how != LearnedNew:
		f.shares.Refuse(int(p))
		return how // unknown it is flooded, and storm bounds that
	}
	s = f.place(key)
	s.station = station{key: key, port: p}
	s.seen.Store(sec)
	f.enterLocked(s)
	return how
}

// removeLocked frees cell i and closes the gap, so that no search stops early.
func (f *Table) removeLocked(i int) {
	if s := &f.cells[i]; s.static {
		f.static--
	} else {
		f.leaveLocked(s)
	}
	mask := len(f.cells) - 1
	for j := (i + 1) & mask; f.cells[j].key.station != 0; j = (j + 1) & mask {
		if (j-f.home(f.cells[j].key))&mask < (j-i)&mask {
			continue // between its home and j there is no gap at i
		}
		a, b := &f.cells[i], &f.cells[j]
		a.station = b.station
		a.seen.Store(b.seen.Load())
		if a.link = b.link; !a.static {
			f.shares.Rename(uint32(j+1), uint32(i+1), int(a.port), 0)
		}
		i = j
	}
	s := &f.cells[i]
	s.station, s.link = station{}, share.Link{}
	s.seen.Store(0)
}

// sweepLocked removes every entry that dead says so of. It needs the lock
// for writing.
func (f *Table) sweepLocked(dead func(*cell) bool) {
	for i := 0; i < len(f.cells); {
		if s := &f.cells[i]; s.key.station != 0 && dead(s) {
			f.removeLocked(i) // may pull another entry into i
			continue
		}
		i++
	}
}

// Age forgets the stations not heard for five minutes; now is in ns.
func (f *Table) Age(now int64) {
	sec := Seconds(now)
	f.now.Store(sec)
	f.Lock()
	defer f.Unlock()
	if f.learnedLocked() == 0 {
		return
	}
	f.sweepLocked(func(s *cell) bool {
		return !s.static && int32(sec-s.seen.Load()) > int32(ageing/time.Second)
	})
}

// SetStatic makes the pinned entries those of a map and forgets stations of
// networks that do not exist any more.
func (f *Table) SetStatic(pinned map[Key]frame.PortID, exists func(frame.NetworkID) bool) {
	f.Lock()
	defer f.Unlock()
	f.sweepLocked(func(s *cell) bool {
		return s.static || !exists(s.key.Network())
	})
	if need := f.max + len(pinned); 2*need > len(f.cells) {
		f.resize(need)
	}
	for key, port := range pinned {
		s := f.place(key)
		switch {
		case s.key.station == 0:
			f.static++
		case !s.static: // learned before it was pinned
			f.leaveLocked(s)
			f.static++
		}
		s.station = station{key: key, port: port, static: true}
	}
}

// FlushPort forgets every station that was learned on a port; the pinned ones
// are the snapshot's.
func (f *Table) FlushPort(p frame.PortID) {
	f.Lock()
	defer f.Unlock()
	f.sweepLocked(func(s *cell) bool {
		if s.home == p {
			s.home, s.moves = s.port, 0
		}
		return !s.static && s.port == p
	})
	f.shares.Forget(int(p)) // the next one with the number counts anew
}

// Seconds is the table's coarse clock; now is in ns.
func Seconds(now int64) uint32 { return uint32(now / int64(time.Second)) }
