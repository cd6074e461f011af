package porttest

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

const (
	// inPlace is the longest frame that lies in the port's own memory, as in the
	// ring of port.Packet; longer ones lie in the arena.
	inPlace = 1960

	poison = 0xDB
)

// Frame is a frame outside of the switch: finished bytes, no headroom.
type Frame struct {
	Data    []byte
	Offload frame.Offload
}

// Port is a port.Port between a switch and a test. The methods that are not of
// port.Port are the test's side and safe for concurrent use.
type Port struct {
	name string
	fd   int
	busy atomic.Bool // a worker is in Receive or Release

	mu       sync.Mutex
	waiting  []Frame // injected, in memory from free
	free     [][]byte
	borrowed [][]byte // until Release
	sent     []Frame
	arrived  chan struct{} // has room for one
	sink     func(data []byte, off frame.Offload)
	room     int
	drops    uint64
	invalid  uint64
	gone     bool
	closed   bool
	event    [8]byte // for reads and writes of fd
}

var _ port.Port = (*Port)(nil)

// New returns a port with room for everything. The name is for messages.
func New(name string) *Port {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		panic(fmt.Sprintf("porttest: port %s: eventfd: %v", name, err))
	}
	return &Port{name: name, fd: fd, room: -1, arrived: make(chan struct{}, 1)}
}

// Inject lets a frame arrive at the port. data is copied. Nothing is allocated
// once as many frames have been released as wait.
func (p *Port) Inject(data []byte, off frame.Offload) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var mem []byte
	if n := len(p.free); n > 0 {
		mem, p.free = p.free[n-1], p.free[:n-1]
	}
	var headroom [frame.Headroom]byte
	mem = append(append(mem[:0], headroom[:]...), data...)
	p.waiting = append(p.waiting, Frame{mem, off})
	p.signal()
}

// signal makes the descriptor readable.
func (p *Port) signal() {
	if !p.closed {
		binary.NativeEndian.PutUint64(p.event[:], 1)
		_, _ = unix.Write(p.fd, p.event[:]) // EAGAIN: it is
	}
}

// Sent returns the bytes of the frames sent since the last call, owned by the
// caller.
func (p *Port) Sent() [][]byte {
	var data [][]byte
	for _, f := range p.SentFrames() {
		data = append(data, f.Data)
	}
	return data
}

// SentFrames is Sent with the offload facts.
func (p *Port) SentFrames() []Frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	sent := p.sent
	p.sent = nil
	return sent
}

// WaitSent is Sent when n frames are there; after d it returns what is there.
func (p *Port) WaitSent(n int, d time.Duration) [][]byte {
	timeout := time.NewTimer(d)
	defer timeout.Stop()
	for {
		p.mu.Lock()
		enough := len(p.sent) >= n
		p.mu.Unlock()
		if enough {
			return p.Sent()
		}
		select {
		case <-p.arrived:
		case <-timeout.C:
			return p.Sent()
		}
	}
}

// SetSink has sent frames given to fn, borrowed for the length of the call, in
// place of being kept; nil keeps them again. A port with a sink allocates
// nothing.
func (p *Port) SetSink(fn func(data []byte, off frame.Offload)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sink = fn
}

// SetRoom lets the device take n more frames, then be full. Negative: no limit.
func (p *Port) SetRoom(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room = n
}

// AddKernelDrops lets n frames be lost on the way in.
func (p *Port) AddKernelDrops(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drops += n
}

// Vanish lets the device go: what waits can be received still, then ErrGone.
func (p *Port) Vanish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	p.signal()
}

// Waiting is the number of injected frames that were not received yet.
func (p *Port) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// Closed reports whether Close was called.
func (p *Port) Closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *Port) enter(what string) {
	if !p.busy.CompareAndSwap(false, true) {
		panic("porttest: port " + p.name + ": two workers at once, one in " + what)
	}
	p.mu.Lock()
	if p.closed {
		panic("porttest: port " + p.name + ": " + what + " after Close")
	}
}

func (p *Port) leave() {
	p.mu.Unlock()
	p.busy.Store(false)
}

// Receive implements port.Port.
func (p *Port) Receive(b *frame.Batch, a *port.Arena) error {
	p.enter("Receive")
	defer p.leave()
	if len(p.waiting) == 0 && p.gone {
		return port.ErrGone
	}
	n := 0
	for _, w := range p.waiting {
		if b.Full() {
			break
		}
		buf := w.Data
		// The facts take the way of the real ports, through the virtio header.
		frame.EncodeVnetHdr(buf, w.Offload)
		if !b.Take(len(buf)-frame.Headroom, buf) {
			break
		}
		if len(buf)-frame.Headroom > inPlace {
			if buf = a.Alloc(len(w.Data) - frame.Headroom); buf == nil {
				break
			}
			copy(buf, w.Data)
		}
		n++
		p.borrowed = append(p.borrowed, w.Data)
		off, ok := frame.DecodeVnetHdr(buf, len(buf)-frame.Headroom)
		if !ok || len(buf) < frame.Headroom+header.EthernetLen {
			p.invalid++
			b.Refuse(len(buf) - frame.Headroom)
			continue
		}
		f := b.Next()
		f.Buf, f.Offload = buf[:len(buf):len(buf)], off
	}
	p.waiting = append(p.waiting[:0], p.waiting[n:]...)
	if len(p.waiting) == 0 && !p.gone {
		_, _ = unix.Read(p.fd, p.event[:]) // EAGAIN: it is at rest
	}
	return nil
}

// Release implements port.Port. It overwrites what was borrowed.
func (p *Port) Release() {
	p.enter("Release")
	defer p.leave()
	for _, mem := range p.borrowed {
		for i := range mem {
			mem[i] = poison
		}
		p.free = append(p.free, mem)
	}
	p.borrowed = p.borrowed[:0]
}

// Check implements port.Port.
func (p *Port) Check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) == 0 && p.gone {
		return port.ErrGone
	}
	return nil
}

// Send implements port.Port. Like the kernel it refuses a frame whose facts
// cannot be true and goes on with the next.
func (p *Port) Send(_ *port.Tx, frames []*frame.Frame) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		panic("porttest: port " + p.name + ": Send after Close")
	}
	sent := 0
	for _, f := range frames {
		if p.room == 0 || p.gone {
			break
		}
		frame.EncodeVnetHdr(f.Buf, f.Offload)
		if _, ok := frame.DecodeVnetHdr(f.Buf, f.Len()); !ok || f.Len() < header.EthernetLen {
			continue
		}
		if p.room > 0 {
			p.room--
		}
		sent++
		if p.sink != nil {
			p.sink(f.Data(), f.Offload)
			continue
		}
		p.sent = append(p.sent, Frame{append([]byte(nil), f.Data()...), f.Offload})
	}
	select {
	case p.arrived <- struct{}{}:
	default:
	}
	return sent
}

// FD implements port.Port.
func (p *Port) FD() int { return p.fd }

// KernelDrops implements port.Port.
func (p *Port) KernelDrops() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.drops
}

// InvalidDrops implements port.Port.
func (p *Port) InvalidDrops() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.invalid
}

// Close implements port.Port.
func (p *Port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return unix.Close(p.fd)
}
