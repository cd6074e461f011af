package port

import (
	"errors"
	"runtime"
	"sync"
)

// Pool keeps packet sockets ready that are bound to no device yet: to give a
// socket its ring costs an RCU grace period (8 ms where it was measured, on two
// idle cores, 2026-11), to bind one only microseconds. Safe for concurrent use.
//
// Sockets belong to the network namespace of the process, not to that of a
// thread which left it.
type Pool struct {
	size    int
	fillers sync.WaitGroup

	mu      sync.Mutex
	filled  sync.Cond // one is ready, or could not be made
	ready   []*Socket // guarded by mu, like all below
	slots   int
	filling int
	waiting int // for one that is being made
	closed  bool
}

// NewPool returns a pool that prepares size sockets with rings of slots each (see
// PacketConfig) in the background. Each holds the memory of its ring.
func NewPool(size, slots int) *Pool {
	p := &Pool{size: size, slots: slots}
	p.filled.L = &p.mu
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fillLocked()
	return p
}

// SetSlots changes what is prepared from now on; what is ready stays.
func (p *Pool) SetSlots(slots int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.slots = slots
}

// atOnce bounds the threads of Prepare. That many sockets have their rings in the same
// grace periods.
const atOnce = 256

// Prepare makes n sockets more in the background, with rings of so many slots, as many as
// possible of them at once, for who is about to open that many.
func (p *Pool) Prepare(n, slots int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filling += n
	for first := range min(n, atOnce) {
		p.fillers.Go(func() {
			// Its thread, which waits in the kernel, ends with it. Parked, hundreds of
			// them would stay for as long as the process.
			runtime.LockOSThread()
			for i := first; i < n; i += atOnce {
				p.fill(slots)
			}
		})
	}
}

// Open is OpenSocket with a prepared socket, or without when none is ready or comes; the
// ring has the slots of the pool, whatever cfg says.
func (p *Pool) Open(cfg PacketConfig) (*Socket, error) {
	k, slots := p.take()
	if k == nil {
		cfg.Slots = slots
		return OpenSocket(cfg)
	}
	if err := k.bind(cfg); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// take returns a prepared socket, if there is one, and the slots that one would have.
func (p *Pool) take() (*Socket, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, p.slots
	}
	for len(p.ready) == 0 && p.waiting < p.filling {
		p.waiting++
		p.filled.Wait()
		p.waiting--
	}
	var k *Socket
	if n := len(p.ready); n > 0 {
		k, p.ready = p.ready[n-1], p.ready[:n-1]
	}
	p.fillLocked()
	return k, p.slots
}

// fillLocked starts what is missing. A socket that could not be made (too many
// open files) is tried again at the next Open, which reports why.
func (p *Pool) fillLocked() {
	for len(p.ready)+p.filling < p.size {
		p.filling++
		slots := p.slots
		p.fillers.Go(func() { p.fill(slots) })
	}
}

func (p *Pool) fill(slots int) {
	k, err := prepare(slots)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filling--
	if err == nil {
		p.ready = append(p.ready, k)
	}
	p.filled.Signal()
}

// Close closes the prepared sockets, all at once; the ones that were opened live on.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.fillers.Wait()
	errs := make([]error, len(p.ready))
	var closers sync.WaitGroup
	for i, k := range p.ready {
		closers.Go(func() { errs[i] = k.Close() })
	}
	closers.Wait()
	p.ready = nil
	return errors.Join(errs...)
}
