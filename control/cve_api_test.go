package control

import (
	"bufio"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// No port of the host or of the gateway speaks the interface to a container: it
// is a path socket and nothing else (CVE-2021-4024).
func TestC15NoAPIForContainers(t *testing.T) {
	r := newRig(t)
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	listeners := listening(t, r.world.Host)
	if len(listeners) == 0 {
		t.Fatal("no listening socket on the host: the relay has some")
	}
	ports := map[int]bool{80: true, 443: true, 2375: true, 7777: true, 8080: true}
	for _, l := range listeners {
		ports[l] = true
	}
	for port := range ports {
		for _, host := range []string{"10.88.0.1", netlab.HostAddr} {
			at := net.JoinHostPort(host, strconv.Itoa(port))
			c, err := web.Dial("tcp", at, 200*time.Millisecond)
			if err != nil {
				continue
			}
			fmt.Fprintf(c, "GET /v1/info HTTP/1.1\r\nHost: vswitch\r\n\r\n")
			c.SetDeadline(time.Now().Add(200 * time.Millisecond))
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
				t.Errorf("%s answers a request for the interface: %s", at, resp.Status)
			}
			c.Close()
		}
	}
}

// listening are the ports of TCP listeners in a namespace.
func listening(t *testing.T, ns *netlab.NS) (ports []int) {
	t.Helper()
	for _, file := range []string{"tcp", "tcp6"} {
		for _, line := range netFile(t, ns, file)[1:] {
			f := strings.Fields(line)
			if len(f) < 4 || f[3] != "0A" { // TCP_LISTEN
				continue
			}
			_, port, _ := strings.Cut(f[1], ":")
			n, err := strconv.ParseUint(port, 16, 16)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, int(n))
		}
	}
	return ports
}

// netFile reads /proc/net/FILE as a namespace has it.
func netFile(t *testing.T, ns *netlab.NS, file string) (lines []string) {
	t.Helper()
	err := ns.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		lines = strings.Split(strings.TrimSpace(string(b)), "\n")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// The daemon has no abstract socket, which any process of its network namespace
// could open; its path socket is for its owner and group (CVE-2020-15257).
func TestC16NoAbstractSocket(t *testing.T) {
	r := newRig(t)
	r.start()
	r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	seen := false
	for _, line := range netFile(t, r.world.Host, "unix")[1:] {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		if strings.HasPrefix(f[7], "@") {
			t.Errorf("abstract socket %s", f[7])
		}
		seen = seen || f[7] == filepath.Join(r.cfg.RunDir, socketName)
	}
	if !seen {
		t.Error("the daemon's socket is not in the list: it proves nothing")
	}
	for path, want := range map[string]fs.FileMode{
		r.cfg.RunDir: fs.ModeDir | 0o750, filepath.Join(r.cfg.RunDir, socketName): fs.ModeSocket | 0o660,
	} {
		if fi, err := os.Stat(path); err != nil || fi.Mode() != want {
			t.Errorf("%s: %v, %v, want %v", path, fi.Mode(), err, want)
		}
	}
}

// Every descriptor of the daemon but the standard ones closes when it starts a
// program (CVE-2024-21626).
func TestC19DescriptorsCloseOnExec(t *testing.T) {
	r := newRig(t)
	r.start()
	for i := range 20 {
		r.attach(fmt.Sprintf("c%d", i), api.Attach{Publish: []string{fmt.Sprintf("%d:80", 8000+i)}})
	}
	dir := fmt.Sprintf("/proc/%d/fdinfo", r.cmd.Process.Pid)
	fds, err := os.ReadDir(dir)
	if err != nil || len(fds) < 40 {
		t.Fatalf("%d descriptors, %v", len(fds), err)
	}
	for _, fd := range fds {
		b, err := os.ReadFile(filepath.Join(dir, fd.Name()))
		if n, _ := strconv.Atoi(fd.Name()); err != nil || n <= 2 {
			continue
		}
		for _, line := range strings.Split(string(b), "\n") {
			text, ok := strings.CutPrefix(line, "flags:\t")
			if flags, err := strconv.ParseUint(text, 8, 64); ok && (err != nil || flags&syscall.O_CLOEXEC == 0) {
				what, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", r.cmd.Process.Pid, fd.Name()))
				if ours, _ := os.Readlink("/proc/self/fd/" + fd.Name()); ours == what {
					continue // whoever started the tests left it open to all of us
				}
				t.Errorf("descriptor %s (%s) outlives exec", fd.Name(), what)
			}
		}
	}
}

// A container without capabilities, CAP_NET_RAW above all, has a whole network:
// out, in, to its peers and to the host (CVE-2020-14386).
func TestC42WithoutCapabilities(t *testing.T) {
	r := newRig(t)
	r.start()
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:8000"}})
	db, _ := r.attach("db", api.Attach{})
	serve(t, r.world.Outside, ":9000", "outside")
	serve(t, r.world.Host, ":7000", "host")
	serve(t, db, ":80", "db")
	bare := func(fn func() error) {
		t.Helper()
		done := make(chan error, 1)
		go func() {
			done <- web.Do(func() error {
				if err := dropCapabilities(); err != nil {
					return err
				}
				defer restoreCapabilities()
				if fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW, 0); err == nil {
					syscall.Close(fd)
					t.Error("a raw socket without CAP_NET_RAW")
				}
				return fn()
			})
		}()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	dial := func(at string) func() error {
		return func() error {
			c, err := net.DialTimeout("tcp", at, 10*time.Second)
			if err == nil {
				c.Close()
			}
			return err
		}
	}
	bare(dial(netlab.OutsideAddr + ":9000"))
	bare(dial("10.88.0.1:7000"))
	bare(dial("10.88.0.3:80"))
	var l net.Listener
	bare(func() (err error) { l, err = net.Listen("tcp4", ":8000"); return err })
	if l == nil {
		return
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "web %s", c.RemoteAddr())
			c.Close()
		}
	}()
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
	wantFetch(t, db, addr(ct)+":8000", "web", "")
}

// capHeader and capData are struct __user_cap_header_struct, version 3, and two
// of __user_cap_data_struct (capabilities(7)).
type capHeader struct {
	version uint32
	pid     int32
}
type capData [2]struct{ effective, permitted, inheritable uint32 }

var savedCapabilities capData

// dropCapabilities takes the effective ones off the calling thread.
func dropCapabilities() error {
	h := capHeader{version: 0x20080522}
	if _, _, e := syscall.RawSyscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&savedCapabilities)), 0); e != 0 {
		return e
	}
	none := savedCapabilities
	none[0].effective, none[1].effective = 0, 0
	return setCapabilities(none)
}

func restoreCapabilities() { setCapabilities(savedCapabilities) }

func setCapabilities(d capData) error {
	h := capHeader{version: 0x20080522}
	if _, _, e := syscall.RawSyscall(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&h)), uintptr(unsafe.Pointer(&d)), 0); e != 0 {
		return e
	}
	return nil
}
