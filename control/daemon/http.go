package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/control"
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host/others"
	"github.com/vswitch/vswitch/control/metrics"
	"github.com/vswitch/vswitch/control/observe"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/roles"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/control/web"
)

// listenPage opens the page's listener, nil when there is to be none, and notes in cfg
// where the page is. What is wrong with it is found before anything else is changed;
// undo takes away what a start that fails would leave.
func listenPage(cfg *Config) (page net.Listener, undo func(), err error) {
	if cfg.HTTP == "" {
		return nil, func() {}, nil
	}
	l, err := web.Listen(cfg.HTTP, !cfg.NoHTTPToken)
	if err != nil {
		return nil, nil, err
	}
	// Were its port published, loopback would lead to a container (sk_lookup comes
	// before the kernel's own search), which could then speak as the page.
	inode, err := inodeOf(l)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("page at %s: %w", cfg.HTTP, err), l.Close())
	}
	cfg.Kept = append(cfg.Kept, inode)
	at := l.Addr().(*net.TCPAddr).AddrPort()
	if ip := at.Addr().Unmap(); ip.IsUnspecified() {
		at = netip.AddrPortFrom(loopbackOf(ip), at.Port())
	}
	cfg.Page = api.Page{URL: "http://" + at.String() + "/"}
	undo = func() {}
	switch {
	case cfg.NoHTTPToken:
	case cfg.HTTPTokenFile != "":
		cfg.Page.Token, err = web.ReadToken(cfg.HTTPTokenFile)
	default:
		token, made, lost := web.OwnToken(cfg.StateDir)
		if lost != nil {
			cfg.Log.Warn("who has the page open needs its new address", "err", lost)
		}
		if cfg.Page.Token = token; made {
			undo = func() { os.Remove(filepath.Join(cfg.StateDir, web.TokenFile)) }
		}
	}
	if err != nil {
		return nil, nil, errors.Join(err, l.Close())
	}
	return l, undo, nil
}

func loopbackOf(ip netip.Addr) netip.Addr {
	if ip.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// inodeOf names a socket as sock_diag does.
func inodeOf(c syscall.Conn) (inode uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var st syscall.Stat_t
	if cerr := raw.Control(func(fd uintptr) { err = syscall.Fstat(int(fd), &st) }); cerr != nil {
		return 0, cerr
	}
	return uint32(st.Ino), err
}

// backend is what the API serves: the controller changes things, the observer watches.
type backend struct {
	*control.Controller
	*observe.Observer
}

// handlers are what the two listeners of a daemon serve: the unix socket the API
// and the metrics, the page's what it lets be read of them.
func handlers(b backend, cfg *Config) (socket, page http.Handler) {
	r := b.Readers()
	m := metrics.New(cfg.Version, b.Reading, cfg.Log)
	requests := m.Instrument(server.Handler(b, r, cfg.Log))
	scrapes := r.Answer(m)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", scrapes)
	mux.Handle("/", requests)
	return r.Handler(roles.Guard(mux, cfg.Log)), r.Handler(web.Handler(web.Config{Backend: b, Readers: r, API: requests, Metrics: scrapes, Token: cfg.Page.Token, Log: cfg.Log}))
}

// localConns is how many connections others than root may have to the API's socket.
const localConns = 256

// readersOf has the readers' bounds for a listener: of the API's socket, or of the page, whose
// clients on this host are asked for by their sockets.
func readersOf(r *readers.Readers, l net.Listener) (*readers.Listener, func() error, error) {
	if l.Addr().Network() == "unix" {
		return r.Listen(l, localConns, readers.Peer), func() error { return nil }, nil
	}
	users, err := others.OpenSocketUsers()
	if err != nil {
		return nil, nil, fmt.Errorf("page: %w", err)
	}
	return r.Listen(l, web.MaxConns, readers.Visitor(users.Of)), users.Close, nil
}

// serveOn answers on l until end is called, which ends streams at once, clients that take
// their time after clientGrace, and gives requests that are worked on shutdownGrace. served
// has the error when it failed before. granted knows what clients of a unix socket may do;
// it is nil where nobody asks.
func serveOn(srv *http.Server, l net.Listener, granted *roles.Roles) (end func() error, served <-chan error) {
	// Captures and other streams have no end of their own.
	base, stop := context.WithCancel(context.Background())
	srv.BaseContext = func(net.Listener) context.Context { return base }
	srv.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		r, ok := c.(*readers.Conn)
		if !ok {
			return ctx
		}
		if local, ok := r.Conn.(*net.UnixConn); ok && granted != nil {
			ctx = roles.With(ctx, granted.Of(local))
		}
		return r.Context(ctx)
	}
	var clients clients
	srv.ConnState = clients.note
	failed, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			failed <- err
		}
	}()
	return func() error {
		stop()
		ctx, cancel := context.WithTimeout(context.Background(), shutdownGrace)
		defer cancel()
		gone := make(chan error, 1)
		go func() { gone <- srv.Shutdown(ctx) }()
		tick := time.NewTicker(clientGrace)
		defer tick.Stop()
		write := time.Now().Add(5 * clientGrace)
		for {
			select {
			case err := <-gone:
				if err != nil {
					srv.Close()
				}
				<-done
				return nil
			case <-tick.C:
				clients.hurry(write)
				write = time.Time{}
			}
		}
	}, failed
}

// clients are the open connections of a server.
type clients struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

// note follows them (http.Server.ConnState).
func (c *clients) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		if c.open == nil {
			c.open = make(map[net.Conn]bool)
		}
		c.open[conn] = true
	case http.StateHijacked, http.StateClosed:
		delete(c.open, conn)
	}
}

// hurry ends what waits for a client: reading at once, writing, unless that is zero, then.
// A request that is worked on waits for none, and its answer has a deadline of its own
// (readers.Handler).
func (c *clients) hurry(write time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		conn.SetReadDeadline(time.Now())
		if !write.IsZero() {
			conn.SetWriteDeadline(write)
		}
	}
}
