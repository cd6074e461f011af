package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"

	"github.com/vswitch/vswitch/control/metrics"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/control/web"
)

// listenPage opens the page's listener, nil when there is to be none. What is wrong
// with it is found before anything else is changed.
func listenPage(cfg *DaemonConfig) (page net.Listener, token string, err error) {
	if cfg.HTTPTokenFile != "" {
		if token, err = web.ReadToken(cfg.HTTPTokenFile); err != nil {
			return nil, "", err
		}
	}
	if cfg.HTTP == "" {
		return nil, "", nil
	}
	l, err := web.Listen(cfg.HTTP, token)
	if err != nil {
		return nil, "", err
	}
	// Were its port published, loopback would lead to a container (sk_lookup comes
	// before the kernel's own search), which could then speak as the page.
	inode, err := inodeOf(l)
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("page at %s: %w", cfg.HTTP, err), l.Close())
	}
	cfg.kept = append(cfg.kept, inode)
	return web.Limit(l), token, nil
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

// handlers are what the two listeners of a daemon serve: the unix socket the API
// and the metrics, the page's what it lets be read of them.
func (c *Controller) handlers(token string) (socket, page http.Handler) {
	m := metrics.New(c.cfg.Version, c.reading, c.log)
	requests := m.Instrument(server.Handler(c, c.log))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m)
	mux.Handle("/", requests)
	return mux, web.Handler(web.Config{Backend: c, API: requests, Metrics: m, Token: token, Log: c.log})
}

// serveOn answers on l until end is called, which ends streams at once and gives
// requests under way shutdownGrace. served has the error when it failed before.
func serveOn(srv *http.Server, l net.Listener) (end func() error, served <-chan error) {
	// Captures and other streams have no end of their own.
	base, stop := context.WithCancel(context.Background())
	srv.BaseContext = func(net.Listener) context.Context { return base }
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
		if err := srv.Shutdown(ctx); err != nil {
			srv.Close()
		}
		<-done
		return nil
	}, failed
}
