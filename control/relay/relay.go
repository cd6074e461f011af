package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/places"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Config is what a relay needs. Resolve and Steer are required.
type Config struct {
	// Resolve names the container behind a published port: proto is
	// header.ProtoTCP or header.ProtoUDP, local the address and port that the
	// client asked for, without a zone. It is called for each connection and UDP session
	// when it begins, and by Recheck, concurrently, and must not block.
	Resolve func(proto uint8, local netip.AddrPort) (target netip.AddrPort, ok bool)
	// Steer puts the relay's sockets where traffic to published ports goes;
	// kernel.Kernel.Steer. A descriptor is -1 when the host lacks the family.
	Steer func(tcp4, tcp6, udp4, udp6 int) (io.Closer, error)
	// Holder keeps the sockets for the relay of the next process, so that who connects meanwhile
	// is accepted by that; nil: they end with the process. Of what a process before has left
	// the datagrams are thrown away when they are Stale.
	Holder Holder
	Stale  bool
	// Dial reaches a container, network being "tcp" or "udp"; the result is a
	// *net.TCPConn or *net.UDPConn. nil means a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Whose finds the user of a client's socket: proto is header.ProtoTCP or ProtoUDP, from
	// the client's address, to the one that it asked for; others.SocketUsers. nil: all are one.
	Whose func(proto uint8, from, to netip.AddrPort) (uid uint32, ok bool)
	// Reached is called when a user has all that one may have, at most once a minute for
	// each protocol. It must not block. It may be nil.
	Reached func(Reached)
	// How many TCP connections and UDP sessions there may be at a time, of one user half as
	// many: the idlest gives its place. 0: see Limits.
	MaxConns, MaxSessions int
	DialTimeout           time.Duration // to reach the container; 0 means 5 s
	IdleTimeout           time.Duration // of a UDP session; 0 means 60 s

	Log *slog.Logger // nil means slog.Default
}

// Holder keeps descriptors by name (control/holder).
type Holder interface {
	Take(name string) (fd int, value string, ok bool)
	Put(name string, fd int, value string) error
	Drop(name string)
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
	if c.DialTimeout == 0 {
		c.DialTimeout = 5 * time.Second
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
}

// Relay serves until Close.
type Relay struct {
	cfg      Config
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	steering io.Closer
	sockets  []io.Closer // listeners and UDP sockets, from New on
	sessions *sessions
	backlog  *backlog
	openings *openings
	full     atomic.Uint64 // datagrams that the socket of their session had no room for
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	conns  *places.Places[User] // of *conn
	told   map[uint8]time.Time  // when Reached was called, by protocol
}

// New opens the sockets in the network namespace of the calling thread and
// serves.
func New(cfg Config) (_ *Relay, err error) {
	cfg.setDefaults()
	r := &Relay{cfg: cfg, conns: places.New[User](cfg.MaxConns), told: make(map[uint8]time.Time)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.sessions, r.backlog = newSessions(cfg.MaxSessions), newBacklog(backlogBytes)
	r.openings = newOpenings()
	defer func() {
		if err != nil {
			err = fmt.Errorf("relay: %w", errors.Join(err, r.Close()))
		}
	}()
	tcp4, fd0, err := r.listenTCP("tcp4", "127.0.0.1:0")
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return nil, errors.New("127.0.0.1 is not there: ip link set lo up")
	}
	if err != nil {
		return nil, err
	}
	udp4, fd2, err := r.listenUDP("4", "127.0.0.1")
	if err != nil {
		return nil, err
	}
	tcp6, fd1, err := r.listenTCP("tcp6", "[::1]:0")
	var udp6 *udpSocket
	fd3 := -1
	switch {
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EADDRNOTAVAIL):
		// IPv6 is off.
	case err != nil:
		return nil, err
	default:
		if udp6, fd3, err = r.listenUDP("6", "::1"); err != nil {
			return nil, err
		}
	}
	if r.steering, err = cfg.Steer(fd0, fd1, fd2, fd3); err != nil {
		return nil, err
	}
	for _, l := range []*net.TCPListener{tcp4, tcp6} {
		if l != nil {
			r.running.Go(func() { r.accept(l) })
		}
	}
	for _, s := range []*udpSocket{udp4, udp6} {
		if s != nil {
			r.running.Go(func() { r.receive(s) })
		}
	}
	r.running.Go(r.carry)
	r.running.Go(r.expire)
	return r, nil
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
	r.conns.All(func(c places.Guest) { c.(*conn).end() })
	r.mu.Unlock()

	r.cancel()
	var err error
	if r.steering != nil {
		err = r.steering.Close()
	}
	for _, s := range r.sockets {
		err = errors.Join(err, s.Close())
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

// heldAs is the name of a socket with the holder.
func heldAs(network string) string { return "relay " + network }

// left is a socket that a process before has left.
func (r *Relay) left(network string) *os.File {
	if r.cfg.Holder == nil {
		return nil
	}
	fd, _, ok := r.cfg.Holder.Take(heldAs(network))
	if !ok {
		return nil
	}
	return os.NewFile(uintptr(fd), heldAs(network))
}

// keep gives a socket to the holder.
func (r *Relay) keep(network string, fd int) error {
	if r.cfg.Holder == nil {
		return nil
	}
	return r.cfg.Holder.Put(heldAs(network), fd, "")
}

// Forget has the holder let go of the sockets.
func (r *Relay) Forget() {
	if r.cfg.Holder == nil {
		return
	}
	for _, network := range []string{"tcp4", "tcp6", "udp4", "udp6"} {
		r.cfg.Holder.Drop(heldAs(network))
	}
}

// fdOf is the descriptor of a socket, valid while that is open.
func fdOf(c syscall.Conn) (int, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	err = raw.Control(func(f uintptr) { fd = int(f) })
	return fd, err
}
