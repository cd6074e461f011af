package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what a relay needs. Resolve and Steer are required.
type Config struct {
	// Resolve names the container behind a published port: proto is
	// header.ProtoTCP or header.ProtoUDP, local the address and port that the
	// client asked for, without a zone. It is called once for each connection and
	// UDP session, concurrently, and must not block.
	Resolve func(proto uint8, local netip.AddrPort) (target netip.AddrPort, ok bool)
	// Steer puts the relay's sockets where traffic to published ports goes;
	// kernel.Kernel.Steer. A descriptor is -1 when the host lacks the family.
	Steer func(tcp4, tcp6, udp4, udp6 int) (io.Closer, error)
	// Dial reaches a container, network being "tcp" or "udp"; the result is a
	// *net.TCPConn or *net.UDPConn. nil means a net.Dialer.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	MaxConns    int           // TCP connections at a time, more are reset; 0 means 4096
	MaxSessions int           // UDP sessions at a time, the idlest gives way; 0 means 4096
	DialTimeout time.Duration // to reach the container; 0 means 5 s
	IdleTimeout time.Duration // of a UDP session; 0 means 60 s

	Log *slog.Logger // nil means slog.Default
}

func (c *Config) setDefaults() {
	if c.Dial == nil {
		var d net.Dialer
		d.SetMultipathTCP(false)
		c.Dial = d.DialContext
	}
	if c.MaxConns == 0 {
		c.MaxConns = 4096
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = 4096
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
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	conns  map[*net.TCPConn]struct{} // of clients and to containers
	active int                       // clients
	full   bool                      // said so
}

// New opens the sockets in the network namespace of the calling thread and
// serves.
func New(cfg Config) (_ *Relay, err error) {
	cfg.setDefaults()
	r := &Relay{cfg: cfg, conns: make(map[*net.TCPConn]struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.sessions = newSessions(cfg.MaxSessions)
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
	udp4, fd2, err := r.listenUDP("4", "127.0.0.1", quiet4)
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
		if udp6, fd3, err = r.listenUDP("6", "::1", quiet6); err != nil {
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
	for c := range r.conns {
		reset(c)
	}
	r.mu.Unlock()

	r.cancel()
	var err error
	if r.steering != nil {
		err = r.steering.Close()
	}
	for _, s := range r.sockets {
		err = errors.Join(err, s.Close())
	}
	r.sessions.close()
	r.running.Wait()
	return err
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
