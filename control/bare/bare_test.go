package bare

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

// calls are what a process under test does: how each ends is told, by its error number, or by the signal that
// ended the process.
var calls = []struct {
	name string
	want string
	call func() error
}{
	{"read a file that anybody may", "", func() error { _, err := os.ReadFile("/proc/self/comm"); return err }},
	{"make a file", "EPERM", func() error { _, err := os.Create("/tmp/vswitch-bare"); return err }},
	{"write to one", "EPERM", func() error { _, err := os.OpenFile("/dev/null", os.O_WRONLY, 0); return err }},
	{"an unknown call", "EPERM", func() error { _, _, e := unix.RawSyscall(10_000, 0, 0, 0); return e }},
	{"kill", "EPERM", func() error { return unix.Kill(os.Getppid(), 0) }},
	{"a socket", "", func() error { return socket(unix.AF_INET, unix.SOCK_DGRAM) }},
	{"one of IPv6", "", func() error { return socket(unix.AF_INET6, unix.SOCK_STREAM) }},
	{"one of netlink", "", func() error { return socket(unix.AF_NETLINK, unix.SOCK_RAW) }},
	{"one of another family", "EPERM", func() error { return socket(unix.AF_UNIX, unix.SOCK_STREAM) }},
	{"one of frames", "EPERM", func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW) }},
	{"exec", "SIGSYS", func() error { return unix.Exec("/bin/true", []string{"true"}, nil) }},
	{"ptrace", "SIGSYS", func() error { return syscall.PtraceAttach(os.Getppid()) }},
	{"bpf", "SIGSYS", func() error { _, _, e := unix.RawSyscall(unix.SYS_BPF, 0, 0, 0); return e }},
	{"keyctl", "SIGSYS", func() error { _, err := unix.KeyctlGetKeyringID(0, false); return err }},
	{"mount", "SIGSYS", func() error { return unix.Mount("none", "/", "tmpfs", 0, "") }},
	{"open_by_handle_at", "SIGSYS", func() error {
		_, err := unix.OpenByHandleAt(unix.AT_FDCWD, unix.NewFileHandle(0, nil), 0)
		return err
	}},
	{"setns", "SIGSYS", func() error { return unix.Setns(0, unix.CLONE_NEWNET) }},
	{"unshare", "SIGSYS", func() error { return unix.Unshare(unix.CLONE_NEWUSER) }},
}

func socket(family, kind int) error {
	fd, err := unix.Socket(family, kind, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// told is how a call has ended.
func told(err error) string {
	var e syscall.Errno
	if errors.As(err, &e) {
		return unix.ErrnoName(e)
	}
	return fmt.Sprint(err)
}

func init() {
	for i := range calls {
		Become(fmt.Sprintf("call%d", i), func(files []*os.File) error {
			if files[1] != nil {
				return errors.New("a file that was not given")
			}
			if err := calls[i].call(); err != nil {
				_, err = io.WriteString(files[0], told(err))
				return err
			}
			_, err := io.WriteString(files[0], "done")
			return err
		}, func(err error) []byte { return []byte("failed: " + err.Error()) })
	}
	Become("status", func(files []*os.File) error {
		if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); n != 0 || err != nil {
			return fmt.Errorf("others of its user may look into it: %d, %v", n, err)
		}
		b, err := os.ReadFile("/proc/self/status")
		if err == nil {
			_, err = files[0].Write(b)
		}
		return err
	}, func(err error) []byte { return []byte("failed: " + err.Error()) })
}

// says is what a process of a kind has written, and how it has ended.
func says(t *testing.T, kind string) (text, end string) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := Command{Kind: kind, Threads: 2, Files: []*os.File{w, nil}}.Start()
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	state, err := p.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if s := state.Sys().(syscall.WaitStatus); s.Signaled() {
		return string(b), unix.SignalName(s.Signal())
	}
	return string(b), ""
}

// TestP03BareProcessIsConfined: what such a process needs it may do; all else is refused, and what only
// an intruder would do ends it.
func TestP03BareProcessIsConfined(t *testing.T) {
	labtest.Need(t)
	for i, c := range calls {
		text, end := says(t, fmt.Sprintf("call%d", i))
		switch {
		case c.want == "SIGSYS" && end != "SIGSYS", c.want != "SIGSYS" && end != "":
			t.Errorf("%s: ended by %q, said %q, want %q", c.name, end, text, c.want)
		case c.want == "" && text != "done", c.want != "" && end == "" && text != c.want:
			t.Errorf("%s: said %q, want %q", c.name, text, c.want)
		}
	}
}

// TestP02BareProcessHasNoRights: no capabilities, none to be had, and nobody of its user looks into it.
func TestP02BareProcessHasNoRights(t *testing.T) {
	labtest.Need(t)
	status, end := says(t, "status")
	if end != "" {
		t.Fatalf("ended by %s", end)
	}
	for _, want := range []string{
		"CapInh:\t0000000000000000\n", "CapPrm:\t0000000000000000\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "CapAmb:\t0000000000000000\n",
		"NoNewPrivs:\t1\n", "Seccomp:\t2\n",
	} {
		if !strings.Contains(status, want) {
			t.Errorf("lacks %q:\n%s", want, status)
		}
	}
}
