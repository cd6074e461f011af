package dataplane

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	// fdbAgeing is the ageing time of learned entries (802.1D-2004 table 7-5).
	fdbAgeing = 300 * time.Second
	// maxMACs is how many stations one port may have by default.
	maxMACs = 8192

	// A station that moves more often than flapMoves in flapWindow is frozen
	// where it was before: one that roams moves once, one in a loop with every
	// frame.
	flapMoves  = 5
	flapWindow = 10 // s
	flapFreeze = 60 // s

	// evictScan bounds the search for an entry to evict, which a flood of
	// addresses causes with every frame.
	evictScan = 1024
)

// fdb is the forwarding database: (network, VLAN, MAC) to port, in one open-addressed
// table. Workers read it under the read lock, held for a batch; what a batch
// has to change it changes under the write lock afterwards. The age stamp is in
// seconds and written only when it changed, so that a busy station costs its
// cache line one store a second.
type fdb struct {
	mu      sync.RWMutex
	slots   []fdbSlot // power of two, at most half full
	learned int
	static  int
	max     int      // learned entries
	perPort []uint16 // learned entries on each port
	hand    int      // where the search for a victim goes on
	moves   uint64   // of stations from port to port
	now     atomic.Uint32
}

// fdbKey names a station: network<<48 | MAC, and the VLAN. The zero key is none.
type fdbKey struct {
	station uint64
	vlan    uint16
}

// fdbSlot is free when its key is zero, which no network has.
type fdbSlot struct {
	fdbEntry
	seen atomic.Uint32 // seconds
}

type fdbEntry struct {
	key    fdbKey
	port   frame.PortID
	static bool
	home   frame.PortID // where it was at since
	moves  uint8        // since then
	since  uint32       // seconds; with moves > flapMoves: frozen then
}

type fdbStatic struct {
	key  fdbKey
	port frame.PortID
}

// FDBEntry is one row of the forwarding database.
type FDBEntry struct {
	Network NetworkID
	VLAN    uint16 // 0: the network's own
	MAC     header.MAC
	Port    frame.PortID
	Static  bool          // pinned by the snapshot: never aged, never moved
	Age     time.Duration // since the station was last heard; 0 for static
}

func newFDB(maxLearned int) *fdb {
	f := &fdb{max: maxLearned, perPort: make([]uint16, MaxPorts)}
	f.resize(maxLearned + MaxPorts)
	return f
}

// resize makes room for entries at half load and puts them back.
func (f *fdb) resize(entries int) {
	size := 64
	for size < 2*entries {
		size *= 2
	}
	old := f.slots
	f.slots = make([]fdbSlot, size)
	for i := range old {
		if o := &old[i]; o.key.station != 0 {
			s := f.place(o.key)
			s.fdbEntry = o.fdbEntry
			s.seen.Store(o.seen.Load())
		}
	}
}

func fdbKeyOf(n NetworkID, vlan uint16, m header.MAC) fdbKey {
	return fdbKey{uint64(n)<<48 | uint64(m[0])<<40 | uint64(m[1])<<32 | uint64(m[2])<<24 |
		uint64(m[3])<<16 | uint64(m[4])<<8 | uint64(m[5]), vlan}
}

func (k fdbKey) network() NetworkID { return NetworkID(k.station >> 48) }

func (k fdbKey) mac() header.MAC {
	s := k.station
	return header.MAC{byte(s >> 40), byte(s >> 32), byte(s >> 24), byte(s >> 16), byte(s >> 8), byte(s)}
}

// home is where the search for a key begins (Fibonacci hashing).
func (f *fdb) home(key fdbKey) int {
	return int((key.station^uint64(key.vlan)<<20)*0x9E3779B97F4A7C15>>20) & (len(f.slots) - 1)
}

// place returns the slot of key, or the free one where it belongs.
func (f *fdb) place(key fdbKey) *fdbSlot {
	for i := f.home(key); ; i = (i + 1) & (len(f.slots) - 1) {
		if s := &f.slots[i]; s.key == key || s.key.station == 0 {
			return s
		}
	}
}

// lookupLocked finds the port of a station, or frame.NoPort. It needs mu for
// reading.
func (f *fdb) lookupLocked(key fdbKey) frame.PortID {
	if s := f.place(key); s.key.station != 0 {
		return s.port
	}
	return frame.NoPort
}

// heard is what the learn stage found out about a source address.
type heard uint8

const (
	heardKnown heard = iota // as expected, stamp refreshed
	heardNew                // unknown or moved: tell learn
	heardSpoof              // pinned to another port
	heardFlap               // frozen on another port
)

// hearLocked notes that a station spoke on a port. It needs mu for reading.
func (f *fdb) hearLocked(key fdbKey, p frame.PortID, sec uint32) heard {
	s := f.place(key)
	switch {
	case s.key.station == 0:
		return heardNew
	case s.static:
		if s.port != p {
			return heardSpoof
		}
		return heardKnown
	case s.port != p:
		if s.frozen(sec) {
			return heardFlap
		}
		return heardNew
	}
	if s.seen.Load() != sec {
		s.seen.Store(sec)
	}
	return heardKnown
}

// learned is what came of an address that was new on a port.
type learned uint8

const (
	learnedNew     learned = iota
	learnedMoved           // from another port
	learnedFrozen          // it moved too often and stays where it was
	learnedAtLimit         // the port had as many as it may
	learnedFull            // the table was full
)

func (e *fdbEntry) frozen(sec uint32) bool {
	return e.moves > flapMoves && sec-e.since < flapFreeze
}

// move takes the station to a port, or back to where it was before it began to
// flap, and reports whether it may go. A frame in a loop then finds its source
// elsewhere on every port of the loop.
func (e *fdbEntry) move(p frame.PortID, sec uint32) bool {
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

// learnLocked enters or moves a station; limit is how many the port may have.
// It needs mu for writing. A port at its limit loses one of its own. When the
// table is full, the port that holds the most entries loses one, as in Open
// vSwitch, so that a flood of addresses evicts only its own.
func (f *fdb) learnLocked(key fdbKey, p frame.PortID, limit int, sec uint32) learned {
	s := f.place(key)
	if s.key.station != 0 {
		switch {
		case s.static, s.port == p: // twice in a batch
			return learnedNew
		}
		f.perPort[s.port]--
		moved := s.move(p, sec)
		if moved {
			f.moves++
		}
		f.perPort[s.port]++
		s.seen.Store(sec)
		if !moved {
			return learnedFrozen
		}
		return learnedMoved
	}
	how := learnedNew
	switch {
	case int(f.perPort[p]) >= limit:
		how = learnedAtLimit
		if !f.evictLocked(p) {
			return how // unknown it is flooded, and storm bounds that
		}
	case f.learned >= f.max:
		how = learnedFull
		if !f.evictLocked(f.greediestLocked()) {
			return how
		}
	}
	s = f.place(key)
	s.fdbEntry = fdbEntry{key: key, port: p}
	s.seen.Store(sec)
	f.learned++
	f.perPort[p]++
	return how
}

func (f *fdb) greediestLocked() frame.PortID {
	greedy := frame.PortID(0)
	for p := range f.perPort {
		if f.perPort[p] > f.perPort[greedy] {
			greedy = frame.PortID(p)
		}
	}
	return greedy
}

// evictLocked removes an entry of a port: the first in the hand's way that was
// not heard this second, or else any.
func (f *fdb) evictLocked(p frame.PortID) bool {
	victim, mask := -1, len(f.slots)-1
	for range min(evictScan, len(f.slots)) {
		i := f.hand & mask
		f.hand = i + 1
		s := &f.slots[i]
		if s.key.station == 0 || s.static || s.port != p {
			continue
		}
		victim = i
		if s.seen.Load() < f.now.Load() {
			break
		}
	}
	if victim < 0 {
		return false
	}
	f.removeLocked(victim)
	return true
}

// removeLocked frees slot i and closes the gap, so that no search stops early.
func (f *fdb) removeLocked(i int) {
	if s := &f.slots[i]; s.static {
		f.static--
	} else {
		f.learned--
		f.perPort[s.port]--
	}
	mask := len(f.slots) - 1
	for j := (i + 1) & mask; f.slots[j].key.station != 0; j = (j + 1) & mask {
		if (j-f.home(f.slots[j].key))&mask < (j-i)&mask {
			continue // between its home and j there is no gap at i
		}
		a, b := &f.slots[i], &f.slots[j]
		a.fdbEntry = b.fdbEntry
		a.seen.Store(b.seen.Load())
		i = j
	}
	s := &f.slots[i]
	s.fdbEntry = fdbEntry{}
	s.seen.Store(0)
}

// sweepLocked removes every entry that dead says so of. It needs mu for
// writing.
func (f *fdb) sweepLocked(dead func(*fdbSlot) bool) {
	for i := 0; i < len(f.slots); {
		if s := &f.slots[i]; s.key.station != 0 && dead(s) {
			f.removeLocked(i) // may pull another entry into i
			continue
		}
		i++
	}
}

// age forgets the stations not heard for fdbAgeing.
func (f *fdb) age(now int64) {
	sec := seconds(now)
	f.now.Store(sec)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.learned == 0 {
		return
	}
	f.sweepLocked(func(s *fdbSlot) bool {
		return !s.static && sec-s.seen.Load() > uint32(fdbAgeing/time.Second)
	})
}

// setStatic makes the pinned entries those of sn and forgets stations of
// networks that are gone.
func (f *fdb) setStatic(sn *Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweepLocked(func(s *fdbSlot) bool {
		return s.static || sn.networks[s.key.network()] == nil
	})
	if need := f.max + len(sn.statics); 2*need > len(f.slots) {
		f.resize(need)
	}
	for _, e := range sn.statics {
		s := f.place(e.key)
		switch {
		case s.key.station == 0:
			f.static++
		case !s.static: // learned before it was pinned
			f.learned--
			f.perPort[s.port]--
			f.static++
		}
		s.fdbEntry = fdbEntry{key: e.key, port: e.port, static: true}
	}
}

// flushPort forgets every station that was learned on a port; the pinned ones
// are the snapshot's.
func (f *fdb) flushPort(p frame.PortID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sweepLocked(func(s *fdbSlot) bool {
		if s.home == p {
			s.home, s.moves = s.port, 0
		}
		return !s.static && s.port == p
	})
}

// FDB lists the forwarding database in no particular order.
func (s *Switch) FDB() []FDBEntry {
	f := s.fdb
	sec := seconds(s.cfg.Now())
	f.mu.RLock()
	defer f.mu.RUnlock()
	list := make([]FDBEntry, 0, f.learned+f.static)
	for i := range f.slots {
		e := &f.slots[i]
		if e.key.station == 0 {
			continue
		}
		row := FDBEntry{Network: e.key.network(), VLAN: e.key.vlan, MAC: e.key.mac(), Port: e.port, Static: e.static}
		if seen := e.seen.Load(); !e.static && sec > seen {
			row.Age = time.Duration(sec-seen) * time.Second
		}
		list = append(list, row)
	}
	return list
}

// seconds is the coarse clock of tables that age.
func seconds(now int64) uint32 { return uint32(now / int64(time.Second)) }
