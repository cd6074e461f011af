package dataplane

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
)

// MaxPorts is the number of ports one switch can hold.
const MaxPorts = 4096

// ErrTooManyPorts is returned by AddPort when MaxPorts are in use.
var ErrTooManyPorts = errors.New("the switch has no free port")

// Config is what a switch is made with. Zero fields take the default.
type Config struct {
	// Workers is the number of forwarding threads. Default: half the CPUs, at
	// least one, at most eight.
	Workers int
	// Now returns monotonic nanoseconds. Default: the runtime's clock.
	Now func() int64
	// MaxConns bounds conntrack, default 262144. MaxFDB bounds the learned MAC
	// addresses of all ports together, default 16384.
	MaxConns, MaxFDB int
	// Masquerade is the plane of claims that masquerade writes, default private
	// memory that nobody reads.
	Masquerade ClaimPlane
	// Peers hears of the flows whose protocol has no port that masquerade could
	// change. Default: nobody does.
	Peers PeerClaims
	// PortKey makes masquerade find the same ports again for the same endpoints
	// after a restart, so that their TCP flows go on. It is secret. Default: a
	// random one.
	PortKey [16]byte
	// Resolve is called when the MAC address of a next hop is wanted, from a
	// goroutine of the switch, at most once a second for each; the answer comes
	// by SetNeighbors.
	Resolve func(uplink frame.PortID, next netip.Addr)
	// Gone is called once when a port's device has vanished, from a goroutine of
	// the switch. The port stays, silent, until RemovePort.
	Gone func(frame.PortID)
	// Event is told of what the layer 2 guards found, from a goroutine of the
	// switch, at most once in ten seconds for each port and kind.
	Event func(Event)
	// Pressure is called with what was refused since the last call, at most once
	// a second and only when something was, from a goroutine of the switch.
	Pressure func(Pressure)
	// Flows is the kernel's flow table; nil: every frame comes to userspace.
	Flows FlowMaps
	// Spin is how long a worker polls after the last frame before it sleeps.
	// Default 100 us, 0 takes the default, negative never spins.
	Spin time.Duration
}

// Switch is the data path. Its methods are the only doors into it and are safe
// for concurrent use; they may take locks and allocate, the workers behind
// them do neither per frame.
type Switch struct {
	cfg      Config
	snapshot atomic.Pointer[Snapshot]
	neigh    atomic.Pointer[neighborTable]
	busy     atomic.Pointer[BusyPorts]
	mirrors  atomic.Pointer[mirrorTable]

	// ports is indexed by PortID. Workers load an entry inside a turn only, so
	// it may be torn down one grace period after it was set to nil.
	ports   [MaxPorts]atomic.Pointer[portEntry]
	workers []*worker

	fdb       *fdb
	conntrack *conntrack
	masq      *masquerade
	frags     *fragmentTable
	ids       *identifiers
	waiting   *waitingRoom
	groups    *groupTable
	ended     endedFlows
	flows     *flowTable // nil without one

	began    int64    // ns
	pressure Pressure // at the last tick; guarded by conntrack.sweeping

	mu       sync.Mutex // serialises the doors that change structure
	nextPort frame.PortID
	retired  [NumDropReasons]uint64 // drops of removed ports
	lost     uint64                 // frames lost to captures that have ended
	started  bool
	closed   bool
	stopped  atomic.Bool
	done     chan struct{}
	gone     chan frame.PortID
	events   chan Event
	bg       sync.WaitGroup
}

// portEntry is a port and what the workers count on it.
type portEntry struct {
	port     port.Port
	owner    *worker
	gone     atomic.Bool                 // reported by Config.Gone
	told     [numEventKinds]atomic.Int64 // when Config.Event last heard of it, ns
	counters []portCounters
	storms   []credit // one for each worker
	births   []credit // flows begun, one for each worker
	last     dropRing
}

// New returns a stopped switch with an empty snapshot.
func New(cfg Config) (*Switch, error) {
	if cfg.Workers == 0 {
		cfg.Workers = min(max(1, runtime.NumCPU()/2), 8)
	}
	if cfg.Workers < 0 {
		return nil, fmt.Errorf("switch: %d workers: at least one is needed", cfg.Workers)
	}
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() int64 { return int64(time.Since(start)) }
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = 262144
	}
	if cfg.MaxFDB == 0 {
		cfg.MaxFDB = 16384
	}
	if cfg.Masquerade == nil {
		cfg.Masquerade = make(ClaimPlane, ClaimWords)
	}
	if len(cfg.Masquerade) != ClaimWords {
		return nil, fmt.Errorf("switch: claim plane of %d words: want %d", len(cfg.Masquerade), ClaimWords)
	}
	if cfg.Spin == 0 {
		cfg.Spin = 100 * time.Microsecond
	}
	s := &Switch{
		cfg:     cfg,
		fdb:     newFDB(cfg.MaxFDB),
		frags:   newFragmentTable(),
		ids:     newIdentifiers(),
		began:   cfg.Now(),
		waiting: newWaitingRoom(),
		groups:  newGroupTable(),
		done:    make(chan struct{}),
		gone:    make(chan frame.PortID, MaxPorts),
		events:  make(chan Event, 64),
		flows:   newFlowTable(cfg.Flows),
	}
	s.ended.now = cfg.Now
	s.conntrack = newConntrack(cfg.MaxConns, &s.ended, cfg.Peers)
	if s.flows != nil {
		s.conntrack.rows = s.flows.slots
	}
	s.masq = newMasquerade(cfg.Masquerade, cfg.PortKey)
	s.busy.Store(new(BusyPorts))
	s.neigh.Store(&neighborTable{})
	empty, err := NewSnapshot(SnapshotConfig{})
	if err != nil {
		return nil, err
	}
	s.snapshot.Store(empty)
	for i := range cfg.Workers {
		w, err := newWorker(s, i)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("switch: worker %d: %w", i, err), s.Close())
		}
		s.workers = append(s.workers, w)
	}
	return s, nil
}

// Start lets the workers run.
func (s *Switch) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.started || s.closed {
		return
	}
	s.started = true
	for _, w := range s.workers {
		s.bg.Add(1)
		go func() { defer s.bg.Done(); w.loop() }()
	}
	s.bg.Add(2)
	go func() { defer s.bg.Done(); s.housekeeping() }()
	go func() { defer s.bg.Done(); s.resolver() }()
	if s.flows != nil {
		s.bg.Add(1)
		go func() { defer s.bg.Done(); s.flows.run(s, s.done) }()
	}
}

// Close stops the workers and closes every port.
func (s *Switch) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.stopped.Store(true)
	close(s.done)
	s.mu.Unlock() // a Gone callback under way may want RemovePort
	for _, w := range s.workers {
		w.poller.Wake()
	}
	s.bg.Wait()
	s.flows.flush(s, func(*flowRow) bool { return true })
	s.closeCaptures()
	var errs []error
	for id := range s.ports {
		if e := s.ports[id].Swap(nil); e != nil {
			errs = append(errs, e.port.Close())
		}
	}
	for _, w := range s.workers {
		errs = append(errs, w.poller.Close())
	}
	return errors.Join(errs...)
}

// AddPort gives a port to the worker with the fewest and returns its ID. Its
// frames are dropped until a snapshot names the ID. The switch owns p from
// here on, unless an error is returned.
func (s *Switch) AddPort(p port.Port) (frame.PortID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return frame.NoPort, errors.New("switch: closed")
	}
	id, ok := s.freePortLocked()
	if !ok {
		return frame.NoPort, ErrTooManyPorts
	}
	w := s.workers[0]
	for _, o := range s.workers[1:] {
		if o.portCount < w.portCount {
			w = o
		}
	}
	e := &portEntry{port: p, owner: w, counters: make([]portCounters, len(s.workers)), storms: make([]credit, len(s.workers)), births: make([]credit, len(s.workers))}
	s.ports[id].Store(e)
	if err := w.poller.Add(uint32(id), p.FD()); err != nil {
		s.ports[id].Store(nil)
		return frame.NoPort, fmt.Errorf("switch: port %d: poll: %w", id, err)
	}
	w.portCount++
	return id, nil
}

// freePortLocked goes round the IDs so that one is not given out again soon.
func (s *Switch) freePortLocked() (frame.PortID, bool) {
	for range MaxPorts {
		id := s.nextPort
		s.nextPort = (s.nextPort + 1) % MaxPorts
		if s.ports[id].Load() == nil {
			return id, true
		}
	}
	return frame.NoPort, false
}

// RemovePort takes a port out, forgets the addresses learned on it and closes
// it once no worker can hold it: a closed descriptor's number is reused at once
// and would receive our frames. It blocks for about one turn.
func (s *Switch) RemovePort(id frame.PortID) error {
	e, err := s.unlink(id)
	if err != nil {
		return err
	}
	return e.port.Close()
}

// unlink is RemovePort but for the end of the port itself, which takes the
// kernel some 25 ms for a packet socket: others need not wait for it.
func (s *Switch) unlink(id frame.PortID) (*portEntry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(id) >= MaxPorts {
		return nil, fmt.Errorf("switch: port %d: no such port", id)
	}
	e := s.ports[id].Swap(nil)
	if e == nil {
		return nil, fmt.Errorf("switch: port %d: no such port", id)
	}
	e.owner.poller.Remove(e.port.FD())
	e.owner.portCount--
	s.flows.flush(s, func(r *flowRow) bool { return r.in == id || r.out == id })
	s.grace()
	s.fdb.flushPort(id)
	for r, n := range e.stats(id).Drops {
		s.retired[r] += n
	}
	s.groups.flushPort(id)
	return e, nil
}

// grace returns when every worker has left the turn it was in: what was
// unlinked before the call is referenced by none of them.
func (s *Switch) grace() {
	for _, w := range s.workers {
		seq := w.seq.Load()
		for seq&1 == 1 && w.seq.Load() == seq {
			runtime.Gosched()
		}
	}
}

// Install makes the workers use sn from their next turn on. FDB, conntrack and
// counters live on; static FDB entries become those of sn.
func (s *Switch) Install(sn *Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fdb.setStatic(sn)
	s.groups.setNetworks(sn)
	s.snapshot.Store(sn)
	s.flows.flush(s, func(*flowRow) bool { return true })
}

// SetBusyPorts tells masquerade which ports programs of the host hold; b is
// not changed afterwards.
func (s *Switch) SetBusyPorts(b *BusyPorts) { s.busy.Store(b) }

// housekeeping ages the tables once a second and reports vanished devices.
func (s *Switch) housekeeping() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.done:
			return
		case id := <-s.gone:
			if s.cfg.Gone != nil {
				s.cfg.Gone(id)
			}
		case e := <-s.events:
			s.event(e)
		case <-tick.C:
			s.Tick()
			s.checkPorts()
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

func (s *Switch) event(e Event) {
	if s.cfg.Event != nil {
		s.cfg.Event(e)
	}
}

// Tick ages the FDB, multicast groups, conntrack, fragments and waiting frames,
// and tells of events. Start calls it once a second; tests with their own clock
// call it themselves.
func (s *Switch) Tick() {
	now := s.cfg.Now()
	for range len(s.events) {
		select {
		case e := <-s.events:
			s.event(e)
		default:
		}
	}
	s.fdb.age(now)
	s.groups.expire(now)
	s.masq.awake(now)
	s.conntrack.sweep(now, &s.snapshot.Load().timeouts, s.masq)
	for _, w := range s.workers {
		w.accounts.sweep(now, &s.ended)
	}
	s.frags.expire(now, s.workers[0])
	s.flows.sweep(s, now)
	s.waiting.expire(now, s)
	s.report()
}
