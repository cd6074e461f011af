package kernel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// led is a host with a container behind a veth, whose server on port 80 says by whom it is asked, and
// the ports 8080 of TCP and UDP that lead there.
type ledLab struct {
	*netlab.World
	t         *testing.T
	cgroup    string
	container *netlab.NS
	k         *Kernel
	c         *Connects
}

const (
	ledTo4, ledTo6 = "10.1.0.2", "fd00:1::2"
	ledGw4, ledGw6 = "10.1.0.1", "fd00:1::1"
)

func newLedLab(t *testing.T, keep Keeper) *ledLab {
	l := &ledLab{t: t, k: open(t), cgroup: labtest.Cgroup(t), World: labtest.NewWorld(t), container: labtest.New(t, "container")}
	for _, err := range []error{
		netlab.Veth(l.Host, "c0", l.container, "eth0", 1500),
		l.Host.AddAddr("c0", ledGw4+"/24"), l.Host.AddAddr("c0", ledGw6+"/64"), l.Host.SetUp("c0"),
		l.container.AddAddr("eth0", ledTo4+"/24"), l.container.AddAddr("eth0", ledTo6+"/64"), l.container.SetUp("eth0"),
		l.container.AddRoute("default", ledGw4, "eth0"), l.container.AddRoute("default", ledGw6, "eth0"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []string{ledTo4, ledTo6, netlab.HostAddr6} {
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			_, err := l.Host.Dial("tcp", net.JoinHostPort(a, "1"), time.Second)
			if errors.Is(err, unix.ECONNREFUSED) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v", a, err)
			}
		}
	}
	l.serve(80)
	l.lead(keep)
	return l
}

// lead hangs the hooks up and leads the ports.
func (l *ledLab) lead(keep Keeper) {
	l.t.Helper()
	err := l.Host.Do(func() (err error) {
		l.c, err = l.k.LeadConnects(l.cgroup, keep)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	c := l.c
	l.t.Cleanup(func() { c.Close(false) })
	if _, err := l.c.Set(l.own(), ledWays(80)); err != nil {
		l.t.Fatal(err)
	}
}

func (l *ledLab) own() (list []netip.Addr) {
	for _, a := range []string{netlab.HostAddr, netlab.HostAddr6, ledGw4, ledGw6} {
		list = append(list, netip.MustParseAddr(a))
	}
	return list
}

func ledWays(port uint16) (list []Way) {
	for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
		list = append(list,
			Way{proto, netip.IPv4Unspecified(), 8080, 8080, netip.AddrPortFrom(netip.MustParseAddr(ledTo4), port)},
			Way{proto, netip.IPv6Unspecified(), 8080, 8080, netip.AddrPortFrom(netip.MustParseAddr(ledTo6), port)})
	}
	return list
}

// serve answers each connection and datagram to a port of the container with the address of who asks.
func (l *ledLab) serve(port int) {
	l.t.Helper()
	ln, err := l.container.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		l.t.Fatal(err)
	}
	p, err := l.container.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { ln.Close(); p.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, asker(c.RemoteAddr()))
			c.Close()
		}
	}()
	go func() {
		for b := make([]byte, 100); ; {
			_, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			p.WriteTo([]byte(asker(from)), from)
		}
	}()
}

func asker(a net.Addr) string {
	ap := netip.MustParseAddrPort(a.String())
	return ap.Addr().Unmap().WithZone("").String()
}

// dialFrom connects from the host; from is an address that the socket is bound to, "" for none.
func (l *ledLab) dialFrom(n *netlab.NS, network, from, to string, control func(fd int) error) (c net.Conn, err error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	d.SetMultipathTCP(false)
	d.FallbackDelay = -1
	if control != nil {
		d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			if e := raw.Control(func(fd uintptr) { err = control(int(fd)) }); e != nil {
				return e
			}
			return err
		}
	}
	if from != "" {
		ip := net.ParseIP(from)
		if d.LocalAddr = net.Addr(&net.TCPAddr{IP: ip}); strings.HasPrefix(network, "udp") {
			d.LocalAddr = &net.UDPAddr{IP: ip}
		}
	}
	err = n.Do(func() error {
		c, err = d.Dial(network, to)
		return err
	})
	if err == nil {
		l.t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(5 * time.Second))
	}
	return c, err
}

// answered is what a connection is answered.
func answered(c net.Conn) (string, error) {
	if _, ok := c.(*net.UDPConn); ok {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	return string(b[:n]), err
}

// socket is one of the host with a time-out.
func (l *ledLab) socket(family, typ int) (fd int) {
	l.t.Helper()
	err := l.Host.Do(func() (err error) {
		fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err == nil {
		l.t.Cleanup(func() { unix.Close(fd) })
		err = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return fd
}

// endOf is an address and port as people write it.
func endOf(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String()
	}
	return ""
}

// asks sends a datagram by a socket that is not connected, and returns who answers and what.
func (l *ledLab) asks(fd int, to string) (from, answer string) {
	l.t.Helper()
	ap := netip.MustParseAddrPort(to)
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(ap.Port())}
	if v6, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); v6 == unix.AF_INET6 {
		sa = &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	} else {
		sa.(*unix.SockaddrInet4).Addr = ap.Addr().As4()
	}
	if err := unix.Sendto(fd, []byte("?"), 0, sa); err != nil {
		l.t.Fatal(err)
	}
	b := make([]byte, 100)
	n, at, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return "", err.Error()
	}
	return endOf(at), string(b[:n])
}

// kept is a keeper.
type kept map[string]struct {
	fd    int
	value string
}

func (k kept) Take(name string) (int, string, bool) {
	it, ok := k[name]
	if !ok {
		return -1, "", false
	}
	fd, err := unix.FcntlInt(uintptr(it.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, it.value, err == nil
}

func (k kept) Put(name string, fd int, value string) error {
	k.Drop(name)
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	it := k[name]
	it.fd, it.value = own, value
	k[name] = it
	return err
}

func (k kept) Drop(name string) {
	if it, ok := k[name]; ok {
		unix.Close(it.fd)
		delete(k, name)
	}
}

// attachAlone makes a cgroup below one, at which a program is that allows no other below it.
func attachAlone(t *testing.T, cgroup string) (below string) {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.CGroupSockAddr, AttachType: ebpf.AttachCGroupInet4Connect, License: "GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	dir, err := os.Open(cgroup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	at := link.RawAttachProgramOptions{Target: int(dir.Fd()), Program: p, Attach: ebpf.AttachCGroupInet4Connect}
	if err := link.RawAttachProgram(at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := link.RawDetachProgram(link.RawDetachProgramOptions{Target: at.Target, Program: p, Attach: at.Attach}); err != nil {
			t.Error(err)
		}
	})
	below = filepath.Join(cgroup, "below")
	if err := os.Mkdir(below, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.Remove(below); err != nil {
			t.Error(err)
		}
	})
	return below
}
