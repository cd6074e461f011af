package netlab_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) { labtest.Main(m) }

func TestTestRunsInItsOwnNamespaces(t *testing.T) {
	labtest.Need(t)
	ifs, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range ifs {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			t.Errorf("interface %s is up in the namespace of the tests", i.Name)
		}
	}
	var st unix.Statfs_t
	if err := unix.Statfs("/run", &st); err != nil || st.Type != unix.TMPFS_MAGIC {
		t.Errorf("/run: type %#x, err %v, want a tmpfs", st.Type, err)
	}
}

func TestWorldCarriesBothFamilies(t *testing.T) {
	w := labtest.NewWorld(t)
	for _, addr := range []string{netlab.OutsideAddr, netlab.FarAddr, netlab.OutsideAddr6, netlab.FarAddr6} {
		t.Run(addr, func(t *testing.T) {
			l, err := w.Outside.Listen("tcp", net.JoinHostPort(addr, "7"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				if c, err := l.Accept(); err == nil {
					io.Copy(c, c)
					c.Close()
				}
			}()
			c, err := w.Host.Dial("tcp", l.Addr().String(), 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.Write([]byte("hello"))
			c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); string(got) != "hello" {
				t.Errorf("got %q, %v, want the echo", got, err)
			}
		})
	}
	l, err := w.Outside.Dial("udp", "10.1.2.3:9", time.Second)
	if err == nil {
		l.Close()
	}
	if !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("outside reaches 10.1.2.3: got %v, want %v", err, unix.ENETUNREACH)
	}
}

func TestDoLeavesNoThreadBehind(t *testing.T) {
	n := labtest.New(t, "a")
	home, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	want := errors.New("from within")
	var within string
	err = n.Do(func() error {
		within, _ = os.Readlink("/proc/thread-self/ns/net")
		return want
	})
	if err != want {
		t.Errorf("Do: got %v, want what fn returned", err)
	}
	if within == home || within == "" {
		t.Errorf("fn ran in %q, home is %q", within, home)
	}
	func() { // as t.FailNow does it
		defer func() { recover() }()
		n.Do(func() error { panic("leave") })
	}()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, th := range threads {
		ns, err := os.Readlink("/proc/self/task/" + th.Name() + "/ns/net")
		if err == nil && ns != home {
			t.Errorf("thread %s is in %s, want %s", th.Name(), ns, home)
		}
	}
}

func TestCommandAndStart(t *testing.T) {
	n := labtest.New(t, "a")
	for name, run := range map[string]func() ([]byte, error){
		"Command": func() ([]byte, error) { return n.Command("readlink", "/proc/self/ns/net").Output() },
		"Start": func() ([]byte, error) {
			cmd := exec.Command("readlink", "/proc/self/ns/net")
			var out bytes.Buffer
			cmd.Stdout = &out
			if err := n.Start(cmd); err != nil {
				return nil, err
			}
			err := cmd.Wait()
			return out.Bytes(), err
		},
	} {
		out, err := run()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var want string
		n.Do(func() error {
			want, err = os.Readlink("/proc/thread-self/ns/net")
			return err
		})
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("%s ran in %s, want %s", name, got, want)
		}
	}
}

func TestLinksAndErrors(t *testing.T) {
	a, b := labtest.New(t, "a"), labtest.New(t, "b")
	if err := netlab.Veth(a, "left", b, "right", 9000); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		n    *netlab.NS
		want string
	}{{a, "left"}, {b, "right"}} {
		got, err := c.n.Links()
		if err != nil || !slices.Contains(got, c.want) {
			t.Errorf("links of %s: got %v, %v, want %s among them", c.n.Name(), got, err, c.want)
		}
	}
	err := a.SetUp("nope")
	if err == nil || !strings.HasPrefix(err.Error(), "namespace a: nope: set up: ") {
		t.Errorf("got %v, want an error that names namespace and device", err)
	}
	if err := a.Sysctl("ipv4.conf.left.arp_ignore", "1"); err != nil {
		t.Error(err)
	}
	if err := a.DelLink("left"); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.Links(); slices.Contains(got, "right") {
		t.Error("the other end of a deleted veth is still there")
	}
}

func TestCloseLeaksNothing(t *testing.T) {
	labtest.Need(t)
	count := func() int {
		d, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := count()
	for range 5 {
		w, err := netlab.NewWorld()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
