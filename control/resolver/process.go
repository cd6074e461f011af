package resolver

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/names"
)

// command is the one argument of a program that is a resolver.
const command = "resolve"

// CommandLine is how the process shows (proc(5), cmdline).
const CommandLine = "vswitch\x00" + command + "\x00"

// controlFD is where the process finds the socket that leads to the daemon; its sockets follow.
const controlFD = 3

// started marks the process that Start has begun: it tells how far it has come, and which of
// the sockets there are.
const started = "VSWITCH_RESOLVER"

// The two lives of the process: in the first it gives up what rights it has.
const (
	privileged = "1 "
	bare       = "2 "
)

// nobody is the user that has nothing.
const nobody = 65534

// A resolver is the program of its daemon, begun anew, as a holder is.
func init() {
	at := os.Getenv(started)
	if at == "" || len(os.Args) != 2 || os.Args[1] != command {
		return
	}
	var err error
	if which, ok := strings.CutPrefix(at, privileged); ok {
		err = disown(which)
	} else {
		err = run(strings.TrimPrefix(at, bare))
	}
	if err != nil {
		b, _ := json.Marshal(report{Failed: err.Error()})
		_, _ = unix.Write(controlFD, b)
		os.Exit(1)
	}
	os.Exit(0)
}

// disown has this process begin anew without rights: another user's, without capabilities, and none to
// be had by any program. A thread hands all this on to the process that exec makes of it.
func disown(which string) error {
	runtime.LockOSThread()
	self, err := unix.Open("/proc/self/exe", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := closeOthers(controlFD + 1 + socketCount); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	for c := uintptr(0); unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0) == nil; c++ {
	}
	// Where nobody is no user of the namespace root stays, and is one as any other.
	const noRoot, noRootLocked = 1 << 0, 1 << 1
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot|noRootLocked, 0, 0, 0); err != nil {
		return fmt.Errorf("securebits: %w", err)
	}
	_, _, _ = unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0) // refused in a namespace of a user's own, which has none
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESGID, nobody, nobody, nobody); e != 0 && e != unix.EINVAL {
		return fmt.Errorf("group nobody: %w", e)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); e != 0 && e != unix.EINVAL {
		return fmt.Errorf("user nobody: %w", e)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return execAt(self, []string{"vswitch", command}, []string{"GOMAXPROCS=" + os.Getenv("GOMAXPROCS"), started + "=" + bare + which})
}

// closeOthers has exec close what the daemon had from who started it.
func closeOthers(from int) error {
	if unix.CloseRange(uint(from), ^uint(0)>>1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return nil
	}
	list, err := os.ReadDir("/proc/self/fd")
	for _, e := range list {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd >= from {
			unix.CloseOnExec(fd)
		}
	}
	return err
}

// execAt is execve of an open file: the process may no longer look itself up.
func execAt(fd int, args, env []string) error {
	argv, err := syscall.SlicePtrFromStrings(args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(env)
	if err != nil {
		return err
	}
	empty := [1]byte{}
	_, _, e := unix.RawSyscall6(unix.SYS_EXECVEAT, uintptr(fd), uintptr(unsafe.Pointer(&empty[0])),
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&envv[0])), unix.AT_EMPTY_PATH, 0)
	return fmt.Errorf("the program's file has to be readable and executable for everybody: %w", e)
}

// run is the resolver's process: it answers until nobody has the other end of its socket.
func run(which string) error {
	c, err := net.FileConn(os.NewFile(controlFD, "control"))
	if err != nil {
		return err
	}
	s := new(Sockets)
	for i := range s.files {
		if i < len(which) && which[i] == '+' {
			s.files[i] = os.NewFile(uintptr(controlFD+1+i), "socket")
		}
	}
	zone := new(names.Zone)
	reports := make(chan report, 64)
	tell := func(r report) {
		select {
		case reports <- r:
		default:
		}
	}
	r := New(Config{Zone: zone, Changed: func(s Server) { tell(report{Server: &s}) }})
	go send(c, reports)
	for buf := make([]byte, maxMessage); ; {
		n, err := c.Read(buf)
		if err != nil || n == 0 {
			return nil // the daemon has ended, and the holder too
		}
		var m message
		if json.Unmarshal(buf[:n], &m) != nil {
			continue
		}
		if m.Begin {
			if err := r.serve(s); err != nil {
				return err
			}
			go r.tellStats(tell)
			continue
		}
		m.apply(zone)
	}
}

// send sends reports. While nobody reads them they are lost.
func send(c net.Conn, reports <-chan report) {
	for r := range reports {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_ = write(c, r)
	}
}

// tellStats tells how it does, while that changes.
func (r *Resolver) tellStats(tell func(report)) {
	var last []byte
	for range time.Tick(time.Second) {
		s := r.Stats()
		if b, _ := json.Marshal(s); string(b) != string(last) {
			last = b
			tell(report{Stats: &s})
		}
	}
}

// workers is how many questions are read at once.
func workers() int { return min(runtime.GOMAXPROCS(0), 4) }
