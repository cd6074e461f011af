package bare

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// first is where a process finds the descriptors that it is given.
const first = 3

// started marks the process that Start has begun: it tells how far it has come, and which of its
// files there are.
const started = "VSWITCH_BARE"

// The two lives of the process: in the first it gives up what rights it has.
const (
	privileged = "1 "
	bare       = "2 "
)

// CommandLine is how a process of a kind shows (proc(5), cmdline).
func CommandLine(kind string) string { return "vswitch\x00" + kind + "\x00" }

// Command says how to start a process.
type Command struct {
	Kind    string     // which Become has named
	Threads int        // that run Go at a time
	Files   []*os.File // borrowed; it has none in the place of a nil
	PidFD   *int       // unless nil, where to put a descriptor of the process (pidfd_open(2))
}

// Start starts the process. It has a session and an environment of its own, and the network namespace of the
// calling thread.
func (c Command) Start() (*os.Process, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	which := make([]byte, len(c.Files))
	cmd := exec.Command("/proc/self/exe", c.Kind)
	for i, f := range c.Files {
		which[i] = '+'
		if f == nil {
			which[i], f = '-', null
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	cmd.Args[0], cmd.Dir = "vswitch", "/"
	cmd.Env = []string{"GOMAXPROCS=" + strconv.Itoa(max(1, c.Threads)), started + "=" + privileged + string(which)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, PidFD: c.PidFD}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd.Process, nil
}

// Become has this process be one of a kind, if Start has begun it as such: it calls run, and ends. It is called in
// an init, before anything else of the program runs: in a test that has a daemon the program would run
// all its tests again. files are the process's. The text that failed makes of an error is written to the
// first of them.
func Become(kind string, run func(files []*os.File) error, failed func(error) []byte) {
	at := os.Getenv(started)
	if at == "" || len(os.Args) != 2 || os.Args[1] != kind {
		return
	}
	var err error
	if which, ok := strings.CutPrefix(at, privileged); ok {
		err = disown(kind, which)
	} else if err = confine(); err == nil {
		err = run(given(strings.TrimPrefix(at, bare)))
	}
	if err != nil {
		_, _ = unix.Write(first, failed(err))
		os.Exit(1)
	}
	os.Exit(0)
}

func given(which string) []*os.File {
	files := make([]*os.File, len(which))
	for i := range files {
		if which[i] == '+' {
			unix.CloseOnExec(first + i)
			files[i] = os.NewFile(uintptr(first+i), "given")
		} else {
			unix.Close(first + i)
		}
	}
	return files
}

// Socketpair is a connection of whole messages, with room for so many bytes that are not read yet, as far
// as the kernel lets it be.
func Socketpair(room int) (own, other *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room) != nil {
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, room)
		}
	}
	return os.NewFile(uintptr(fds[0]), "own"), os.NewFile(uintptr(fds[1]), "other"), nil
}

// Ended waits until the process that a descriptor names has ended, but not longer than within, and says
// whether it has.
func Ended(process int, within time.Duration) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(process), Events: unix.POLLIN}}, int(within.Milliseconds()))
		if !errors.Is(err, unix.EINTR) {
			return n > 0
		}
	}
}

// Kill kills the process that a descriptor names.
func Kill(process int) error {
	return unix.PidfdSendSignal(process, unix.SIGKILL, nil, 0)
}
