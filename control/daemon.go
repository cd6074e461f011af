package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/control/web"
	"github.com/vswitch/vswitch/dataplane"
)

// Defaults of DaemonConfig.
const (
	DefaultRunDir   = "/run/vswitch"
	DefaultStateDir = "/var/lib/vswitch"
	SocketName      = "vswitch.sock"
)

// lockName is the file in the run and in the state directory that says, by a
// lock, that a daemon uses it, and holds its process number.
const lockName = "vswitch.pid"

// shutdownGrace is how long requests under way may take after SIGTERM.
const shutdownGrace = 5 * time.Second

// DaemonConfig is what a daemon needs to know. Zero fields are defaults.
type DaemonConfig struct {
	RunDir   string // socket and pid file, default DefaultRunDir
	StateDir string // what must survive a restart, default DefaultStateDir
	// Uplinks are the interfaces through which containers go out. Empty or
	// ["auto"]: those that hold a default route, followed as routes change.
	Uplinks []string
	// Workers is the number of threads that move frames, 0: half the CPUs, at
	// most eight.
	Workers int
	// Pool is the space that networks without a subnet of their own take a /24
	// from, default DefaultPool.
	Pool netip.Prefix
	// Pool6 is the same for IPv6, of which networks take a /64; default a unique
	// local /48 (RFC 4193) of the state directory's own.
	Pool6 netip.Prefix
	// NoFlowTable keeps every frame in the daemon; otherwise the kernel carries on
	// the flows that were decided here.
	NoFlowTable bool
	// IPv6 gives the default network IPv6 beside IPv4 when it is made, with the
	// first start of a state directory.
	IPv6 bool
	// MaxFlows bounds the tracked flows, default 262144.
	MaxFlows int
	// Timeouts are how long flows may be idle, by the names of timeoutFields; what
	// is not named has its default.
	Timeouts map[string]time.Duration
	// CaptureRing is the memory in bytes for the newest frames, which a capture of the
	// last seconds reads; 0 keeps none. CaptureRingOf names whose they are as a capture
	// does; none is all. The kernel's flow table carries no flow of those.
	CaptureRing   int
	CaptureRingOf []string
	// FlowLog is a file that gets each flow when it ends, as a line of JSON; IPFIX
	// a collector, host:port, that gets them too.
	FlowLog, IPFIX string
	// HTTP is where the page and the metrics are served, "" is nowhere; see
	// web.Listen. HTTPTokenFile holds what its clients have to show.
	HTTP, HTTPTokenFile string
	// Version is shown by Info.
	Version string
	Log     *slog.Logger // default slog.Default()
	// Socket, when not nil, is the API's listening socket, made by a service
	// manager that keeps it; otherwise it is made in RunDir.
	Socket *net.UnixListener
	// DockerSocket, when not empty, is where Docker's plugin protocol is served, on
	// Docker when a service manager made the socket. DockerAPI is dockerd's own
	// socket, to learn containers' names from; empty: they are not learned.
	DockerSocket, DockerAPI string
	Docker                  *net.UnixListener
	// Ready, when not nil, is called once requests are answered, and Stopping when
	// the end begins.
	Ready, Stopping func()
	// Alive is called every Watchdog, unless that is 0, for as long as each worker
	// makes turns and requests can be worked on.
	Watchdog time.Duration
	Alive    func()

	timeouts dataplane.Timeouts // of Timeouts

	kept  []uint32 // inodes of listeners whose ports nobody may publish
	noTCX bool     // for tests: guard and seal as on a kernel before 6.6
}

func (cfg *DaemonConfig) fill() error {
	if cfg.RunDir == "" {
		cfg.RunDir = DefaultRunDir
	}
	if cfg.StateDir == "" {
		cfg.StateDir = DefaultStateDir
	}
	if cfg.Workers == 0 {
		cfg.Workers = min(max(1, runtime.NumCPU()/2), 8)
	}
	if !cfg.Pool.IsValid() {
		cfg.Pool = DefaultPool
	}
	cfg.Pool = cfg.Pool.Masked()
	if !cfg.Pool.Addr().Is4() || cfg.Pool.Bits() > 30 {
		return fmt.Errorf("pool of subnets %s: use an IPv4 prefix of /30 or larger", cfg.Pool)
	}
	if cfg.Pool6 = cfg.Pool6.Masked(); cfg.Pool6.IsValid() && (!cfg.Pool6.Addr().Is6() || cfg.Pool6.Bits() > 126) {
		return fmt.Errorf("pool of IPv6 subnets %s: use an IPv6 prefix of /126 or larger", cfg.Pool6)
	}
	if cfg.MaxFlows != 0 && (cfg.MaxFlows < minFlows || cfg.MaxFlows > maxFlows) {
		return fmt.Errorf("at most %d flows: use %d to %d", cfg.MaxFlows, minFlows, maxFlows)
	}
	var err error
	if cfg.timeouts, err = compileTimeouts(cfg.Timeouts); err != nil {
		return err
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	for _, u := range cfg.Uplinks {
		if u == autoUplink && len(cfg.Uplinks) > 1 {
			return errors.New("uplink auto stands alone: name interfaces or leave them out")
		}
	}
	return nil
}

// Run is the daemon: it works in the network namespace the process is in, until
// ctx ends. With no container attached it then removes every trace; otherwise
// it leaves links and addresses standing for its next start. An error says why
// it could not start or what it could not finish.
func Run(ctx context.Context, cfg DaemonConfig) (err error) {
	if err := cfg.fill(); err != nil {
		return err
	}
	for _, l := range []*net.UnixListener{cfg.Socket, cfg.Docker} {
		if l == nil {
			continue
		}
		if err := server.Inherit(l); err != nil {
			return err
		}
	}
	var cleanup []func() error
	defer func() {
		for i := len(cleanup) - 1; i >= 0; i-- {
			err = errors.Join(err, cleanup[i]())
		}
	}()
	for _, dir := range []string{cfg.RunDir, cfg.StateDir} {
		// A lock file that was left tells of a daemon that was killed before it
		// could remove the directory it had made.
		_, dirErr := os.Stat(dir)
		_, lockErr := os.Stat(filepath.Join(dir, lockName))
		made := errors.Is(dirErr, os.ErrNotExist) || lockErr == nil
		if err := server.MakeDir(dir); err != nil {
			return err
		}
		unlock, err := lockDir(dir)
		if err != nil {
			return err
		}
		cleanup = append(cleanup, func() error {
			err := unlock()
			if made {
				os.Remove(dir) // stays when something is in it, as the state is once there was one
			}
			return err
		})
		if cfg.RunDir == cfg.StateDir {
			break
		}
	}
	page, token, err := listenPage(&cfg)
	if err != nil {
		return err
	}
	if page != nil {
		cleanup = append(cleanup, func() error { page.Close(); return nil })
	}
	c, err := newController(cfg, nil)
	if err != nil {
		return err
	}
	cleanup = append(cleanup, c.close)

	l := cfg.Socket
	if l == nil {
		if l, err = server.Listen(filepath.Join(cfg.RunDir, SocketName)); err != nil {
			return err
		}
	}
	socketHandler, pageHandler := c.handlers(token)
	srv := server.New(c, cfg.Log)
	srv.Handler = socketHandler
	end, served := serveOn(srv, l)
	cleanup = append(cleanup, end)
	var pageServed <-chan error
	if page != nil {
		srv := web.New(pageHandler, cfg.Log)
		end, pageServed = serveOn(srv, page)
		cleanup = append(cleanup, end)
		cfg.Log.Info("page ready", "url", "http://"+page.Addr().String()+"/", "token", token != "")
	}
	stopDocker, err := c.serveDocker(cfg.Docker, cfg.DockerSocket, cfg.DockerAPI)
	if err != nil {
		return err
	}
	cleanup = append(cleanup, stopDocker)
	if cfg.Stopping != nil {
		cleanup = append(cleanup, func() error { cfg.Stopping(); return nil })
	}
	cfg.Log.Info("daemon ready", "socket", l.Addr().String(), "state", cfg.StateDir, "pid", os.Getpid())
	if cfg.Ready != nil {
		cfg.Ready()
	}
	if cfg.Watchdog > 0 {
		watching, unwatch := context.WithCancel(ctx)
		watched := make(chan struct{})
		go func() { defer close(watched); c.watchdog(watching, cfg.Watchdog, cfg.Alive) }()
		cleanup = append(cleanup, func() error { unwatch(); <-watched; return nil })
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return fmt.Errorf("serve %s: %w", cfg.RunDir, err)
	case err := <-pageServed:
		return fmt.Errorf("serve %s: %w", cfg.HTTP, err)
	}
}

// lockDir takes a directory for this process. The file with the process number is
// removed while the lock is held, so that no other daemon's is.
func lockDir(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, lockName)
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o640)
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("lock file: %w: run as root or choose another directory", err)
		}
		if err != nil {
			return nil, fmt.Errorf("lock file: %w", err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			b := make([]byte, 32)
			n, _ := f.Read(b)
			f.Close()
			pid := strings.TrimSpace(string(b[:n]))
			if pid == "" {
				pid = "unknown"
			}
			return nil, fmt.Errorf("directory %s is in use by the vswitch daemon with pid %s: stop it or choose another --run-dir and --state-dir", dir, pid)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		// The daemon before us may have removed the file between open and lock.
		held, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 != nil || err2 != nil || !os.SameFile(held, now) {
			f.Close()
			continue
		}
		f.Truncate(0)
		if _, err := fmt.Fprintf(f, "%d\n", os.Getpid()); err != nil {
			f.Close()
			return nil, fmt.Errorf("lock file: %w", err)
		}
		return func() error {
			return errors.Join(os.Remove(path), f.Close())
		}, nil
	}
}
