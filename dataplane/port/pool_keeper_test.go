package port_test

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// keeper is a port.Keeper in memory.
type keeper struct {
	mu   sync.Mutex
	fds  map[int]int
	as   map[int]string
	left bool
}

func (k *keeper) Keep(place, fd int, as string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	own, err := unix.Dup(fd)
	k.fds[place], k.as[place] = own, as
	return err
}

func (k *keeper) Drop(place int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	unix.Close(k.fds[place])
	delete(k.fds, place)
}

func (k *keeper) Left(place int) (fd int, as string, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.left || k.fds[place] == 0 {
		return -1, "", false
	}
	fd, err := unix.Dup(k.fds[place])
	return fd, k.as[place], err == nil
}

// kept are the sockets that the keeper has, once there are n.
func (k *keeper) kept(t *testing.T, n int) map[uint64]bool {
	t.Helper()
	for range 500 {
		k.mu.Lock()
		inodes := make(map[uint64]bool)
		for _, fd := range k.fds {
			inodes[inode(t, fd)] = true
		}
		k.mu.Unlock()
		if len(inodes) == n {
			return inodes
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("not %d spare sockets are kept", n)
	return nil
}

func inode(t *testing.T, fd int) uint64 {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Fstat(fd, &st))
	return st.Ino
}

// TestSparesAreKept: spare sockets outlive the process, the next one has them, and one that is a port's, or
// was bound when the process died, is a spare one no more.
func TestSparesAreKept(t *testing.T) {
	labtest.Need(t)
	k := &keeper{fds: make(map[int]int), as: make(map[int]string)}
	pool := port.NewPool(2, 0, k)
	first := k.kept(t, 2)
	s, err := pool.Open(port.PacketConfig{Ifindex: 1, Name: "lo"})
	must(t, err)
	fd, _ := s.Kept()
	is := inode(t, fd)
	if !first[is] {
		t.Error("the port has no spare socket")
	}
	second := k.kept(t, 2) // another is made in its place
	if second[is] {
		t.Error("the socket of a port is a spare one still")
	}
	// The process dies when it has just bound one.
	k.mu.Lock()
	delete(second, inode(t, k.fds[0]))
	unix.Close(k.fds[0])
	k.fds[0], err = unix.Dup(fd)
	k.left = true
	k.mu.Unlock()
	must(t, err)
	must(t, s.Close())
	must(t, pool.Close())
	next := port.NewPool(2, 0, k)
	third := k.kept(t, 2)
	if third[is] {
		t.Error("the next process has a socket for a spare one that is bound")
	}
	for spare := range second {
		if !third[spare] {
			t.Error("the next process makes a socket that it has")
		}
	}
	must(t, next.Close())
}
