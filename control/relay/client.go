package relay

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/bare"
)

// receiveBuffer is the most memory that datagrams may wait in, per family.
const receiveBuffer = 4 << 20

// mostRelays there are at a time: one takes what is new. The others, of versions before, finish, and the
// one that has for longest ends when another comes.
const mostRelays = 4

// ClientConfig is what the daemon's end of a relay needs. Steer is required.
type ClientConfig struct {
	// Steer puts the relay's sockets, of IPv4 and IPv6 each, where traffic to published ports goes;
	// kernel.Kernel.Steer. A descriptor is -1 when the host lacks the family.
	Steer func(tcp, udp [2]int) (io.Closer, error)
	// Holder keeps the relay and its sockets while there is no daemon; nil: it ends with the daemon.
	// Of what a process before has left the datagrams are thrown away when they are Stale, which nobody
	// has read.
	Holder Holder
	Stale  bool
	// Reached is told of a user who has all that one may have. It must not block. It may be nil.
	Reached func(Reached)
	Log     *slog.Logger // nil means slog.Default
}

// Client is the daemon's end of a relay. When its process dies it starts another, and tells it all
// again. Its methods are safe for concurrent use.
type Client struct {
	cfg      ClientConfig
	program  string // what the processes are that this daemon starts
	sockets  *anyport.Sockets
	steering io.Closer

	mu        sync.Mutex // guards what follows
	serving   *remote    // nil: none runs
	finishing []*remote  // of versions before, the oldest first
	ways      map[Way]bool
	led       bool // Lead was called
	closed    bool

	stop    chan struct{} // closed by Close
	running sync.WaitGroup
}

// Start finds the relay of a daemon before, or starts one in the network namespace of the calling thread.
// It carries what is new after the first Lead.
func Start(cfg ClientConfig) (_ *Client, err error) {
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Holder == nil {
		cfg.Holder = nobody{}
	}
	c := &Client{cfg: cfg, stop: make(chan struct{})}
	defer func() {
		if err != nil {
			err = fmt.Errorf("relay: %w", errors.Join(err, c.Close(true)))
		}
	}()
	if c.program, err = program(); err != nil {
		return nil, err
	}
	c.find()
	whole, err := c.listen()
	if err != nil {
		return nil, err
	}
	tcp, udp := c.sockets.FDs()
	if c.steering, err = cfg.Steer(tcp, udp); err != nil {
		return nil, err
	}
	for i, m := range c.finishing {
		if !m.finishes && m.program == c.program && whole {
			c.serving, c.finishing = m, slices.Delete(c.finishing, i, i+1)
			break
		}
	}
	if c.serving == nil {
		if c.serving, err = c.startLocked(); err != nil {
			return nil, err
		}
	}
	for _, m := range c.finishing {
		c.running.Go(func() { c.follow(m) })
	}
	m := c.serving
	c.running.Go(func() { c.followServing(m) })
	return c, nil
}

// startLocked starts a process.
func (c *Client) startLocked() (*remote, error) {
	used := func(slot int) bool {
		return slices.ContainsFunc(c.finishing, func(m *remote) bool { return m.slot == slot })
	}
	slot := 0
	for used(slot) {
		slot++
	}
	if slot == mostRelays {
		m := c.finishing[0]
		slot, c.finishing = m.slot, c.finishing[1:]
		c.dropLocked(m)
	}
	m, err := begin(slot, c.sockets.Files())
	if err != nil {
		return nil, err
	}
	m.program, m.born = c.program, time.Now().UnixNano()
	if err := errors.Join(c.cfg.Holder.Put(processOf(slot), m.pid, ""), c.keepLocked(m)); err != nil {
		c.dropLocked(m)
		return nil, err
	}
	return m, nil
}

// Lead says where published ports lead from now on: when it returns what leads elsewhere has ended. ways are
// borrowed.
func (c *Client) Lead(ways []Way) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := make(map[Way]bool, len(ways))
	var drop, add []Way
	for _, w := range ways {
		if !now[w] && !c.ways[w] {
			add = append(add, w)
		}
		now[w] = true
	}
	for w := range c.ways {
		if !now[w] {
			drop = append(drop, w)
		}
	}
	c.ways = now
	switch {
	case c.closed:
	case !c.led:
		c.led = true
		c.leadFirstLocked(add)
	case len(drop)+len(add) > 0:
		for _, m := range c.allLocked() {
			m.lead(drop, add, false, nil)
		}
		for _, m := range c.allLocked() {
			m.settle()
		}
	}
}

// leadFirstLocked tells all relays of all ways. One that has served before leaves to the one that
// serves now what is new.
func (c *Client) leadFirstLocked(ways []Way) {
	var heir *os.File
	for _, m := range c.finishing {
		m.lead(nil, ways, true, nil)
		if m.finishes {
			continue
		}
		m.finishes = true
		_ = c.keepLocked(m) // so that no daemon has it serve again
		var gives *os.File
		if heir == nil {
			heir, gives, _ = bare.Socketpair(socketBuffer)
		}
		m.tell(order{Finish: true}, gives)
		gives.Close() // nil is allowed
	}
	if c.serving != nil {
		c.serving.lead(nil, ways, true, heir)
	}
	heir.Close()
	for _, m := range c.allLocked() {
		if m.child == nil { // else it has just begun, and carries nothing
			m.settle()
		}
	}
}

func (c *Client) allLocked() []*remote {
	list := slices.Clone(c.finishing)
	if c.serving != nil {
		list = append(list, c.serving)
	}
	return list
}

// Stats is what the relays carry, those that finish too.
func (c *Client) Stats() (sum Stats) {
	c.mu.Lock()
	list := c.allLocked()
	c.mu.Unlock()
	for _, m := range list {
		s := m.stats()
		sum.TCP, sum.UDP = sum.TCP+s.TCP, sum.UDP+s.UDP
		sum.GaveTCP, sum.GaveUDP, sum.Dropped = sum.GaveTCP+s.GaveTCP, sum.GaveUDP+s.GaveUDP, sum.Dropped+s.Dropped
		sum.MaxTCP, sum.MaxUDP = s.MaxTCP, s.MaxUDP // of the one that serves, which is the last
	}
	return sum
}

func (c *Client) heard(r report) {
	if r.Reached != nil && c.cfg.Reached != nil {
		c.cfg.Reached(*r.Reached)
	}
	if r.Failing != "" {
		c.cfg.Log.Warn("relay cannot accept", "err", r.Failing)
	}
}

// follow hears a relay that finishes.
func (c *Client) follow(m *remote) {
	m.hear(c.heard)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.finishing = slices.DeleteFunc(c.finishing, func(f *remote) bool { return f == m })
	c.dropLocked(m)
}

// followServing hears the relay that serves until it ends, and starts another then.
func (c *Client) followServing(m *remote) {
	for rest := bare.NewRest(); ; {
		m.hear(c.heard)
		c.mu.Lock()
		if c.closed {
			c.mu.Unlock()
			return
		}
		c.cfg.Log.Warn("the relay has ended: another takes its place", "err", m.why())
		c.serving = nil
		c.dropLocked(m)
		c.mu.Unlock()
		for m = nil; m == nil; {
			if !rest.Wait(c.stop) {
				return
			}
			var err error
			if m, err = c.again(); err != nil {
				c.cfg.Log.Error("no relay starts: the host's own connections to published ports wait", "err", err)
			}
		}
	}
}

// again starts another process and tells it all.
func (c *Client) again() (*remote, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil
	}
	m, err := c.startLocked()
	if err != nil {
		return nil, err
	}
	c.serving = m
	if c.led {
		ways := make([]Way, 0, len(c.ways))
		for w := range c.ways {
			ways = append(ways, w)
		}
		m.lead(nil, ways, true, nil)
	}
	return m, nil
}

// Close lets go of the relay, which goes on with what it carries and with what is new; unless kept, all of it
// ends. Calling it again does nothing.
func (c *Client) Close(kept bool) (err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	close(c.stop)
	list := c.allLocked()
	for _, m := range list {
		m.conn.Close()
	}
	c.mu.Unlock()
	c.running.Wait()
	if c.steering != nil {
		err = c.steering.Close()
	}
	for _, m := range list {
		if kept {
			err = errors.Join(err, m.close())
		} else {
			c.dropLocked(m)
		}
	}
	if c.sockets == nil {
		return err
	}
	return errors.Join(err, c.sockets.Each(func(name string, f *os.File) error {
		if !kept {
			c.cfg.Holder.Drop(heldAs(name))
		}
		return f.Close()
	}))
}
