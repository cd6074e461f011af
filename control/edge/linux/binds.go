package linux

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/vswitch/vswitch/control/kernel"
)

// CgroupAuto stands for the root of the machine's cgroups, where the edge works in the
// network namespace of process 1: the programs of another one are elsewhere.
const CgroupAuto = "auto"

// watchBinds hangs the hooks of bind up. Without them the list of sockets is read, once a
// second, and BindHooks says why.
func (e *Edge) watchBinds() {
	dir, err := e.cgroup()
	if err == nil {
		err = e.Kernel.WatchBinds(dir)
	}
	if err != nil {
		e.noBindHooks = err
		return
	}
	e.cfg.Log.Debug("UDP ports are heard of when they are bound", "cgroup", dir)
}

// cgroup is the directory of the cgroup that all hooks are hung up in.
func (e *Edge) cgroup() (string, error) {
	switch e.cfg.Cgroup {
	case "":
		return "", errors.New("the daemon was told to use no cgroup")
	case CgroupAuto:
		return rootCgroup()
	}
	return e.cfg.Cgroup, nil
}

// checkCgroup refuses a directory that somebody named and that is no cgroup.
func checkCgroup(dir string) error {
	if dir == "" || dir == CgroupAuto {
		return nil
	}
	if err := kernel.CheckCgroup(dir); err != nil {
		return fmt.Errorf("cgroup %s: %w: name one below /sys/fs/cgroup with --cgroup, or off", dir, err)
	}
	return nil
}

// BindHooks implements edge.Reservations.
func (e *Edge) BindHooks() error { return e.noBindHooks }

// rootCgroup is the directory of the cgroup that every process is in or below.
func rootCgroup() (string, error) {
	own, err1 := os.Readlink("/proc/thread-self/ns/net")
	first, err2 := os.Readlink("/proc/1/ns/net")
	if err := errors.Join(err1, err2); err != nil {
		return "", err
	}
	if own != first {
		return "", errors.New("the network namespace is not that of process 1: name a cgroup with --cgroup")
	}
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	return rootMount(f)
}

// rootMount finds it among mounts (proc_mounts(5)), of which one that was bound elsewhere may
// show a part of the tree.
func rootMount(mounts io.Reader) (string, error) {
	err := errors.New("no cgroup2 is mounted")
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		m := strings.Fields(lines.Text())
		if len(m) < 3 || m[2] != "cgroup2" {
			continue
		}
		// All cgroups but the root have a type (cgroups(7)).
		if _, no := os.Stat(filepath.Join(m[1], "cgroup.type")); errors.Is(no, os.ErrNotExist) {
			return m[1], nil
		}
		err = fmt.Errorf("%s is not the root of the machine's cgroups: name one with --cgroup", m[1])
	}
	return "", err
}
