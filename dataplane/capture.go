package dataplane

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/filter"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// Point is where on its way through the switch a frame is captured.
type Point uint8

// What came in at a port, went out there, ended there; and what was routed from
// or to a port, before and after its addresses were translated.
const (
	PointRx Point = iota
	PointTx
	PointDrop
	PointPreNAT
	PointPostNAT

	NumPoints
)

var pointNames = [NumPoints]string{"rx", "tx", "drop", "prenat", "postnat"}

// String is the point's name.
func (p Point) String() string { return pointNames[p] }

// Points is a set of points, a bit each.
type Points uint8

// Has reports whether a point is in the set.
func (s Points) Has(p Point) bool { return s>>p&1 == 1 }

// AllPoints are all points.
const AllPoints Points = 1<<NumPoints - 1

// CaptureConfig says what a capture copies.
type CaptureConfig struct {
	Ports  []frame.PortID
	Points Points // 0: rx and tx
	// Filter chooses among the frames, by their wire form; nil takes all.
	Filter *filter.Program
	// SnapLen bounds the bytes kept of a frame, 0: the whole frame.
	SnapLen int
	// BufferBytes bounds the memory for frames that nobody has read yet, 0: 8 MiB.
	BufferBytes int
	// Segment makes the reader cut super-frames to the size they have on a wire.
	Segment bool
	// Recorder keeps the newest frames instead of the oldest; they are read by
	// Recent, as often as one likes.
	Recorder bool
}

// Verdict is what the switch decided about a frame. It holds numbers only.
type Verdict struct {
	In     frame.PortID // where the frame came in
	Out    frame.PortID // where it went out, the first of Copies; NoPort when none
	Copies int          // ports it was sent to
	Reason DropReason   // why it ended
	Fate   Fate
	// Translated says that From became To, in a flow of this kind.
	Translated bool
	Kind       conntrack.Kind
	From, To   header.Tuple
}

// Fate is what became of a frame.
type Fate uint8

const (
	FateSent     Fate = iota // to Out
	FateDropped              // for Reason
	FateAnswered             // by the switch in the place of a container or the gateway
	FateHeld                 // until its next hop or its first fragment is known
	FateOwn                  // not asked for: the switch itself has made this frame
)

// CaptureID is the number of a capture. None is given twice.
type CaptureID uint32

// CaptureQueue is the reader's side of a capture, by values: memory that both sides have
// mapped, and what its records mean. StartCapture reads it.
type CaptureQueue struct {
	ID     CaptureID
	Memory []byte // of ring; owned by both until the capture ends, then by the reader
	// Listen is the descriptor of a bell that rings when the reader has asked for it. The
	// reader owns it.
	Listen  int
	SnapLen int
	Segment bool
	// Recorder says that the newest frames are kept.
	Recorder bool
	// Base is the time when the switch's clock was at Start, ns.
	Base  time.Time
	Start int64
}

// CaptureCount is how many frames were captured at a port's point, and how many had no
// room.
type CaptureCount struct {
	Port        frame.PortID
	Point       Point
	Taken, Lost uint64
}

// queue is the writers' side of a capture, which is a bounded queue of copies of frames.
// Workers put in, one reader takes out; when the reader is slow the frames are lost to the
// capture, never to the switch. The writers share a lock, the reader takes none.
type queue struct {
	id  CaptureID
	cfg CaptureConfig

	mu     sync.Mutex // one writer at a time
	ring   ring
	bell   port.Bell
	closed bool // guarded by mu; the reader sees ring.ctl.closed

	counts map[frame.PortID]*captureCounts // guarded by Switch.mu
}

// captureCounts are of one port.
type captureCounts struct{ taken, lost [NumPoints]atomic.Uint64 }

// mirrorTable says which captures copy a port's frames; nil where there are
// none at all, which is all that a turn without a capture looks at.
type mirrorTable struct {
	ports  [MaxPorts][]tap
	all    []*queue
	points Points // that some capture wants
}

// tap is a capture at a port.
type tap struct {
	c      *queue
	counts *captureCounts
}

// OpenCapture begins to copy the frames of some ports, until EndCapture.
func (s *Switch) OpenCapture(cfg CaptureConfig) (CaptureQueue, error) {
	if cfg.Points == 0 {
		cfg.Points = 1<<PointRx | 1<<PointTx
	}
	if cfg.BufferBytes == 0 {
		cfg.BufferBytes = 8 << 20
	}
	if cfg.BufferBytes < 2*(frame.MaxLen+recordHeader) {
		return CaptureQueue{}, fmt.Errorf("capture: a buffer of %d bytes: at least %d are needed", cfg.BufferBytes, 2*(frame.MaxLen+recordHeader))
	}
	if cfg.SnapLen <= 0 {
		cfg.SnapLen = frame.MaxLen
	}
	cfg.Ports = slices.Clone(cfg.Ports)
	bell, err := port.NewBell()
	if err != nil {
		return CaptureQueue{}, fmt.Errorf("capture: %w", err)
	}
	listen, err := bell.Listener()
	if err != nil {
		return CaptureQueue{}, errors.Join(fmt.Errorf("capture: %w", err), bell.Close())
	}
	q := CaptureQueue{
		Memory: newRing(cfg.BufferBytes), Listen: listen, SnapLen: cfg.SnapLen, Segment: cfg.Segment,
		Recorder: cfg.Recorder, Base: time.Now(), Start: s.now(),
	}
	c := &queue{cfg: cfg, ring: mapRing(q.Memory, cfg.Recorder), bell: bell, counts: make(map[frame.PortID]*captureCounts)}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return CaptureQueue{}, errors.Join(fmt.Errorf("capture: switch is closed"), bell.Close(), port.Bell(listen).Close())
	}
	s.lastCapture++
	c.id, q.ID = s.lastCapture, s.lastCapture
	s.setMirrorsLocked(append(s.captures(), c))
	s.mu.Unlock()
	s.flows.show(s)
	s.stations.renew(s)
	return q, nil
}

// SetCapturePorts makes a capture one of other ports. What was captured stays.
func (s *Switch) SetCapturePorts(id CaptureID, ports []frame.PortID) {
	s.mu.Lock()
	if c := s.capture(id); c != nil {
		c.cfg.Ports = slices.Clone(ports)
		s.setMirrorsLocked(s.captures())
	}
	s.mu.Unlock()
	s.flows.show(s)
	s.stations.renew(s)
}

// EndCapture ends a capture and returns its counts; what it holds can still be read.
func (s *Switch) EndCapture(id CaptureID) []CaptureCount {
	defer s.stations.renew(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.capture(id)
	if c == nil {
		return nil
	}
	s.setMirrorsLocked(slices.DeleteFunc(s.captures(), func(o *queue) bool { return o == c }))
	s.grace() // or a frame of this turn would come after the last one
	c.end()
	s.lost += c.ring.ctl.lost.Load()
	return c.count()
}

// CaptureCounts returns the counts of a running capture.
func (s *Switch) CaptureCounts(id CaptureID) []CaptureCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.capture(id); c != nil {
		return c.count()
	}
	return nil
}

// count lists what was counted. It needs Switch.mu.
func (c *queue) count() (list []CaptureCount) {
	for id, n := range c.counts {
		for p := range NumPoints {
			list = append(list, CaptureCount{Port: id, Point: p, Taken: n.taken[p].Load(), Lost: n.lost[p].Load()})
		}
	}
	return list
}

// capture finds a running capture, nil when there is none.
func (s *Switch) capture(id CaptureID) *queue {
	all := s.captures()
	if i := slices.IndexFunc(all, func(c *queue) bool { return c.id == id }); i >= 0 {
		return all[i]
	}
	return nil
}

func (s *Switch) captures() []*queue {
	if m := s.mirrors.Load(); m != nil {
		return slices.Clone(m.all)
	}
	return nil
}

func (s *Switch) setMirrorsLocked(all []*queue) {
	if len(all) == 0 {
		s.mirrors.Store(nil)
		return
	}
	m := &mirrorTable{all: all}
	for _, c := range all {
		m.points |= c.cfg.Points
		for _, p := range c.cfg.Ports {
			n := c.counts[p]
			if n == nil {
				n = new(captureCounts)
				c.counts[p] = n
			}
			m.ports[p] = append(m.ports[p], tap{c, n})
		}
	}
	s.mirrors.Store(m)
}

// show gives the flows of ports that are captured now back to the switch.
func (t *flowTable) show(sw *Switch) {
	if m := sw.mirrors.Load(); m != nil {
		t.revalidate(sw, func(r *flowRow) bool { return m.sees(r.flow.in, r.out) })
	}
}

// closeCaptures ends every reader's wait.
func (s *Switch) closeCaptures() {
	for _, c := range s.captures() {
		c.end()
	}
}

// end lets the reader see that nothing comes any more.
func (c *queue) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	c.ring.ctl.closed.Store(1)
	c.bell.Ring()
	_ = c.bell.Close() // of an eventfd, which cannot fail
}

// wake rings the bell if the reader has asked for it.
func (c *queue) wake() {
	if !c.ring.due() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && c.ring.ctl.waiting.Swap(notWaiting) != notWaiting {
		c.bell.Ring()
	}
}

// sees reports whether a capture copies what comes in at one port or goes out at the
// other.
func (m *mirrorTable) sees(in, out frame.PortID) bool {
	return m != nil && len(m.ports[in])+len(m.ports[out]) > 0
}
