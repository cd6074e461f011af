package reserve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func init() {
	if os.Getenv(programEnv) != "" {
		runtime.LockOSThread() // the thread whose namespace /proc/PID/ns shows
	}
}

// family is a program with so many descendants in a line, of which it says the numbers. The
// eldest listens at VSWITCH_TEST_AT, and with VSWITCH_TEST_LEAVE its child has the socket too;
// the youngest enters the namespace VSWITCH_TEST_NS.
func family(n string) int {
	left, _ := strconv.Atoi(n)
	if ns := os.Getenv("VSWITCH_TEST_NS"); ns != "" && left == 0 {
		fd, err := unix.Open(ns, unix.O_RDONLY, 0)
		if err == nil {
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	var keep *os.File
	if at := os.Getenv("VSWITCH_TEST_AT"); at != "" {
		network, addr, _ := strings.Cut(at, " ")
		var err error
		switch {
		case strings.HasPrefix(network, "udp"):
			var l net.PacketConn
			if l, err = net.ListenPacket(network, addr); err == nil {
				keep, err = l.(*net.UDPConn).File()
				l.Close()
			}
		default:
			var l net.Listener
			if l, err = net.Listen(network, addr); err == nil {
				keep, err = l.(*net.TCPListener).File()
				l.Close()
			}
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	pids := strconv.Itoa(os.Getpid())
	if left > 0 {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), "VSWITCH_TEST_AT=", programEnv+"=family "+strconv.Itoa(left-1))
		if keep != nil && os.Getenv("VSWITCH_TEST_LEAVE") != "" {
			cmd.ExtraFiles = []*os.File{keep}
		}
		cmd.Stdin = os.Stdin // ends for all of them at once
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
		line, _ := bufio.NewReader(out).ReadString('\n')
		pids += " " + strings.TrimSpace(line)
	}
	fmt.Println(pids)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// startFamily starts a family in n and returns its numbers, the eldest first.
func startFamily(t *testing.T, n *netlab.NS, descendants int, env ...string) (pids []int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), append(env, programEnv+"=family "+strconv.Itoa(descendants))...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	for _, f := range strings.Fields(line) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatalf("family: %s", line)
		}
		pids = append(pids, pid)
	}
	if len(pids) != descendants+1 {
		t.Fatalf("family: %q", line)
	}
	return pids
}

// What calls a plugin, or calls that, may hold the ports that it asks for. Its socket is known
// from then on, whoever has it. What listens further up is somebody's way in.
func TestTakeFromTheCaller(t *testing.T) {
	for _, network := range []string{"tcp4", "udp4"} {
		inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
			number := tcp
			if network == "udp4" {
				number = udp
			}
			pids := startFamily(t, n, 3, "VSWITCH_TEST_AT="+network+" 0.0.0.0:8080", "VSWITCH_TEST_LEAVE=1")
			if _, err := p.Take(number, everywhere, 8080, 8080, Keeper{}); !errors.Is(err, ErrTaken) {
				t.Errorf("%s: nobody asks: %v", network, err)
			}
			if _, err := p.Take(number, everywhere, 8080, 8080, Keeper{Caller: pids[0]}); !errors.Is(err, ErrTaken) {
				t.Errorf("%s: its own socket is not its caller's: %v", network, err)
			}
			var known []uint64
			for _, last := range []uint16{8080, 8083, 9000} {
				for _, caller := range pids[1:3] {
					h, err := p.Take(number, everywhere, 8080, last, Keeper{Caller: caller})
					if err != nil {
						t.Fatalf("%s: 8080-%d: %v", network, last, err)
					}
					if known = h.Kept(); len(known) != 1 || known[0] == 0 {
						t.Errorf("%s: keeps %v", network, known)
					}
					if got, err := p.Intruders(); err != nil || len(got) != 0 {
						t.Errorf("%s: 8080-%d: intruders %v, %v", network, last, got, err)
					}
					if _, err := p.Take(number, everywhere, 8080, 8080, Keeper{Caller: caller}); !errors.Is(err, ErrTaken) {
						t.Errorf("%s: a second time: %v", network, err)
					}
					if err := h.Release(); err != nil {
						t.Error(err)
					}
				}
			}
			// The same socket, by what the state has of it, and none of others.
			h, err := p.Take(number, everywhere, 8080, 8080, Keeper{Known: known})
			if err != nil {
				t.Fatalf("%s: known: %v", network, err)
			}
			if err := h.Release(); err != nil {
				t.Error(err)
			}
			if _, err := p.Take(number, everywhere, 8080, 8080, Keeper{Known: []uint64{known[0] + 1<<20, 0}}); !errors.Is(err, ErrTaken) {
				t.Errorf("%s: another cookie: %v", network, err)
			}
		})
	}
}

func TestFurtherUpIsNotTheCaller(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		pids := startFamily(t, n, 3, "VSWITCH_TEST_AT=tcp4 0.0.0.0:22")
		for i, caller := range pids {
			_, err := p.Take(tcp, everywhere, 22, 22, Keeper{Caller: caller})
			if want := i == 1 || i == 2; (err == nil) != want {
				t.Errorf("who listens is %d up: %v", i, err)
			} else if want {
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// conmon holds what podman has left to it, and its child is the container.
func TestAKeeperIsKnownByItsChild(t *testing.T) {
	inHost(t, Config{}, func(n *netlab.NS, p *Ports) {
		pod, other := labtest.New(t, "pod"), labtest.New(t, "other")
		id := func(ns *netlab.NS) [2]uint64 {
			var st unix.Stat_t
			if err := unix.Stat(ns.Path(), &st); err != nil {
				t.Fatal(err)
			}
			return [2]uint64{st.Dev, st.Ino}
		}
		startFamily(t, n, 1, "VSWITCH_TEST_AT=tcp4 0.0.0.0:8080", "VSWITCH_TEST_NS="+pod.Path())
		startFamily(t, n, 2, "VSWITCH_TEST_AT=tcp4 0.0.0.0:8081", "VSWITCH_TEST_NS="+pod.Path())
		if _, err := p.Take(tcp, everywhere, 8080, 8080, Keeper{Netns: id(other)}); !errors.Is(err, ErrTaken) {
			t.Errorf("a child in another namespace: %v", err)
		}
		if _, err := p.Take(tcp, everywhere, 8081, 8081, Keeper{Netns: id(pod)}); !errors.Is(err, ErrTaken) {
			t.Errorf("a grandchild: %v", err)
		}
		h, err := p.Take(tcp, everywhere, 8080, 8080, Keeper{Netns: id(pod)})
		if err != nil || len(h.Kept()) != 1 {
			t.Errorf("a child in the namespace: %v", err)
		}
	})
}

// Pid 1 listens for services that it starts when somebody comes, and everything ends up its
// child. In a namespace of its own the test can be that.
func TestPid1IsNobodysCaller(t *testing.T) {
	n := labtest.New(t, "host")
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), programEnv+"=init", "VSWITCH_TEST_NS="+n.Path())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	var out []byte
	if err := n.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got, want := strings.TrimSpace(string(out)), "as a parent: port is taken\nby a child: port is taken"; got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}

// beInit is pid 1: it listens, and its child asks.
func beInit() int {
	err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, ""))
	if err == nil && os.Getpid() == 1 {
		var l net.Listener
		if l, err = net.Listen("tcp4", "0.0.0.0:8080"); err == nil {
			defer l.Close()
			cmd := exec.Command("/proc/self/exe")
			cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdout, os.Stderr, os.Environ()
			err = cmd.Run()
		}
		if err == nil {
			return 0
		}
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	h, err := host.New()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer h.Close()
	p := New(h, Config{})
	var st unix.Stat_t
	_ = unix.Stat("/proc/self/ns/net", &st)
	for _, c := range []struct {
		what string
		k    Keeper
	}{{"as a parent", Keeper{Caller: os.Getpid()}}, {"by a child", Keeper{Netns: [2]uint64{st.Dev, st.Ino}}}} {
		_, err := p.Take(tcp, netip.Addr{}, 8080, 8080, c.k)
		if errors.Is(err, ErrTaken) {
			err = ErrTaken
		}
		fmt.Printf("%s: %v\n", c.what, err)
	}
	return 0
}

func TestParentOf(t *testing.T) {
	if got := parentOf(os.Getpid()); got != os.Getppid() {
		t.Errorf("parent %d, want %d", got, os.Getppid())
	}
	if got := parentOf(0) + parentOf(-1) + parentOf(1<<30); got != 0 {
		t.Errorf("parent of nobody: %d", got)
	}
	// A command with blanks and parentheses in its name.
	dir := t.TempDir()
	exe := filepath.Join(dir, "a) S 1 (b")
	if err := os.Symlink("/proc/self/exe", exe); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), programEnv+"=family 0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if got := parentOf(cmd.Process.Pid); got != os.Getpid() {
		t.Errorf("parent %d, want %d", got, os.Getpid())
	}
	in.Close()
	_ = cmd.Wait()
}
