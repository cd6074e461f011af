package dataplane

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// CaptureDoor is the part of a Switch that a reader of captures needs.
type CaptureDoor interface {
	OpenCapture(CaptureConfig) (CaptureQueue, error)
	SetCapturePorts(CaptureID, []frame.PortID)
	CaptureCounts(CaptureID) []CaptureCount
	EndCapture(CaptureID) []CaptureCount
}

// Capture is the reader's side of a capture. It shares memory with the workers, and no
// lock. One goroutine reads.
type Capture struct {
	door  CaptureDoor
	queue CaptureQueue
	ring  ring
	bell  *os.File
	ready []CaptureRecord // segments of one frame

	mu    sync.Mutex // one call of Recent pins at a time; guards ended
	ended []CaptureCount
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

// StartCapture begins a capture and reads it. Close it.
func StartCapture(door CaptureDoor, cfg CaptureConfig) (*Capture, error) {
	q, err := door.OpenCapture(cfg)
	if err != nil {
		return nil, err
	}
	return &Capture{
		door: door, queue: q, ring: mapRing(q.Memory, q.Recorder), bell: os.NewFile(uintptr(q.Listen), fmt.Sprintf("capture %d", q.ID)),
	}, nil
}

// SetPorts makes the capture one of other ports. What was captured stays.
func (c *Capture) SetPorts(ids []frame.PortID) { c.door.SetCapturePorts(c.queue.ID, ids) }

// Close ends the capture; what it holds can still be read.
func (c *Capture) Close() {
	if counts := c.door.EndCapture(c.queue.ID); counts != nil {
		c.mu.Lock()
		c.ended = counts
		c.mu.Unlock()
	}
	// Nobody rings any more, and who listens looks again and finds the end.
	_ = c.bell.Close()
}

// Dropped is the number of frames lost to the capture because nobody read.
func (c *Capture) Dropped() uint64 { return c.ring.ctl.lost.Load() }

// Counts returns how many frames were captured at a port's point and how many were lost.
func (c *Capture) Counts(id frame.PortID, p Point) (taken, lost uint64) {
	counts := c.door.CaptureCounts(c.queue.ID)
	if counts == nil {
		c.mu.Lock()
		counts = c.ended
		c.mu.Unlock()
	}
	for _, n := range counts {
		if n.Port == id && n.Point == p {
			return n.Taken, n.Lost
		}
	}
	return 0, 0
}

func (c *Capture) clock(now int64) time.Time {
	return c.queue.Base.Add(time.Duration(now - c.queue.Start))
}

// Next waits for the next record. It returns false when the capture is closed and all is
// read, and ctx's error when ctx ends.
func (c *Capture) Next(ctx context.Context) (CaptureRecord, bool, error) {
	for {
		closed := c.ring.ctl.closed.Load() != 0
		if r, ok := c.take(!closed); ok || closed {
			return r, ok, nil
		}
		if err := c.listen(ctx); err != nil {
			return CaptureRecord{}, false, err
		}
	}
}

// listen returns when the bell has rung, or with ctx's error.
func (c *Capture) listen(ctx context.Context) error {
	_ = c.bell.SetReadDeadline(time.Time{})
	over := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.bell.SetReadDeadline(time.Unix(1, 0))
		close(over)
	})
	_, _ = c.bell.Read(make([]byte, 8)) // an error is the deadline's: who listens looks again
	if !stop() {
		<-over
		return ctx.Err()
	}
	return nil
}

// Ready returns the next record if it is there.
func (c *Capture) Ready() (CaptureRecord, bool) { return c.take(false) }

// Doze waits for d, or until an eighth of the memory is taken, so that no burst is lost
// because the reader takes its time.
func (c *Capture) Doze(d time.Duration) {
	waiting := &c.ring.ctl.waiting
	waiting.Store(waitsForMuch)
	if c.ring.ctl.closed.Load() == 0 && !c.ring.much() {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		_ = c.listen(ctx)
		cancel()
	}
	waiting.Store(notWaiting)
}

// take returns the oldest record; when there is none the next one rings the bell, if the
// reader wants that.
func (c *Capture) take(wake bool) (CaptureRecord, bool) {
	if len(c.ready) > 0 {
		r := c.ready[0]
		c.ready = c.ready[1:]
		return r, true
	}
	b := c.ring.first()
	if b == nil && wake {
		c.ring.ctl.waiting.Store(waitsForNext)
		b = c.ring.first() // it may have come before the store was seen
	}
	if b == nil {
		return CaptureRecord{}, false
	}
	r := c.decode(b)
	c.ring.drop()
	return c.finish(r), true
}

// finish makes wire bytes of a record: a partial checksum would be taken for a
// wrong one. Further segments of it wait in ready.
func (c *Capture) finish(r CaptureRecord) CaptureRecord {
	whole := len(r.Data) == r.OrigLen
	if c.queue.Segment && whole && r.offload.GSOType != frame.GSONone {
		first := r
		r.offload.Segments(r.Data, func(b []byte) {
			s := first
			s.OrigLen = len(b)
			s.Data = slices.Clone(b[:min(len(b), c.queue.SnapLen)])
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
	if len(r.Data) > c.queue.SnapLen {
		r.Data = r.Data[:c.queue.SnapLen]
	}
	return r
}

// recentChunk is how much of a recorder is copied while it cannot be overwritten.
const recentChunk = 64 << 10

// Recent calls fn with what a recorder holds, the oldest first, from a time on. It returns
// early when fn returns false. Frames that are overwritten meanwhile are left out.
func (c *Capture) Recent(since time.Time, fn func(CaptureRecord) bool) {
	var chunk []byte
	pos, until := uint64(0), c.ring.ctl.tail.Load()
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
