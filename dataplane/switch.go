package dataplane

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/vswitch/vswitch/dataplane/bpfmap"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/port"
)

// MaxPorts is the number of ports one switch can hold; their IDs are below it.
const MaxPorts = flowmap.MaxPorts

// Switch is the data path. Its methods are the only doors into it and are safe
// for concurrent use; they may take locks and allocate, the workers behind
// them do neither per frame.
type Switch struct {
	cfg      Config
	now      func() int64 // monotonic ns
	snapshot atomic.Pointer[Snapshot]
	neigh    atomic.Pointer[neighborTable]
	lists    atomic.Pointer[listTable]
	busy     atomic.Pointer[conntrack.BusyPorts]
	mirrors  atomic.Pointer[mirrorTable]

	// ports is indexed by PortID. Workers load an entry inside a turn only, so
	// it may be torn down one grace period after it was set to nil.
	ports   [MaxPorts]atomic.Pointer[portEntry]
	workers []*worker

	fdb       *fdb.Table
	conntrack *conntrack.Table
	frags     *fragmentTable
	keys      conntrack.Keys // of hashes that are nobody else's
	ids       *conntrack.Identifiers
	waiting   *waitingRoom
	ways      *ways
	dry       bool // a dry run
	announced announcements
	groups    *fdb.Groups
	flooded   flooded
	guests    guests
	flows     *flowTable   // nil without one
	stations  *stationRows // likewise
	told      *told
	peers     bpfmap.Peers // nil: nobody reads them

	began int64                         // ns
	begun [begunBits / 64]atomic.Uint64 // hashes of connections to the host that began in the first minute
	left  int64                         // when claims of a process before end that are no flow's, 0: there are none; of Tick

	notices notices
	shares  sharesTold

	mu          sync.Mutex             // serialises the doors that change structure
	retired     [NumDropReasons]uint64 // drops of removed ports
	lost        uint64                 // frames lost to captures that have ended
	lastCapture CaptureID
	started     bool
	closed      bool
	stopped     atomic.Bool
	done        chan struct{}
	bg          sync.WaitGroup
	clocked     int64 // when the ports' time was noted last, see clockPorts; of Tick
}

// portEntry is a port and what the workers count on it.
type portEntry struct {
	port      port.Port
	tally     *flowmap.Tally // nil: the kernel's programs do not look at it
	owner     *worker
	gone      atomic.Bool                 // control was told
	told      [numEventKinds]atomic.Int64 // when an event was last told, ns
	sources   sources
	counters  []portCounters
	storms    []credit      // one for each worker
	births    []credit      // flows begun, one for each worker
	deaf      bool          // epoll does not name it; of its worker
	debt      atomic.Int64  // ns of work outside of its turns that its worker lets it pay for
	unasked   atomic.Uint64 // next hops that the kernel was not asked for
	newcomers newcomerUse
	errors    errorsOwed
	busy      atomic.Int64  // us of the workers' time in the last second
	clocked   uint64        // of counters' cost when that was noted; of Tick
	yielded   atomic.Uint64 // turns of lower effort
	last      dropRing
}

// New returns a stopped switch with an empty snapshot.
func New(cfg Config) (*Switch, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("switch: %w", err)
	}
	now := bpfmap.Monotonic()
	if cfg.Clock != nil {
		now = cfg.Clock.Load
	}
	peers, err := bpfmap.OpenPeers(cfg.Peers)
	if err != nil {
		return nil, fmt.Errorf("switch: %w", err)
	}
	flows, err := bpfmap.OpenFlows(cfg.Flows)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("switch: %w", err), closeMaps(peers))
	}
	s := &Switch{
		cfg:     cfg,
		now:     now,
		fdb:     fdb.New(cfg.MaxFDB, MaxPorts),
		frags:   newFragmentTable(),
		keys:    conntrack.NewKeys(),
		began:   now(),
		left:    now() + leftTime,
		waiting: newWaitingRoom(), announced: announcements{due: make(chan announcement, announcedRoom)},
		groups: fdb.NewGroups(MaxPorts),
		ways:   &ways{wanted: make(chan WayKey, 4*waitingHops), known: make(map[WayKey]*route)},
		done:   make(chan struct{}),
		flows:  newFlowTable(flows, &cfg.Flows, cfg.MaxConns),
		peers:  peers,
	}
	s.notices.init()
	s.ids = conntrack.NewIdentifiers(s.keys, cfg.Flows.Identifiers)
	tracked := conntrack.Config{Max: cfg.MaxConns, Ports: cfg.Masquerade, Opened: cfg.Opened, Peers: peers, PortKey: cfg.PortKey}
	if s.flows != nil {
		tracked.Rows = s.flows.entries
	}
	s.conntrack = conntrack.New(now, tracked)
	s.busy.Store(new(conntrack.BusyPorts))
	s.neigh.Store(&neighborTable{})
	s.lists.Store(&listTable{})
	empty, err := NewSnapshot(SnapshotConfig{})
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.snapshot.Store(empty)
	if s.told, err = newTold(flows); err != nil {
		return nil, errors.Join(fmt.Errorf("switch: stations: %w", err), s.Close())
	}
	if s.stations, err = newStationRows(flows, cfg.Flows.Rows); err != nil {
		return nil, errors.Join(fmt.Errorf("switch: rows of stations: %w", err), s.Close())
	}
	s.flows.setTimeouts(s)
	if err := s.flows.find(s); err != nil {
		return nil, errors.Join(fmt.Errorf("switch: flow table: %w", err), s.Close())
	}
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
	s.bg.Add(1)
	go func() { defer s.bg.Done(); s.housekeeping() }()
	if s.flows != nil {
		s.bg.Go(func() { s.flows.run(s, s.done) })
		s.bg.Go(func() { s.flows.lookForEnds(s, s.done) })
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
	s.mu.Unlock()
	for _, w := range s.workers {
		w.poller.Wake()
	}
	s.bg.Wait()
	s.closeCaptures()
	var open []*portEntry
	for id := range s.ports {
		if e := s.ports[id].Swap(nil); e != nil {
			open = append(open, e)
		}
	}
	var errs []error // the rows stay: who comes next goes on with them
	for _, e := range open {
		errs = append(errs, e.port.Close())
	}
	for _, w := range s.workers {
		errs = append(errs, w.poller.Close())
	}
	if s.flows != nil {
		errs = append(errs, s.flows.maps.Close())
	}
	return errors.Join(append(errs, closeMaps(s.peers))...)
}

func closeMaps(m io.Closer) error {
	if m == nil {
		return nil
	}
	return m.Close()
}

// AddPort opens a port and gives it to the worker with the fewest. Its frames are dropped
// until a snapshot names its ID, which the caller chooses below MaxPorts: one that
// was removed a moment ago is still spoken of, by frames that wait and by captures.
// The descriptors of d stay the caller's, who may close them. It is an error when the ID
// is out of range or in use, and when the port cannot be opened or the poller takes no more.
func (s *Switch) AddPort(id frame.PortID, d port.Descriptor) error {
	s.mu.Lock()
	err := s.refuses(id)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	p, err := port.Open(d) // without the lock: others are added meanwhile
	if err != nil {
		return fmt.Errorf("switch: port %d: %w", id, err)
	}
	defer s.stations.plugged(s, id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refuses(id); err != nil {
		return errors.Join(err, p.Close())
	}
	w := s.workers[0]
	for _, o := range s.workers[1:] {
		if o.portCount < w.portCount {
			w = o
		}
	}
	e := &portEntry{port: p, tally: d.Tally, owner: w, counters: make([]portCounters, len(s.workers)), storms: make([]credit, len(s.workers)), births: make([]credit, len(s.workers))}
	s.ports[id].Store(e)
	if err := w.poller.Add(uint32(id), p.FD()); err != nil {
		s.ports[id].Store(nil)
		return errors.Join(fmt.Errorf("switch: port %d: poll: %w", id, err), p.Close())
	}
	w.portCount++
	return nil
}

// refuses says why the switch takes no port by an ID. It needs mu.
func (s *Switch) refuses(id frame.PortID) error {
	switch {
	case s.closed:
		return errors.New("switch: closed")
	case int(id) >= MaxPorts:
		return fmt.Errorf("switch: port %d: IDs end at %d", id, MaxPorts-1)
	case s.ports[id].Load() != nil:
		return fmt.Errorf("switch: port %d: in use: remove it first", id)
	}
	return nil
}

// RemovePort takes a port out, forgets the addresses learned on it and closes
// it once no worker can hold it: a closed descriptor's number is reused at once
// and would receive our frames. It blocks for about one turn, and for the kernel's
// programs when they carried its flows.
func (s *Switch) RemovePort(id frame.PortID) error {
	e, err := s.unlink(id)
	if err != nil {
		return err
	}
	s.flows.revalidate(s, func(r *flowRow) bool { return r.flow.in == id || r.out == id })
	s.stations.gone(s, id)
	return e.port.Close()
}

// unlink is RemovePort without the end of the port itself, which takes the
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
	s.grace()
	s.fdb.FlushPort(id)
	for r, n := range e.stats(id).Drops {
		s.retired[r] += n
	}
	s.groups.FlushPort(id)
	s.forgetShares(id)
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

// Install makes the switch decide by cfg: when it has returned, no frame passes by what was
// decided before, in a turn or in the kernel. FDB, conntrack and counters live on;
// static FDB entries become the ones of cfg. A cfg that says what the one before said
// changes nothing. An error wraps ErrSnapshot, and nothing has changed. cfg is copied.
func (s *Switch) Install(cfg SnapshotConfig) error {
	sn, err := NewSnapshot(cfg)
	if err != nil {
		return err
	}
	s.mu.Lock()
	if s.snapshot.Load().equal(sn) {
		s.mu.Unlock()
		return nil
	}
	s.fdb.SetStatic(sn.pinned, sn.hasNetwork)
	s.groups.SetNetworks(sn.hasNetwork)
	was := s.snapshot.Swap(sn)
	s.ways.renew(sn)
	if was.timeouts != sn.timeouts {
		s.flows.setTimeouts(s)
	}
	s.grace()
	s.moveTenants(was, sn)
	s.mu.Unlock()
	s.flows.revalidate(s, nil)
	s.stations.renew(s)
	s.told.renew(s)
	return nil
}

// SetHostPeers says which peers of SCTP and of protocols without ports the host itself uses,
// all of them: no flow begins to one. The flows that have one by now end; lost are their
// peers, flows is how many ended.
func (s *Switch) SetHostPeers(list []conntrack.HostPeer) (lost []flowmap.Peer, flows int) {
	used := conntrack.NewHostPeers(list)
	if lost = s.conntrack.SetHostPeers(used); len(lost) > 0 {
		flows = s.FlushConns(conntrack.Selector{HostUses: used})
	}
	return lost, flows
}

// SetBusyPorts tells masquerade which ports programs of the host hold; b is not changed
// afterwards. UDP flows that left from one of them end: the host has its port at once, and
// they go on from another. A TCP flow keeps its port, since its tuple is nobody else's; no
// stranger comes in by it any more.
func (s *Switch) SetBusyPorts(b *conntrack.BusyPorts) {
	s.busy.Store(b)
	s.conntrack.CloseBusy(b)
	if s.conntrack.Overtaken(b) {
		s.FlushConns(conntrack.Selector{Overtaken: b})
	}
}
