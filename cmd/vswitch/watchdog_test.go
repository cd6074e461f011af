package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// workerThread is the thread of a process that waits for packet sockets, 0 for none at this moment.
func workerThread(pid int) int {
	packet, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", pid))
	inodes := make(map[string]bool)
	for line := range strings.Lines(string(packet)) {
		f := strings.Fields(line)
		inodes["socket:["+f[len(f)-1]+"]"] = true
	}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	for _, path := range tasks {
		b, _ := os.ReadFile(path)
		f := strings.Fields(string(b)) // its number, and arguments: the first is an epoll's descriptor
		if len(f) < 2 {
			continue
		}
		epoll, _ := strconv.ParseUint(f[1], 0, 31)
		info, _ := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, epoll))
		for line := range strings.Lines(string(info)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "tfd:" {
				if at, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, f[1])); inodes[at] {
					tid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
					return tid
				}
			}
		}
	}
	return 0
}

// The service manager hears nothing while a worker is stuck, and ends such a daemon: all other
// threads go on.
func TestF05StuckWorker(t *testing.T) {
	labtest.NeedRoot(t)
	labtest.NeedBPF(t)
	s := newSupervisor(t)
	r := &rig{t: t, world: labtest.NewWorld(t), dir: t.TempDir()}
	t.Setenv("VSWITCH_SOCKET", "")
	t.Setenv("NOTIFY_SOCKET", s.c.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "2000000")
	r.start()
	defer r.stop()
	for s.next()[0] != "WATCHDOG=1" {
	}
	runtime.LockOSThread() // ptrace(2) knows its tracer by the thread
	defer runtime.UnlockOSThread()
	tid := 0
	if !eventually(func() bool { tid = workerThread(r.daemon.Process.Pid); return tid != 0 }) {
		t.Fatal("no thread waits for packet sockets")
	}
	stop := func(request, data int) error {
		_, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(tid), 0, uintptr(data), 0, 0)
		if errno != 0 {
			return errno
		}
		return nil
	}
	if err := stop(unix.PTRACE_SEIZE, 0); err != nil {
		t.Fatal(err)
	}
	if err := stop(unix.PTRACE_INTERRUPT, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.Wait4(tid, nil, unix.WALL, nil); err != nil {
		t.Fatal(err)
	}
	const says = "worker 0 has made no turn"
	if !eventually(func() bool { return strings.Contains(r.log.String(), says) }) {
		t.Errorf("the log does not say %q:\n%s", says, r.log.String())
	}
	for s.waits() { // of before
		s.next()
	}
	time.Sleep(3 * time.Second) // systemd would have given it up after two
	if s.waits() {
		t.Errorf("it says %q while a worker is stuck", s.next())
	}
	r.must("ps") // the rest goes on
	if err := stop(unix.PTRACE_DETACH, 0); err != nil {
		t.Fatal(err)
	}
	if got := s.next(); got[0] != "WATCHDOG=1" {
		t.Errorf("once the worker goes on it says %q", got)
	}
}
