package port

import (
	"errors"
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
	ready   []*Packet // guarded by mu, like all below
	slots   int
	filling int
	closed  bool
}

// NewPool returns a pool that prepares size sockets with rings of slots each (see
// PacketConfig) in the background. Each holds the memory of its ring.
func NewPool(size, slots int) *Pool {
	p := &Pool{size: size, slots: slots}
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

// Open is OpenPacket with a prepared socket, or without when none is ready; the ring
// has the slots of the pool, whatever cfg says.
func (p *Pool) Open(cfg PacketConfig) (*Packet, error) {
	k, slots := p.take()
	if k == nil {
		cfg.Slots = slots
		return OpenPacket(cfg)
	}
	if err := k.bind(cfg); err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// take returns a prepared socket, if there is one, and the slots that one would have.
func (p *Pool) take() (*Packet, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, p.slots
	}
	var k *Packet
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
		p.fillers.Go(p.fill)
	}
}

func (p *Pool) fill() {
	p.mu.Lock()
	slots := p.slots
	p.mu.Unlock()
	k, err := prepare(slots)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filling--
	if err == nil {
		p.ready = append(p.ready, k)
	}
}

// Close closes the prepared sockets; ports that were opened live on.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.fillers.Wait()
	var errs []error
	for _, k := range p.ready {
		errs = append(errs, k.Close())
	}
	p.ready = nil
	return errors.Join(errs...)
}
