package dataplane

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/filter"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
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

// CaptureRecord is one captured frame. Data is owned by the caller; a partial
// checksum in it has been finished, unless SnapLen cut the frame.
type CaptureRecord struct {
	Time    time.Time
	Port    frame.PortID
	Point   Point
	Data    []byte
	OrigLen int
	Verdict Verdict
	offload frame.Offload
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
	Kind       ConnKind
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

// Capture is a bounded queue of copies of frames. Workers put in, one reader
// takes out; when the reader is slow the frames are lost to the capture, never
// to the switch.
type Capture struct {
	sw    *Switch
	cfg   CaptureConfig
	start int64 // of the switch's clock, when base was
	base  time.Time

	mu      sync.Mutex
	ring    ring
	closed  bool
	waiting bool // the reader wants to be notified of the next record
	dozing  bool // the reader wants to be notified when there is much
	notify  chan struct{}

	counts map[frame.PortID]*captureCounts // guarded by Switch.mu
	lost   atomic.Uint64
	ready  []CaptureRecord // of the reader: segments of one frame
}

// captureCounts are of one port.
type captureCounts struct{ taken, lost [NumPoints]atomic.Uint64 }

// mirrorTable says which captures copy a port's frames; nil where there are
// none at all, which is all that a turn without a capture looks at.
type mirrorTable struct {
	ports  [MaxPorts][]tap
	all    []*Capture
	points Points // that some capture wants
}

// tap is a capture at a port.
type tap struct {
	c      *Capture
	counts *captureCounts
}

// OpenCapture begins to copy the frames of some ports. Close it.
func (s *Switch) OpenCapture(cfg CaptureConfig) (*Capture, error) {
	if cfg.Points == 0 {
		cfg.Points = 1<<PointRx | 1<<PointTx
	}
	if cfg.BufferBytes == 0 {
		cfg.BufferBytes = 8 << 20
	}
	if cfg.BufferBytes < 2*(frame.MaxLen+recordHeader) {
		return nil, fmt.Errorf("capture: a buffer of %d bytes: at least %d are needed", cfg.BufferBytes, 2*(frame.MaxLen+recordHeader))
	}
	if cfg.SnapLen <= 0 {
		cfg.SnapLen = frame.MaxLen
	}
	c := &Capture{
		sw: s, cfg: cfg, base: time.Now(), start: s.cfg.Now(),
		ring:   ring{mem: make([]byte, cfg.BufferBytes&^7), overwrite: cfg.Recorder},
		notify: make(chan struct{}, 1),
		counts: make(map[frame.PortID]*captureCounts),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("capture: switch is closed")
	}
	s.setMirrorsLocked(append(s.captures(), c))
	return c, nil
}

// SetPorts makes the capture one of other ports. What was captured stays.
func (c *Capture) SetPorts(ids []frame.PortID) {
	c.sw.mu.Lock()
	defer c.sw.mu.Unlock()
	c.cfg.Ports = slices.Clone(ids)
	if all := c.sw.captures(); slices.Contains(all, c) {
		c.sw.setMirrorsLocked(all)
	}
}

func (s *Switch) captures() []*Capture {
	if m := s.mirrors.Load(); m != nil {
		return slices.Clone(m.all)
	}
	return nil
}

func (s *Switch) setMirrorsLocked(all []*Capture) {
	if len(all) == 0 {
		s.mirrors.Store(nil)
		s.flows.show(s, nil)
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
	s.flows.show(s, m)
}

// closeCaptures ends every reader's wait.
func (s *Switch) closeCaptures() {
	for _, c := range s.captures() {
		c.end()
	}
}

// Close ends the capture; what it holds can still be read.
func (c *Capture) Close() {
	c.sw.mu.Lock()
	all := slices.DeleteFunc(c.sw.captures(), func(o *Capture) bool { return o == c })
	c.sw.setMirrorsLocked(all)
	c.sw.grace() // or a frame of this turn would come behind the last one
	if ended := c.end(); ended {
		c.sw.lost += c.lost.Load()
	}
	c.sw.mu.Unlock()
}

// end reports whether the capture was still running.
func (c *Capture) end() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.closed = true
	close(c.notify)
	return true
}

// Dropped is the number of frames lost to the capture because nobody read.
func (c *Capture) Dropped() uint64 { return c.lost.Load() }

// Counts returns how many frames were captured at a port's point and how many
// were lost.
func (c *Capture) Counts(id frame.PortID, p Point) (taken, lost uint64) {
	c.sw.mu.Lock()
	defer c.sw.mu.Unlock()
	if n := c.counts[id]; n != nil {
		return n.taken[p].Load(), n.lost[p].Load()
	}
	return 0, 0
}

func (c *Capture) clock(now int64) time.Time { return c.base.Add(time.Duration(now - c.start)) }

// Next waits for the next record. It returns false when the capture is closed
// and all is read, and ctx's error when ctx ends. One reader only.
func (c *Capture) Next(ctx context.Context) (CaptureRecord, bool, error) {
	for {
		if r, ok := c.take(true); ok {
			return r, true, nil
		}
		select {
		case <-ctx.Done():
			return CaptureRecord{}, false, ctx.Err()
		case _, open := <-c.notify:
			if open {
				continue
			}
			r, ok := c.take(false)
			return r, ok, nil
		}
	}
}

// Ready returns the next record if it is there, for the one reader.
func (c *Capture) Ready() (CaptureRecord, bool) { return c.take(false) }

// Doze waits for d, or until an eighth of the memory is taken: a burst shall not be
// lost because the reader takes its time. For the one reader.
func (c *Capture) Doze(d time.Duration) {
	c.mu.Lock()
	c.dozing = !c.muchLocked()
	wait := c.dozing
	c.mu.Unlock()
	if !wait {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.notify:
	}
	c.mu.Lock()
	c.dozing = false
	c.mu.Unlock()
}

func (c *Capture) muchLocked() bool { return c.ring.tail-c.ring.head > uint64(len(c.ring.mem))/8 }

// dueLocked reports whether the reader wants to be woken.
func (c *Capture) dueLocked() bool { return c.waiting || c.dozing && c.muchLocked() }

// take returns the oldest record; when there is none the next one shall wake the
// reader, if that is what it wants. Workers do not touch a record's bytes before
// they are given back, so that they are read without the lock.
func (c *Capture) take(wake bool) (CaptureRecord, bool) {
	if len(c.ready) > 0 {
		r := c.ready[0]
		c.ready = c.ready[1:]
		return r, true
	}
	c.mu.Lock()
	b := c.ring.first()
	c.waiting = wake && b == nil
	c.mu.Unlock()
	if b == nil {
		return CaptureRecord{}, false
	}
	r := c.decode(b)
	c.mu.Lock()
	c.ring.drop()
	c.mu.Unlock()
	return c.finish(r), true
}

// finish makes wire bytes of a record: a partial checksum would be taken for a
// wrong one. Further segments of it wait in ready.
func (c *Capture) finish(r CaptureRecord) CaptureRecord {
	whole := len(r.Data) == r.OrigLen
	if c.cfg.Segment && whole && r.offload.GSOType != frame.GSONone {
		first := r
		r.offload.Segments(r.Data, func(b []byte) {
			s := first
			s.OrigLen = len(b)
			s.Data = slices.Clone(b[:min(len(b), c.cfg.SnapLen)])
			c.ready = append(c.ready, s)
		})
		if len(c.ready) > 0 {
			first = c.ready[0]
			c.ready = c.ready[1:]
			return first
		}
	}
	if r.offload.Csum == frame.CsumPartial && whole {
		header.FinishChecksum(r.Data, int(r.offload.CsumStart), int(r.offload.CsumOffset))
	}
	if len(r.Data) > c.cfg.SnapLen {
		r.Data = r.Data[:c.cfg.SnapLen]
	}
	return r
}

// recentChunk is how much of a recorder is copied while workers wait.
const recentChunk = 64 << 10

// Recent calls fn with what a recorder holds, the oldest first, from a time on.
// It returns early when fn returns false. Frames that are overwritten meanwhile
// are left out.
func (c *Capture) Recent(since time.Time, fn func(CaptureRecord) bool) {
	var chunk []byte
	pos := uint64(0)
	c.mu.Lock()
	until := c.ring.tail
	c.mu.Unlock()
	for {
		c.mu.Lock()
		chunk, pos = c.ring.copyFrom(chunk[:0], pos, until, recentChunk)
		c.mu.Unlock()
		if len(chunk) == 0 {
			return
		}
		for b := chunk; len(b) > 0; b = b[recordSize(b):] {
			if r := c.decode(b); !r.Time.Before(since) && !fn(c.finish(r)) {
				return
			}
		}
	}
}
