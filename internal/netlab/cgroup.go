package netlab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// EnterCgroup makes a cgroup (version 2) of a name below that of this process and moves the process there:
// what is hung up in dir sees it and its children, and nobody else. leave moves it back and removes
// the cgroup once all children have ended. It is shown by a mount of its own, also where the
// machine's is hidden (ip netns exec).
func EnterCgroup(name string) (dir string, leave func() error, err error) {
	all, err := os.MkdirTemp("", "cgroup2-")
	if err != nil {
		return "", nil, err
	}
	if err := unix.Mount("none", all, "cgroup2", 0, ""); err != nil {
		return "", nil, errors.Join(fmt.Errorf("cgroup2: %w", err), os.Remove(all))
	}
	hide := func() error { return errors.Join(unix.Unmount(all, unix.MNT_DETACH), os.Remove(all)) }
	home := all
	own, err := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(own)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			home = filepath.Join(all, path)
		}
	}
	dir = filepath.Join(home, fmt.Sprintf("%s-%d", name, os.Getpid()))
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("make a cgroup: %w", err), hide())
	}
	move := func(to string) error { return os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte("0"), 0) }
	if err := move(dir); err != nil {
		return "", nil, errors.Join(fmt.Errorf("enter a cgroup: %w", err), os.Remove(dir), hide())
	}
	return dir, func() error {
		err := move(home)
		if err == nil {
			err = os.Remove(dir)
		}
		// A process that has ended leaves it a moment after all else.
		for end := time.Now().Add(30 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = os.Remove(dir) {
			time.Sleep(5 * time.Millisecond)
		}
		return errors.Join(err, hide())
	}, nil
}
