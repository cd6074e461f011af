package port

import (
	"errors"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// Pool keeps packet sockets ready that are bound to no device yet: to give a
// socket its ring costs an RCU grace period (8 ms where it was measured, on two
// idle cores, 2026-11), to bind one only microseconds. Safe for concurrent use.
//
// Sockets belong to the network namespace of the process, not to that of a
// thread which left it.
type Pool struct {
	size    int
	keeper  Keeper // nil: none
	fillers sync.WaitGroup

	mu      sync.Mutex
	filled  sync.Cond // one is ready, or could not be made
	ready   []*Socket // guarded by mu, like all below
	slots   int
	filling int
	waiting int    // for one that is being made
	places  []bool // of the keeper that are in use
	closed  bool
}

// Keeper has spare sockets open when the process ends, however it does. Whoever closes one last waits for the
// kernel (see Socket.Close), and whoever waits for the process waits with it. A place holds one of them.
type Keeper interface {
	// Keep puts a duplicate of a socket in a place; as says what it is.
	Keep(place, fd int, as string) error
	// Drop empties a place.
	Drop(place int)
	// Left is what the process before has left in a place: the caller owns fd.
	Left(place int) (fd int, as string, ok bool)
}

// NewPool returns a pool that prepares size sockets with rings of slots each (see
// PacketConfig) in the background. Each holds the memory of its ring. With a keeper (nil: without)
// it begins with those that the process before has left.
func NewPool(size, slots int, keeper Keeper) *Pool {
	p := &Pool{size: size, slots: slots, keeper: keeper}
	p.filled.L = &p.mu
	p.mu.Lock()
	defer p.mu.Unlock()
	if keeper != nil {
		p.places = make([]bool, size)
		p.takeOverLocked()
	}
	p.fillLocked()
	return p
}

// takeOverLocked makes what the process before has left ready. One that it has bound meanwhile
// is some port's, which had no time to keep it.
func (p *Pool) takeOverLocked() {
	for place := range p.places {
		fd, as, ok := p.keeper.Left(place)
		if !ok {
			continue
		}
		k, err := unbound(fd, as)
		if err != nil {
			p.keeper.Drop(place)
			_ = unix.Close(fd)
			continue
		}
		k.place, p.places[place] = place+1, true
		p.ready = append(p.ready, k)
	}
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
				p.fill(slots, false)
			}
		})
	}
}

// Open is OpenSocket with a prepared socket, or without when none is ready or comes; the
// ring has the slots of the pool, whatever cfg says.
func (p *Pool) Open(cfg PacketConfig) (*Socket, error) {
	k, slots := p.take()
	if k == nil {
		p.refill()
		cfg.Slots = slots
		return OpenSocket(cfg)
	}
	err := k.bind(cfg)
	if k.place > 0 { // it is no spare one any more
		p.keeper.Drop(k.place - 1)
	}
	p.refill(k)
	if err != nil {
		return nil, errors.Join(err, k.Close())
	}
	return k, nil
}

// refill starts what is missing, in the places of those that are opened.
func (p *Pool) refill(opened ...*Socket) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, k := range opened {
		if k.place > 0 {
			p.places[k.place-1], k.place = false, 0
		}
	}
	if !p.closed {
		p.fillLocked()
	}
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
	return k, p.slots
}

// fillLocked starts what is missing. A socket that could not be made (too many
// open files) is tried again at the next Open, which reports why.
func (p *Pool) fillLocked() {
	for len(p.ready)+p.filling < p.size {
		p.filling++
		slots := p.slots
		p.fillers.Go(func() { p.fill(slots, true) })
	}
}

func (p *Pool) fill(slots int, spare bool) {
	k, err := prepare(slots)
	if err == nil && spare {
		p.keep(k)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filling--
	if err == nil {
		p.ready = append(p.ready, k)
	}
	p.filled.Signal()
}

// keep has a spare socket kept, if there is a place. Without one its end is waited for, nothing else.
func (p *Pool) keep(k *Socket) {
	p.mu.Lock()
	place := slices.Index(p.places, false)
	if place >= 0 {
		p.places[place] = true
	}
	p.mu.Unlock()
	if place < 0 {
		return
	}
	fd, as := k.Kept()
	if p.keeper.Keep(place, fd, as) == nil {
		k.place = place + 1
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places[place] = false
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
