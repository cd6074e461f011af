package holder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane/port"
)

// Names of what has a meaning to the holder itself: the identity of the state directory,
// the ports that were entered in net.ipv4.ip_local_reserved_ports, as there, and how the names
// of packet sockets begin, which are deaf while nobody reads them: the programs after them
// have to see that nobody is there.
const (
	Owner    = "owner"
	Reserved = "reserved"
	Sockets  = "socket "
)

// command is the one argument of a program that is a holder.
const command = "hold"

// CommandLine is how the process shows (proc(5), cmdline).
const CommandLine = "vswitch\x00" + command + "\x00"

// listenerFD is where the child finds its listening socket.
const listenerFD = 3

// started marks the process that startLocked has begun.
const started = "VSWITCH_HOLDER"

// A holder is the program of its daemon, begun anew. It becomes one here, before anything
// else of that program runs: in a test that has a daemon the program would run all its tests
// again, and begin more holders.
func init() {
	if os.Getenv(started) != "" && len(os.Args) == 2 && os.Args[1] == command {
		os.Exit(hold())
	}
}

// hold is the holder's process: it serves the listening socket at descriptor 3 until there
// is nothing to hold any more.
func hold() int {
	// It sleeps all day.
	debug.SetGCPercent(10)
	closeOthers()
	// Who connects from now on is told by SO_PEERCRED which process it is, to kill it if it hangs.
	if err := unix.Listen(listenerFD, unix.SOMAXCONN); err != nil {
		fmt.Fprintln(os.Stderr, "vswitch hold:", err)
	}
	f := os.NewFile(listenerFD, "listener")
	l, err := net.FileListener(f)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "vswitch hold: it is started by vswitch daemon, which passes it a socket:", err)
		return 2
	}
	s := &server{listener: l.(*net.UnixListener), items: make(map[string]item), clean: clean}
	if err := s.run(); err != nil {
		return 1
	}
	return 0
}

// closeOthers closes what the daemon had from who started it. The runtime's own are closed on
// exec.
func closeOthers() {
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= listenerFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// item is what is kept under a name. fd is -1 for a value alone.
type item struct {
	value string
	fd    int
}

type server struct {
	listener *net.UnixListener
	clean    func(owner string, values map[string]string) // removes what no descriptor ends

	mu    sync.Mutex // guards what follows
	items map[string]item
	alone time.Time // since when there is no daemon; zero: there is one
	ended bool
}

// run serves one daemon after the other: what one has sent is read to its end before the
// next is heard.
func (s *server) run() error {
	debug.FreeOSMemory() // what the start took
	unwatch := func() {}
	defer func() { unwatch() }()
	for {
		c, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		alone, ended := s.alone, s.ended
		s.alone = time.Time{}
		s.mu.Unlock()
		if ended {
			c.Close()
			continue
		}
		unwatch()
		if s.serve(c, alone) || alone.IsZero() {
			alone = time.Now()
		}
		s.deafen()
		c.Close()
		s.mu.Lock()
		s.alone = alone
		s.mu.Unlock()
		ctx, cancel := context.WithCancel(context.Background())
		unwatch = cancel
		go s.watch(ctx, alone)
	}
}

// deafen takes the daemon's filters off the sockets that it has left.
func (s *server) deafen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, it := range s.items {
		if strings.HasPrefix(name, Sockets) && it.fd >= 0 {
			_ = port.Deafen(it.fd) // of a device that is gone: nothing comes
		}
	}
}

// serve is one daemon's connection. It reports whether the other end was one.
func (s *server) serve(c *net.UnixConn, alone time.Time) (greeted bool) {
	if peer(c) != nil {
		return false
	}
	buf := make([]byte, maxMessage)
	c.SetReadDeadline(time.Now().Add(patience))
	for {
		m, err := receive(c, buf)
		if errors.Is(err, unix.ECONNRESET) {
			// It has ended with answers unread. Its messages come all the same.
			m, err = receive(c, buf)
		}
		if err != nil {
			return greeted
		}
		switch {
		case m.kind == end:
			s.end(alone, true)
			return greeted
		case m.kind == hello && m.field(0) == strconv.Itoa(version):
			greeted = true
			c.SetReadDeadline(time.Time{})
			s.greet(c, alone, m.field(1) == many)
		case m.kind == hello:
			_ = send(c, refuse, -1, "this holder speaks version "+strconv.Itoa(version))
		case !greeted:
			m.close()
			return greeted
		case m.kind == put && m.field(0) != "":
			s.mu.Lock()
			s.dropLocked(m.field(0))
			s.items[m.field(0)] = item{m.field(1), m.fd}
			s.mu.Unlock()
		case m.kind == drop:
			s.mu.Lock()
			s.dropLocked(m.field(0))
			s.mu.Unlock()
			m.close()
			_ = send(c, done, -1)
		default:
			m.close()
		}
	}
}

// greet tells a daemon what there is. One that does not hear it has ended, which shows when
// it is heard.
func (s *server) greet(c *net.UnixConn, alone time.Time, several bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var together []string
	for _, name := range slices.Sorted(maps.Keys(s.items)) {
		it := s.items[name]
		text := name + it.value
		if several && it.fd >= 0 && len(text) < maxText && !strings.Contains(text, separator) {
			together = append(together, name)
			continue
		}
		if send(c, have, it.fd, name, it.value) != nil {
			return
		}
	}
	for some := range slices.Chunk(together, atOnce) {
		var fds []int
		var fields []string
		for _, name := range some {
			fds, fields = append(fds, s.items[name].fd), append(fields, name, s.items[name].value)
		}
		if sendAll(c, haves, fds, fields...) != nil {
			return
		}
	}
	var ms int64
	if !alone.IsZero() {
		ms = time.Since(alone).Milliseconds()
	}
	if ns, err := netns(); err == nil {
		_ = send(c, ready, -1, strconv.FormatInt(ms, 10), ns, strconv.Itoa(os.Getpid()))
	}
}

func (s *server) dropLocked(name string) {
	if it, ok := s.items[name]; ok {
		delete(s.items, name)
		if it.fd >= 0 {
			unix.Close(it.fd)
		}
	}
}

// watch ends the holder when no cable is left, unless a daemon comes before.
func (s *server) watch(ctx context.Context, alone time.Time) {
	s.mu.Lock()
	owner := s.items[Owner].value
	s.mu.Unlock()
	if owner == "" { // no daemon came so far as to make anything
		s.end(alone, false)
		return
	}
	h, err := host.New()
	if err != nil {
		return // it keeps what it has; the next daemon or vswitch down ends it
	}
	defer h.Close()
	links := make(map[int]host.Link)
	_ = h.WatchLinks(ctx, func(e host.Event) {
		switch e.Kind {
		case host.Resync:
			list, err := h.Links()
			if err != nil {
				return
			}
			clear(links)
			for _, l := range list {
				links[l.Index] = l
			}
		case host.LinkGone:
			delete(links, e.Link.Index)
		case host.LinkChanged:
			links[e.Link.Index] = e.Link
		default:
			return
		}
		if !cabled(links, owner) {
			s.end(alone, false)
		}
	})
}

// cabled reports whether the owner has a cable with a container at its other end. One that
// waits for its runtime has both ends here.
func cabled(links map[int]host.Link, owner string) bool {
	waiting := make(map[string]bool)
	for _, l := range links {
		if name, ok := strings.CutPrefix(l.Name, host.WaitPrefix); ok {
			waiting[name] = true
		}
	}
	for _, l := range links {
		if l.Kind == "veth" && strings.HasPrefix(l.Alias, host.AliasOf(owner)) && !waiting[strings.TrimPrefix(l.Name, "veth")] {
			return true
		}
	}
	return false
}

// end removes everything and ends the holder, unless a daemon came; by one that asks for it
// always. Until all is gone nobody is served, so that a daemon that comes meanwhile, and
// starts another holder, finds nothing half removed.
func (s *server) end(alone time.Time, asked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended || !asked && !s.alone.Equal(alone) {
		return
	}
	s.ended = true
	values := make(map[string]string)
	for name, it := range s.items {
		values[name] = it.value
	}
	s.clean(s.items[Owner].value, values)
	var closers sync.WaitGroup // the kernel takes its time for each socket
	for _, it := range s.items {
		if it.fd >= 0 {
			closers.Go(func() { unix.Close(it.fd) })
		}
	}
	clear(s.items)
	closers.Wait()
	// The name goes before the socket, which is what a daemon waits for that makes its own.
	if at := s.listener.Addr().String(); at != "" {
		os.Remove(at)
	}
	s.listener.Close()
}

// clean removes what no descriptor ends: programs on uplinks and reserved ports.
func clean(owner string, values map[string]string) {
	if owner == "" {
		return
	}
	if h, err := host.New(); err == nil {
		_, _ = RemoveShields(h, owner)
		h.Close()
	}
	if list, err := reserve.ParseRanges(values[Reserved]); err == nil {
		_ = reserve.RestoreReserved(list)
	}
}
