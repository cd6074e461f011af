package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vswitch/vswitch/control"
	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/edge/linux"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/control/roles"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/control/web"
)

// Defaults of Config, and the name of the API's socket in the run directory.
const (
	DefaultRunDir   = "/run/vswitch"
	DefaultStateDir = "/var/lib/vswitch"
	SocketName      = "vswitch.sock"
	CgroupAuto      = linux.CgroupAuto
)

// lockName is the file in the run and in the state directory that says, by a
// lock, that a daemon uses it, and holds its process number.
const lockName = "vswitch.pid"

// shutdownGrace is how long requests that are worked on may take after SIGTERM. A client
// that sends its request or reads the answer slowly has clientGrace.
const (
	shutdownGrace = 5 * time.Second
	clientGrace   = 200 * time.Millisecond
)

// Config is what a daemon needs to know. Zero fields are defaults.
type Config struct {
	control.Config // StateDir has the default DefaultStateDir

	// OpenEdge opens the host's side, default linux.Open. With NoFlowTable that keeps
	// every frame in the daemon; otherwise the kernel carries on the flows that were
	// decided here.
	OpenEdge    func(*holder.Holder) (edge.Edge, error)
	NoFlowTable bool
	// Cgroup is where the hooks of bind are hung up, see linux.Config.
	Cgroup string

	RunDir string // socket and pid file, default DefaultRunDir
	// HTTP is where the page and the metrics are served, "" is nowhere; see
	// web.Listen. HTTPTokenFile holds what its clients have to show, "" is a token of
	// the state directory's own; with NoHTTPToken nobody has to show any.
	HTTP, HTTPTokenFile string
	NoHTTPToken         bool
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
	// Hangup has Reread asked for another configuration, of which takes effect what can, and
	// for the options that differ and wait for the next start.
	Hangup <-chan os.Signal
	Reread func() (next Config, later []string, err error)
	// Accepted, when not nil, is called when this configuration is in force: with Ready, or
	// when it was read again.
	Accepted func() error
	// Alive is called every Watchdog, unless that is 0, for as long as each worker
	// makes turns and requests can be worked on.
	Watchdog time.Duration
	Alive    func()
}

func (cfg *Config) fill() error {
	if cfg.RunDir == "" {
		cfg.RunDir = DefaultRunDir
	}
	if cfg.StateDir == "" {
		cfg.StateDir = DefaultStateDir
	}
	if cfg.NoHTTPToken && cfg.HTTPTokenFile != "" {
		return fmt.Errorf("token file %s: the page asks for no token: leave one of --http-token=off and --http-token-file out", cfg.HTTPTokenFile)
	}
	if err := cfg.Config.Fill(); err != nil {
		return err
	}
	if cfg.OpenEdge == nil {
		cfg.OpenEdge = func(h *holder.Holder) (edge.Edge, error) {
			e, err := linux.Open(linux.Config{NoFlowTable: cfg.NoFlowTable, OwnRanges: len(cfg.MasqueradePorts) > 0, MaxFlows: cfg.MaxFlows, Cgroup: cfg.Cgroup, Holder: h, Log: cfg.Log})
			if err != nil {
				return nil, err
			}
			return e, nil
		}
	}
	return nil
}

// Run is the daemon: it works in the network namespace the process is in, until
// ctx ends. With no container attached it then removes every trace; otherwise
// it leaves links and addresses standing for its next start. An error says why
// it could not start or what it could not finish.
func Run(ctx context.Context, cfg Config) (err error) {
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
		// could remove the directory it had made, a holder of one that could not.
		_, dirErr := os.Stat(dir)
		_, lockErr := os.Stat(filepath.Join(dir, lockName))
		_, heldErr := os.Stat(filepath.Join(dir, holder.SocketName))
		made := errors.Is(dirErr, os.ErrNotExist) || lockErr == nil || heldErr == nil
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
	// A state that there is takes as long to read as what is left of the daemon before.
	if _, err := os.Stat(filepath.Join(cfg.StateDir, state.FileName)); err == nil {
		cfg.State = state.Begin(cfg.StateDir)
		cleanup = append(cleanup, cfg.State.Close)
	}
	page, unlisten, err := listenPage(&cfg)
	if err != nil {
		if !cfg.without("the page is not served", err) {
			return err
		}
		page, unlisten, cfg.Page = nil, func() {}, api.Page{}
	}
	plugin, err := listenDocker(&cfg)
	if err != nil && cfg.without("docker's plugin protocol is not served", err) {
		plugin, err = nil, nil
	}
	if err != nil {
		if page != nil {
			page.Close()
		}
		unlisten()
		return err
	}
	started := false
	cleanup = append(cleanup, func() error {
		if page != nil {
			page.Close()
		}
		if plugin != nil && plugin != cfg.Docker {
			plugin.Close()
		}
		if !started {
			unlisten()
		}
		return nil
	})
	// It begins beside all else, which takes longer.
	kept, err := holder.Open(holder.Config{Dir: cfg.RunDir, Log: cfg.Log})
	if err != nil {
		cfg.Log.Warn("devices and sockets end with this daemon: nothing holds them for the next", "err", err)
	}
	cleanup = append(cleanup, kept.Close)
	if cfg.Edge, err = cfg.OpenEdge(kept); err != nil {
		return err
	}
	c, err := control.New(cfg.Config)
	if err != nil {
		return err
	}
	cleanup = append(cleanup, c.Close)

	l := cfg.Socket
	if l == nil {
		if l, err = server.Listen(filepath.Join(cfg.RunDir, SocketName)); err != nil {
			return err
		}
	}
	granted := roles.Find()
	if err := granted.LetIn(l.Addr().String()); err != nil {
		cfg.Log.Warn("only those reach the API whom the socket's mode lets in", "err", err)
	}
	all := backend{c, c.Observer()}
	socketHandler, pageHandler := handlers(all, &cfg)
	local, _, err := readersOf(c.Readers(), l)
	if err != nil {
		return err
	}
	end, served := serveOn(server.New(socketHandler, cfg.Log), local, granted)
	cleanup = append(cleanup, end)
	var pageServed <-chan error
	if page != nil {
		visited, forget, err := readersOf(c.Readers(), page)
		if err != nil {
			return err
		}
		cleanup = append(cleanup, forget)
		end, pageServed = serveOn(web.New(pageHandler, cfg.Log), visited, nil)
		cleanup = append(cleanup, end)
		cfg.Log.Info("page ready", "url", cfg.Page.URL, "token", cfg.Page.Token != "")
	}
	stopDocker, err := serveDocker(c, plugin, &cfg)
	if err != nil {
		return err
	}
	cleanup = append(cleanup, stopDocker)
	if cfg.Stopping != nil {
		cleanup = append(cleanup, func() error { cfg.Stopping(); return nil })
	}
	started = true
	cfg.Log.Info("daemon ready", "socket", l.Addr().String(), "state", cfg.StateDir, "pid", os.Getpid())
	if cfg.Ready != nil {
		cfg.Ready()
	}
	cfg.accepted(cfg.Log)
	if cfg.Watchdog > 0 {
		watching, unwatch := context.WithCancel(ctx)
		watched := make(chan struct{})
		go func() { defer close(watched); watchdog(watching, &cfg, c.Alive) }()
		cleanup = append(cleanup, func() error { unwatch(); <-watched; return nil })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			return fmt.Errorf("serve %s: %w", cfg.RunDir, err)
		case err := <-pageServed:
			return fmt.Errorf("serve %s: %w", cfg.HTTP, err)
		case <-cfg.Hangup:
			cfg.reload(c)
		}
	}
}

// without reports whether a start goes on without something: containers on record need a
// daemon, and there is no other configuration to try.
func (cfg *Config) without(what string, err error) bool {
	if cfg.Strict || !cfg.State.Attached(cfg.StateDir) {
		return false
	}
	cfg.Log.Error(what+": restart the daemon when that is put right", "err", err)
	return true
}

// reload reads the configuration again. One that is wrong changes nothing.
func (cfg *Config) reload(c *control.Controller) {
	next, later, err := cfg.Reread()
	if err == nil {
		err = c.Reload(next.Config)
	}
	if err != nil {
		cfg.Log.Error("the configuration is not taken: the one before stays in force", "err", err)
		return
	}
	cfg.Log.Info("configuration read again", "with_the_next_start", later)
	next.accepted(cfg.Log)
}

func (cfg *Config) accepted(log *slog.Logger) {
	if cfg.Accepted == nil {
		return
	}
	if err := cfg.Accepted(); err != nil {
		log.Warn("the configuration is not kept as the last good one", "err", err)
	}
}

// endPatience is how long a daemon that is told to end, or killed, may still have its
// directories: the kernel takes its time to close what it had open.
const endPatience = 2 * time.Second

// lockDir takes a directory for this process. The file with the process number is
// removed while the lock is held, so that no other daemon's is.
func lockDir(dir string) (unlock func() error, err error) {
	path := filepath.Join(dir, lockName)
	for began := time.Now(); ; {
		f, err := openLock(dir, path)
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("lock file: %w: run as root or choose another directory", err)
		}
		if err != nil {
			return nil, fmt.Errorf("lock file: %w", err)
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) && time.Since(began) < endPatience {
			f.Close()
			time.Sleep(2 * time.Millisecond)
			continue
		}
		if errors.Is(err, syscall.EWOULDBLOCK) {
			b := make([]byte, 32)
			n, _ := f.Read(b)
			f.Close()
			pid := strings.TrimSpace(string(b[:max(n, 0)]))
			if pid == "" {
				pid = "unknown"
			}
			return nil, fmt.Errorf("directory %s is in use by the vswitch daemon with pid %s: stop it or choose another --run-dir and --state-dir", dir, pid)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if f.Name() == dir {
			return f.Close, nil
		}
		// The daemon before us may have removed the file between open and lock.
		held, err1 := f.Stat()
		now, err2 := os.Stat(path)
		if err1 != nil || err2 != nil || !os.SameFile(held, now) {
			f.Close()
			continue
		}
		// The number is for people: a full disk keeps nobody from running.
		f.Truncate(0)
		fmt.Fprintf(f, "%d\n", os.Getpid())
		return func() error {
			err := os.Remove(path)
			if errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrNotExist) { // nobody is kept from starting
				err = nil
			}
			return errors.Join(err, f.Close())
		}, nil
	}
}

// openLock opens the file that is locked. On a disk that is full or read-only it is the one
// that is there already, or else the directory itself.
func openLock(dir, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o640)
	if !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.ENOSPC) {
		return f, err
	}
	if f, err = os.Open(path); errors.Is(err, os.ErrNotExist) {
		return os.Open(dir)
	}
	return f, err
}
