package rig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// hooked is the cgroup that this process and all it starts is in for as long as there is a daemon,
// which has its hooks there: programs of other cgroups have nothing to do with the benchmark.
var hooked hookedCgroup

type hookedCgroup struct {
	mu        sync.Mutex // guards what follows
	users     int
	dir, home string // and where the process came from
	mount     string
}

// enterCgroup returns the cgroup for a daemon, and what is called at its end. A mount of its own shows
// it also where ip netns exec hides that of the machine.
func enterCgroup() (dir string, leave func() error, err error) {
	h := &hooked
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users == 0 {
		if err := h.enterLocked(); err != nil {
			return "", nil, fmt.Errorf("a cgroup for the daemon: %w", err)
		}
	}
	h.users++
	return h.dir, leaveCgroup, nil
}

func leaveCgroup() error {
	h := &hooked
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.users > 0 {
		return nil
	}
	return h.leaveLocked()
}

func (h *hookedCgroup) enterLocked() (err error) {
	if h.mount, err = os.MkdirTemp("", "vswitch-cgroup-"); err != nil {
		return err
	}
	if err := unix.Mount("none", h.mount, "cgroup2", 0, ""); err != nil {
		return errors.Join(err, os.Remove(h.mount))
	}
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return errors.Join(err, h.unmount())
	}
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			h.home = filepath.Join(h.mount, path)
		}
	}
	h.dir = filepath.Join(h.home, fmt.Sprintf("vswitch-bench-%d", os.Getpid()))
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		return errors.Join(err, h.unmount())
	}
	if err := move(h.dir); err != nil {
		return errors.Join(err, os.Remove(h.dir), h.unmount())
	}
	return nil
}

func move(to string) error { return os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte("0"), 0) }

func (h *hookedCgroup) leaveLocked() error {
	err := move(h.home)
	if err != nil {
		return errors.Join(err, h.unmount())
	}
	err = os.Remove(h.dir)
	// A process that has ended leaves it a moment after all else.
	for end := time.Now().Add(10 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = os.Remove(h.dir) {
		time.Sleep(5 * time.Millisecond)
	}
	return errors.Join(err, h.unmount())
}

func (h *hookedCgroup) unmount() error {
	return errors.Join(unix.Unmount(h.mount, unix.MNT_DETACH), os.Remove(h.mount))
}
