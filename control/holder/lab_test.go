package holder

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// strangerEnv holds the directory of a holder that a process of this test binary speaks to.
const strangerEnv = "VSWITCH_TEST_STRANGER"

// immigrantEnv holds the directory of a holder of another namespace.
const immigrantEnv = "VSWITCH_TEST_IMMIGRANT"

// strayEnv has the immigrant's first thread elsewhere instead.
const strayEnv = "VSWITCH_TEST_STRAY"

// The first goroutine stays on the first thread.
func init() {
	if os.Getenv(strayEnv) != "" {
		runtime.LockOSThread()
	}
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(strangerEnv); dir != "" {
		beStranger(dir)
	}
	if dir := os.Getenv(immigrantEnv); dir != "" {
		if os.Getenv(strayEnv) != "" {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
		go beImmigrant(dir)
		select {}
	}
	labtest.Main(m)
}

// beImmigrant asks a holder for what it keeps under the name one.
func beImmigrant(dir string) {
	h, err := Open(Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	_, _, ok := h.Take("one")
	h.Put(Owner, -1, owner)
	for h.pid.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("holder", h.pid.Load())
	fmt.Println("found", ok)
	os.Exit(0)
}

// beStranger asks a holder for what it has, without rights.
func beStranger(dir string) {
	c, err := dial(dir)
	if err == nil {
		err = send(c, hello, -1, strconv.Itoa(version))
	}
	if errors.Is(err, unix.EPIPE) { // it was sent away before it said a word
		fmt.Println("not heard")
		os.Exit(0)
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if m, err := receive(c, make([]byte, maxMessage)); err == nil {
		fmt.Printf("answered %c\n", m.kind)
		os.Exit(1)
	}
	fmt.Println("not heard")
	os.Exit(0)
}

const owner = "0123456789abcdef"

// lab is a run directory, and a cable of the owner for as long as uncable is not called.
type lab struct {
	t   *testing.T
	dir string
}

func newLab(t *testing.T) *lab {
	t.Helper()
	labtest.NeedRoot(t)
	l := &lab{t, t.TempDir()}
	l.ip("link add veth0 type veth peer name far0")
	l.ip("link set veth0 alias vswitch:" + owner + ":web/eth0")
	t.Cleanup(func() { exec.Command("ip", "link", "del", "veth0").Run() })
	t.Cleanup(func() {
		if _, err := End(l.dir); err != nil {
			t.Error(err)
		}
	})
	return l
}

func (l *lab) ip(args string) {
	l.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

func (l *lab) open() *Holder {
	l.t.Helper()
	h, err := Open(Config{Dir: l.dir})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { h.Close() })
	return h
}

// there reports whether there is a holder.
func (l *lab) there() bool {
	c, err := dial(l.dir)
	if err == nil {
		c.Close()
	}
	return err == nil
}

// noticed returns when the holder has seen that a daemon has gone: it hears one after the other.
func (l *lab) noticed() {
	l.t.Helper()
	c, err := dial(l.dir)
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	if _, err := receive(c, make([]byte, maxMessage)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Fatalf("one who says nothing is not sent away: %v", err)
	}
}

func (l *lab) eventually(what string, ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("it is not so: %s", what)
		}
	}
}

// pipe has its writing end kept under a name: reading ends with the last who has it.
func (l *lab) pipe(h *Holder, name string) (r *os.File) {
	l.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { r.Close() })
	if err := h.Put(name, int(w.Fd()), "of "+name); err != nil {
		l.t.Fatal(err)
	}
	w.Close()
	return r
}

// ended waits for the end of a pipe.
func (l *lab) ended(r *os.File) {
	l.t.Helper()
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	if b, err := io.ReadAll(r); err != nil {
		l.t.Fatalf("the pipe is still open: %q, %v", b, err)
	}
}

// taken writes into what is kept under a name.
func (l *lab) taken(h *Holder, name string, r *os.File) {
	l.t.Helper()
	fd, value, ok := h.Take(name)
	if !ok || fd < 0 || value != "of "+name {
		l.t.Fatalf("%s: %d, %q, %t", name, fd, value, ok)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	b := make([]byte, 3)
	if _, err := f.WriteString("abc"); err != nil {
		l.t.Fatal(err)
	}
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "abc" {
		l.t.Fatalf("read %q, %v", b, err)
	}
}

func pidOf(t *testing.T, h *Holder) int {
	t.Helper()
	return int(h.pid.Load())
}

// started is pidOf once it is known.
func (l *lab) started(h *Holder) (pid int) {
	l.t.Helper()
	l.eventually("there is a holder", func() bool { pid = pidOf(l.t, h); return pid != 0 })
	return pid
}

// children are the processes that this one has begun, also those that it has not waited for.
func children(t *testing.T) (pids []int) {
	t.Helper()
	list, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended
		}
		// pid (comm) state ppid: the name may have blanks and parentheses.
		f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}
