package dataplane

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Dir is the direction of a captured frame, seen from the switch.
type Dir uint8

const (
	DirRx Dir = iota // came in at the port
	DirTx            // went out at the port
)

// CaptureConfig says what a capture copies.
type CaptureConfig struct {
	Ports []frame.PortID
	// SnapLen bounds the bytes kept of a frame, 0: the whole frame.
	SnapLen int
	// BufferBytes bounds the memory for frames that nobody has read yet, 0: 8 MiB.
	BufferBytes int
}

// CaptureRecord is one captured frame. Data is owned by the caller; a partial
// checksum in it has been finished, unless SnapLen cut the frame.
type CaptureRecord struct {
	Time    time.Time
	Port    frame.PortID
	Dir     Dir
	Data    []byte
	OrigLen int
	offload frame.Offload
	held    int // bytes of the ring
}

// Capture is a bounded queue of copies of frames. Workers put in, one reader
// takes out; when the reader is slow the frames are lost to the capture, never
// to the switch.
type Capture struct {
	sw    *Switch
	cfg   CaptureConfig
	clock func(int64) time.Time

	mu      sync.Mutex
	queue   []CaptureRecord // ring of headers; Data lies in mem
	head, n int
	mem     []byte // ring of bytes
	at      int    // next write
	used    int
	closed  bool
	lost    atomic.Uint64
	notify  chan struct{}
}

// mirrorTable says which captures copy a port's frames; nil where there are
// none at all, which is all that a turn without a capture looks at.
type mirrorTable struct {
	ports map[frame.PortID][]*Capture
	all   []*Capture
}

// OpenCapture begins to copy the frames of some ports. Close it.
func (s *Switch) OpenCapture(cfg CaptureConfig) (*Capture, error) {
	if len(cfg.Ports) == 0 {
		return nil, fmt.Errorf("capture: no port named")
	}
	if cfg.BufferBytes == 0 {
		cfg.BufferBytes = 8 << 20
	}
	if cfg.BufferBytes < 2*frame.MaxLen {
		return nil, fmt.Errorf("capture: a buffer of %d bytes: at least %d are needed", cfg.BufferBytes, 2*frame.MaxLen)
	}
	if cfg.SnapLen <= 0 {
		cfg.SnapLen = frame.MaxLen
	}
	base, start := time.Now(), s.cfg.Now()
	c := &Capture{
		sw: s, cfg: cfg,
		clock:  func(now int64) time.Time { return base.Add(time.Duration(now - start)) },
		queue:  make([]CaptureRecord, cfg.BufferBytes/128),
		mem:    make([]byte, cfg.BufferBytes),
		notify: make(chan struct{}, 1),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fmt.Errorf("capture: switch is closed")
	}
	s.setMirrorsLocked(append(s.captures(), c))
	return c, nil
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
		return
	}
	m := &mirrorTable{ports: make(map[frame.PortID][]*Capture), all: all}
	for _, c := range all {
		for _, p := range c.cfg.Ports {
			m.ports[p] = append(m.ports[p], c)
		}
	}
	s.mirrors.Store(m)
}

// closeCaptures ends every reader's wait.
func (s *Switch) closeCaptures() {
	for _, c := range s.captures() {
		c.end()
	}
}

// Close ends the capture; a Next under way returns.
func (c *Capture) Close() {
	c.sw.mu.Lock()
	all := slices.DeleteFunc(c.sw.captures(), func(o *Capture) bool { return o == c })
	c.sw.setMirrorsLocked(all)
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

// mirrorRx copies the batch as it came in.
func (w *worker) mirrorRx() {
	m := w.sw.mirrors.Load()
	if m == nil {
		return
	}
	for i := range w.batch.Frames[:w.batch.N] {
		f := &w.batch.Frames[i]
		for _, c := range m.ports[f.In] {
			c.put(f, f.In, DirRx, w.now)
		}
	}
}

// sent copies frames on their way out.
func (m *mirrorTable) sent(id frame.PortID, frames []*frame.Frame, now int64) {
	for _, c := range m.ports[id] {
		for _, f := range frames {
			c.put(f, id, DirTx, now)
		}
	}
}

// put copies a frame into the queue, or counts it as lost.
func (c *Capture) put(f *frame.Frame, id frame.PortID, dir Dir, now int64) {
	data := f.Data()
	size := min(len(data), c.cfg.SnapLen)
	c.mu.Lock()
	defer c.mu.Unlock()
	room := size
	if c.at+size > len(c.mem) {
		room += len(c.mem) - c.at // the rest of the ring is too short: begin anew
	}
	if c.closed || c.n == len(c.queue) || c.used+room > len(c.mem) {
		c.lost.Add(1)
		return
	}
	if room != size {
		c.at = 0
	}
	r := &c.queue[(c.head+c.n)%len(c.queue)]
	*r = CaptureRecord{Time: c.clock(now), Port: id, Dir: dir, Data: c.mem[c.at : c.at+size], OrigLen: len(data), offload: f.Offload}
	copy(r.Data, data)
	r.held = room
	c.at += size
	c.used += room
	if c.n++; c.n == 1 {
		select {
		case c.notify <- struct{}{}:
		default:
		}
	}
}

// Next waits for the next record. It returns false when the capture is closed
// and ctx's error when ctx ends. One reader only.
func (c *Capture) Next(ctx context.Context) (CaptureRecord, bool, error) {
	for {
		if r, ok := c.take(); ok {
			r.finish()
			return r, true, nil
		}
		select {
		case <-ctx.Done():
			return CaptureRecord{}, false, ctx.Err()
		case _, open := <-c.notify:
			if !open {
				return CaptureRecord{}, false, nil
			}
		}
	}
}

func (c *Capture) take() (CaptureRecord, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == 0 {
		return CaptureRecord{}, false
	}
	r := c.queue[c.head]
	c.used -= r.held
	r.Data = append([]byte(nil), r.Data...)
	c.head = (c.head + 1) % len(c.queue)
	c.n--
	return r, true
}

// finish completes a partial checksum: a reader takes it for a wrong one.
func (r *CaptureRecord) finish() {
	if r.offload.Csum == frame.CsumPartial && len(r.Data) == r.OrigLen {
		header.FinishChecksum(r.Data, int(r.offload.CsumStart), int(r.offload.CsumOffset))
	}
}
