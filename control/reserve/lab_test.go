package reserve

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

const (
	tcp = header.ProtoTCP
	udp = header.ProtoUDP
)

var everywhere netip.Addr

// programEnv makes the test binary a program that holds a port: "network address".
const programEnv = "VSWITCH_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if what := os.Getenv(programEnv); what != "" {
		os.Exit(program(what))
	}
	labtest.Enter()
	goleak.VerifyTestMain(m)
}

func program(what string) int {
	if what == "init" {
		return beInit()
	}
	if n, ok := strings.CutPrefix(what, "family "); ok {
		return family(n)
	}
	network, addr, _ := strings.Cut(what, " ")
	var closer io.Closer
	var err error
	switch {
	case network == "dial": // a client of port 9000 that chose its own port
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)), Timeout: 20 * time.Second}
		closer, err = d.Dial("tcp4", "127.0.0.1:9000")
	case strings.HasPrefix(network, "udp"):
		closer, err = net.ListenPacket(network, addr)
	default:
		closer, err = net.Listen(network, addr)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends
	closer.Close()
	return 0
}

// start runs a program that holds a port in n until stop, and returns its pid.
func start(t testing.TB, n *netlab.NS, network, addr string) (pid int, stop func()) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), programEnv+"="+network+" "+addr)
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
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			in.Close()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("program on %s %s: %s", network, addr, line)
	}
	return cmd.Process.Pid, stop
}

// inHost runs fn with an empty Ports, on a thread in a fresh namespace.
func inHost(t testing.TB, cfg Config, fn func(n *netlab.NS, p *Ports)) {
	t.Helper()
	// The runtime's own descriptors for its poller come with the first pipe.
	if r, w, err := os.Pipe(); err == nil {
		r.Close()
		w.Close()
	}
	before := openFDs(t)
	t.Cleanup(func() { // after all others
		if got := openFDs(t); got > before {
			t.Errorf("%d descriptors are open, %d before", got, before)
		}
	})
	n := labtest.New(t, "host")
	for _, cidr := range []string{"198.51.100.1/24", "2001:db8::1/64"} {
		if err := n.AddAddr("lo", cidr); err != nil {
			t.Fatal(err)
		}
	}
	err := n.Do(func() error {
		h, err := host.New()
		if err != nil {
			return err
		}
		defer h.Close()
		p := New(h, cfg)
		fn(n, p)
		return p.Close()
	})
	if err != nil {
		t.Fatal(err)
	}
}

func openFDs(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// listen does what a server does, with the given socket options set.
func listen(proto uint8, addr netip.Addr, port uint16, opts []int) error {
	fd, err := listener(proto, addr, port, opts)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func listener(proto uint8, addr netip.Addr, port uint16, opts []int) (int, error) {
	h := &Hold{proto: proto}
	family, typ := unix.AF_INET, unix.SOCK_STREAM
	if addr.Is6() {
		family = unix.AF_INET6
	}
	if proto == udp {
		typ = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, int(h.proto))
	if err != nil {
		return -1, err
	}
	for _, o := range opts {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_SOCKET, o, 1))
	}
	if err == nil {
		err = unix.Bind(fd, sockaddr(addr, port))
	}
	if err == nil && proto == tcp {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// leaveTimeWait serves one connection and closes it first.
func leaveTimeWait(t testing.TB, addr string) {
	t.Helper()
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	d := net.Dialer{Timeout: 20 * time.Second}
	d.SetMultipathTCP(false)
	c, err := d.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	_, _ = io.Copy(io.Discard, c)
	c.Close()
	l.Close()
}

// timeWait counts what is left of connections at a port.
func timeWait(t testing.TB, p *Ports, port uint16) (n int) {
	t.Helper()
	list, err := p.host.Connections()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		if s.Port == port {
			n++
		}
	}
	return n
}
