package labtest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup moves the process into a cgroup that ends with the test, and returns its
// directory: what is hung up there sees this process and its children, and nobody else.
func Cgroup(t testing.TB) string {
	t.Helper()
	NeedRoot(t)
	all := t.TempDir()
	if err := unix.Mount("none", all, "cgroup2", 0, ""); err != nil {
		Skip(t, "cgroup2: "+err.Error())
	}
	t.Cleanup(func() { _ = unix.Unmount(all, unix.MNT_DETACH) })
	was, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	var home string
	for line := range strings.Lines(string(was)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			home = filepath.Join(all, path)
		}
	}
	dir := filepath.Join(home, fmt.Sprintf("vswitch-test-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		Skip(t, "make a cgroup: "+err.Error())
	}
	move := func(to string) error { return os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte("0"), 0) }
	if err := move(dir); err != nil {
		_ = os.Remove(dir)
		Skip(t, "enter a cgroup: "+err.Error())
	}
	t.Cleanup(func() {
		if err := move(home); err != nil {
			t.Error(err)
		}
		// A process that has ended leaves it a moment after all else.
		err := os.Remove(dir)
		for end := time.Now().Add(30 * time.Second); errors.Is(err, unix.EBUSY) && time.Now().Before(end); err = os.Remove(dir) {
			time.Sleep(5 * time.Millisecond)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return dir
}
