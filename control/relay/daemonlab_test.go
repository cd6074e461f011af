package relay_test

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/bare"
	"github.com/vswitch/vswitch/control/kernel"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/dataplane/flowmap"
)

// shelf keeps what a holder would, in this process.
type shelf struct {
	mu    sync.Mutex
	items map[string]item
}

type item struct {
	fd    int
	value string
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{items: make(map[string]item)}
	t.Cleanup(func() {
		for name := range s.items {
			s.Drop(name)
		}
	})
	return s
}

func (s *shelf) Take(name string) (int, string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	it, ok := s.items[name]
	if !ok {
		return -1, "", false
	}
	fd, err := unix.FcntlInt(uintptr(it.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, it.value, err == nil
}

func (s *shelf) Put(name string, fd int, value string) error {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	s.Drop(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items[name] = item{own, value}
	return nil
}

func (s *shelf) Drop(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if it, ok := s.items[name]; ok {
		unix.Close(it.fd)
		delete(s.items, name)
	}
}

// rename has every relay there is be of another program, as after an upgrade, or of another version.
func (s *shelf) rename(version, program string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, it := range s.items {
		if f := strings.Fields(it.value); len(f) > 2 {
			f[0], f[1] = version, program
			s.items[name] = item{it.fd, strings.Join(f, " ")}
		}
	}
}

// daemonLab is the host with the daemon's end of a relay.
type daemonLab struct {
	*lab
	shelf    *shelf
	steering *kernel.Steering // of the last daemon
	ways     []relay.Way
}

func newDaemonLab(t *testing.T) *daemonLab { return &daemonLab{lab: newHost(t), shelf: newShelf(t)} }

// start is a daemon that begins.
func (l *daemonLab) start() (c *relay.Client) {
	l.t.Helper()
	err := l.Host.Do(func() (err error) {
		c, err = relay.Start(relay.ClientConfig{Holder: l.shelf, Steer: func(tcp, udp [2]int) (io.Closer, error) {
			left := -1
			if l.steering != nil {
				left, _ = l.steering.FD()
			}
			s, err := l.k.Steer(left, tcp[0], tcp[1], udp[0], udp[1])
			if err == nil {
				l.t.Cleanup(func() { s.Close() })
				l.steering = s
			}
			return io.NopCloser(nil), err // the link is kept
		}})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { c.Close(false) })
	c.Lead(l.ways)
	return c
}

// lead publishes a port at all addresses of the host.
func (l *daemonLab) lead(proto uint8, port, target uint16) {
	for _, f := range []struct{ all, to string }{{"0.0.0.0", container4}, {"::", container6}} {
		l.ways = append(l.ways, relay.Way{
			Proto: proto, Addr: netip.MustParseAddr(f.all), First: port, Last: port,
			To: netip.AddrPortFrom(netip.MustParseAddr(f.to), target),
		})
	}
	l.k.Published().Set(flowmap.WildcardSlot, proto, port)
	l.k.Published().Set(flowmap.WildcardSlot6, proto, port)
}

// relays are the processes of relays in the host's namespace.
func (l *daemonLab) relays() (pids []int) {
	l.t.Helper()
	var here unix.Stat_t
	if err := l.Host.Do(func() error { return unix.Stat("/proc/thread-self/ns/net", &here) }); err != nil {
		l.t.Fatal(err)
	}
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, at := range list {
		args, err := os.ReadFile(at)
		if err != nil || string(args) != bare.CommandLine("relay") {
			continue
		}
		var ns unix.Stat_t
		if unix.Stat(filepath.Join(filepath.Dir(at), "ns/net"), &ns) == nil && ns.Ino == here.Ino {
			var pid int
			fmt.Sscanf(at, "/proc/%d/", &pid)
			pids = append(pids, pid)
		}
	}
	return pids
}

func (l *daemonLab) wantRelays(n int) []int {
	l.t.Helper()
	var pids []int
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if pids = l.relays(); len(pids) == n {
			return pids
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%d relays, want %d", len(pids), n)
		}
	}
}
