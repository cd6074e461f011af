package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vswitch/vswitch/control/anyport"
	"github.com/vswitch/vswitch/control/places"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Config is what a relay needs. Resolve is required.
type Config struct {
	// Resolve names the container behind a published port: proto is
	// header.ProtoTCP or header.ProtoUDP, local the address and port that the
	// client asked for, without a zone. It is called for each connection and UDP session
	// when it begins, and by Recheck, concurrently, and must not block; Ways.Resolve.
	Resolve func(proto uint8, local netip.AddrPort) (target netip.AddrPort, ok bool)
	// Alone is nil while somebody moves the frames of containers, otherwise a channel that is closed
	// when somebody comes: who reaches none waits for that. nil: somebody is always there.
	Alone func() <-chan struct{}
	// Dial reaches a container, network being "tcp" or "udp"; the result is a
	// *net.TCPConn or *net.UDPConn. nil means a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Whose finds the user of a client's socket: proto is header.ProtoTCP or ProtoUDP, from
	// the client's address, to the one that it asked for; others.SocketUsers. nil: all are one.
	Whose func(proto uint8, from, to netip.AddrPort) (uid uint32, ok bool)
	// Reached is called when a user has all that one may have, at most once a minute for
	// each protocol, and Failing when no connection can be accepted. They must not block. They may
	// be nil.
	Reached func(Reached)
	Failing func(error)
	// How many TCP connections and UDP sessions there may be at a time, of one user half as
	// many: the idlest gives its place. 0: see Limits.
	MaxConns, MaxSessions int
	DialTimeout           time.Duration // to reach the container; 0 means 5 s
	IdleTimeout           time.Duration // of a UDP session; 0 means 60 s
}

func (c *Config) setDefaults() {
	if c.Dial == nil {
		var d net.Dialer
		d.SetMultipathTCP(false)
		c.Dial = d.DialContext
	}
	conns, sessions := Limits(openFiles())
	if c.MaxConns == 0 {
		c.MaxConns = conns
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = sessions
	}
	if c.Whose == nil {
		c.Whose = func(uint8, netip.AddrPort, netip.AddrPort) (uint32, bool) { return 0, false }
	}
	if c.Reached == nil {
		c.Reached = func(Reached) {}
	}
	if c.Failing == nil {
		c.Failing = func(error) {}
	}
	if c.Alone == nil {
		c.Alone = func() <-chan struct{} { return nil }
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
}

// Relay serves from Serve until Close.
type Relay struct {
	cfg      Config
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	families [2]anyport.Family
	sessions *sessions
	backlog  *backlog
	openings *openings
	full     atomic.Uint64 // datagrams that the socket of their session had no room for
	running  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	closed   bool
	finishes bool
	conns    *places.Places[User] // of *conn
	told     map[uint8]time.Time  // when Reached was called, by protocol
}

// New makes a relay, which carries nothing before Serve. The sockets of the families are its own from now
// on.
func New(cfg Config, families [2]anyport.Family) *Relay {
	cfg.setDefaults()
	r := &Relay{cfg: cfg, families: families, conns: places.New[User](cfg.MaxConns), told: make(map[uint8]time.Time)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.sessions, r.backlog = newSessions(cfg.MaxSessions), newBacklog(backlogBytes)
	r.openings = newOpenings()
	return r
}

// Serve serves what comes by the sockets. It is called once.
func (r *Relay) Serve() {
	r.running.Go(r.carry)
	r.running.Go(r.expire)
	for _, f := range r.families {
		if f.TCP != nil {
			r.running.Go(func() { r.accept(f.TCP) })
		}
		if f.UDP != nil {
			r.running.Go(func() { r.receive(f.UDP, f.Out) })
		}
	}
}

// Finish takes nothing new any more, and goes on with what there is: another relay serves the same
// sockets.
func (r *Relay) Finish() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.finishes = true; r.closed {
		return
	}
	for _, f := range r.families {
		if f.TCP != nil {
			f.TCP.Close()
		}
		if f.UDP != nil {
			f.UDP.Close()
		}
	}
}

// Close ends every connection and session and returns when nothing of the relay
// runs any more. Calling it again does nothing.
func (r *Relay) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	finishes := r.finishes // the first sockets are closed
	r.conns.All(func(c places.Guest) { c.(*conn).end() })
	r.mu.Unlock()

	r.cancel()
	var err error
	for _, f := range r.families {
		if cerr := f.Close(); !finishes {
			err = errors.Join(err, cerr)
		}
	}
	r.backlog.close()
	r.sessions.close()
	r.running.Wait()
	return err
}

// Recheck resets the connections and ends the UDP sessions whose port leads elsewhere by now, or
// nowhere: the address that they speak to may be another container's next.
func (r *Relay) Recheck() {
	r.mu.Lock()
	r.conns.All(func(g places.Guest) {
		if c := g.(*conn); c.to.IsValid() && !r.leads(header.ProtoTCP, c.local(), c.to) {
			c.end()
		}
	})
	r.mu.Unlock()
	r.sessions.removeIf(func(s *session) bool { return !r.leads(header.ProtoUDP, s.flow.local, s.to) })
}

// leads reports whether a published port still leads there.
func (r *Relay) leads(proto uint8, local, to netip.AddrPort) bool {
	now, ok := r.cfg.Resolve(proto, local)
	return ok && now == to
}
