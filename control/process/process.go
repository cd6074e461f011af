// Package process watches processes that are not our children until they end.
//
// A process is held by a pidfd (Linux 5.3), so that its number, given to another
// process later, is not mistaken for it. The package starts, signals and reaps
// nothing.
package process

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that there is no such process, or not the same any more.
var ErrGone = errors.New("no such process")

// Process is one watched process. Safe for concurrent use.
type Process struct {
	PID int
	// Start is the time the process started in clock ticks since boot: together
	// with PID it names the process for as long as the host is up.
	Start uint64

	done chan struct{}
	stop func()
	once sync.Once
}

// Open begins to watch a process. The error wraps ErrGone when it has ended.
func Open(pid int) (*Process, error) {
	if pid <= 0 {
		return nil, fmt.Errorf("process %d: %w: give the number of a process that runs", pid, ErrGone)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) { // no PIDFD_NONBLOCK before 5.10
		fd, err = unix.PidfdOpen(pid, 0)
		if err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		fd, err = -1, nil
	}
	if err != nil {
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			err = ErrGone
		}
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	p := &Process{PID: pid, done: make(chan struct{})}
	// Read after the pidfd was opened, so that both mean the same process.
	if p.Start, err = startTime(pid); err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	if fd >= 0 {
		p.pollFD(fd)
	} else {
		p.pollStat()
	}
	return p, nil
}

// Done is closed when the process has ended, and by Close.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended reports whether the process has ended.
func (p *Process) Ended() bool {
	start, err := startTime(p.PID)
	return err != nil || start != p.Start
}

// Close ends the watch.
func (p *Process) Close() { p.once.Do(p.stop) }

// pollFD waits in the runtime's poller, which takes no thread: a pidfd becomes
// readable when the process ends.
func (p *Process) pollFD(fd int) {
	f := os.NewFile(uintptr(fd), "pidfd")
	p.stop = func() { f.Close() }
	go func() {
		defer close(p.done)
		defer p.Close()
		rc, err := f.SyscallConn()
		if err != nil {
			return
		}
		rc.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			return n > 0 && err == nil
		})
	}()
}

// pollStat looks twice a second, for kernels without pidfd.
func (p *Process) pollStat() {
	stop := make(chan struct{})
	p.stop = func() { close(stop) }
	go func() {
		defer close(p.done)
		t := time.NewTicker(500 * time.Millisecond)
		defer t.Stop()
		for !p.Ended() {
			select {
			case <-stop:
				return
			case <-t.C:
			}
		}
	}()
}

// startTime is field 22 of /proc/PID/stat; a zombie has ended.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	// The command in field 2 may hold blanks and parentheses.
	s := string(b)
	i := strings.LastIndexByte(s, ')')
	f := strings.Fields(s[i+1:])
	if i < 0 || len(f) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: malformed", pid)
	}
	if f[0] == "Z" || f[0] == "X" {
		return 0, ErrGone
	}
	return strconv.ParseUint(f[19], 10, 64)
}
