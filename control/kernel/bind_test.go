package kernel

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// countedPorts are the UDP ports that the hooks have counted sockets at, of IPv4 and of IPv6.
func countedPorts(t *testing.T, k *Kernel) map[int][2]int32 {
	t.Helper()
	ports := make(map[int][2]int32)
	for p := range k.bound.sockets[0] {
		if n := [2]int32{k.bound.sockets[0][p], k.bound.sockets[1][p]}; n != [2]int32{} {
			ports[p] = n
		}
	}
	return ports
}

// TestBinds: the hooks count the sockets of one namespace from bind to release, of UDP and
// where packets from outside reach them, and none of ours.
func TestBinds(t *testing.T) {
	k := open(t)
	cgroup := labtest.Cgroup(t)
	w := labtest.NewWorld(t)
	err := w.Host.Do(func() error { return k.WatchBinds(cgroup) })
	if err != nil {
		t.Fatal(err)
	}
	if !k.WatchesBinds() {
		t.Error("nobody watches")
	}
	port := func(c net.PacketConn) int { return c.LocalAddr().(*net.UDPAddr).Port }
	bind := func(n *netlab.NS, network, addr string) net.PacketConn {
		t.Helper()
		c, err := n.ListenPacket(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, tc := range []struct {
		network, addr string
		counts        [2]int32
	}{
		{"udp4", "0.0.0.0:0", [2]int32{1, 0}}, {"udp4", "0.0.0.0:7001", [2]int32{1, 0}}, {"udp4", netlab.HostAddr + ":7002", [2]int32{1, 0}},
		{"udp4", "127.0.0.1:7003", [2]int32{}}, {"udp4", "127.255.0.1:7007", [2]int32{}},
		{"udp", ":7005", [2]int32{1, 1}}, {"udp6", "[::1]:7006", [2]int32{}}, {"udp6", "[" + netlab.HostAddr6 + "]:7008", [2]int32{0, 1}},
	} {
		c := bind(w.Host, tc.network, tc.addr)
		if got := countedPorts(t, k)[port(c)]; got != tc.counts {
			t.Errorf("%s %s: counted %v, want %v", tc.network, tc.addr, got, tc.counts)
		}
		c.Close()
		if n := len(countedPorts(t, k)); n != 0 {
			t.Errorf("%s %s: %d ports are counted after its release", tc.network, tc.addr, n)
		}
	}

	elsewhere := bind(w.Outside, "udp4", "0.0.0.0:7001")
	defer elsewhere.Close()
	l, err := w.Host.Listen("tcp4", ":7001")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := countedPorts(t, k); len(got) != 0 {
		t.Errorf("another namespace or protocol is counted: %v", got)
	}
	outside, err := w.Outside.Listen("tcp4", ":7002")
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	if k.bound.tcp[7001] != 1 || k.bound.tcp[7002] != 0 {
		t.Errorf("of TCP, port 7001 of the host is noted %d and one of another namespace %d, want 1 and 0", k.bound.tcp[7001], k.bound.tcp[7002])
	}

	// Two sockets of one port, of which one changes its address meanwhile.
	var fds [2]int
	for i := range fds {
		err := w.Host.Do(func() (err error) {
			if fds[i], err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
				err = unix.SetsockoptInt(fds[i], unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}
			if err == nil {
				err = unix.Bind(fds[i], &unix.SockaddrInet4{Port: 7010})
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Connect(fds[0], &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	for want := int32(2); want > 0; want-- {
		if got := countedPorts(t, k)[7010]; got != [2]int32{want} {
			t.Errorf("%d sockets are counted, want %d", got, want)
		}
		unix.Close(fds[want-1])
	}
	if got := countedPorts(t, k); len(got) != 0 {
		t.Errorf("left: %v", got)
	}

	// A socket of ours, and one that its first packet binds: no hook sees that.
	for _, typ := range []int{unix.SOCK_DGRAM, unix.SOCK_STREAM} {
		err = w.Host.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := k.Own(fd); err != nil {
				return err
			}
			return unix.Bind(fd, &unix.SockaddrInet4{Port: 7011})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if k.bound.tcp[7011] != 0 {
		t.Error("a TCP socket of ours is noted")
	}
	c, err := w.Host.Dial("udp4", netlab.OutsideAddr+":9", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := countedPorts(t, k); len(got) != 0 {
		t.Errorf("a socket of ours, or one that nobody bound, is counted: %v", got)
	}
}

// TestBindsOfTheKernel: a socket that the kernel makes for itself is never counted, for no
// hook hears of its release.
func TestBindsOfTheKernel(t *testing.T) {
	k := open(t)
	cgroup := labtest.Cgroup(t)
	w := labtest.NewWorld(t)
	if err := w.Host.Do(func() error { return k.WatchBinds(cgroup) }); err != nil {
		t.Fatal(err)
	}
	const port = 7777
	for range 2 {
		err := w.Host.Do(func() error {
			vx := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx"}, VxlanId: 1, Port: port, SrcAddr: net.ParseIP(netlab.HostAddr)}
			if err := netlink.LinkAdd(vx); err != nil {
				return err
			}
			if err := netlink.LinkSetUp(vx); err != nil {
				return err
			}
			// The tunnel holds its port, or the test shows nothing.
			if c, err := net.ListenPacket("udp4", ":7777"); err == nil {
				c.Close()
				return errors.New("the tunnel holds no port")
			}
			if got := countedPorts(t, k); len(got) != 0 {
				t.Errorf("the kernel's own socket is counted: %v", got)
			}
			return netlink.LinkDel(vx)
		})
		if errors.Is(err, unix.EOPNOTSUPP) {
			labtest.Skip(t, "this kernel has no vxlan: "+err.Error())
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := countedPorts(t, k); len(got) != 0 {
			t.Errorf("left by a tunnel: %v", got)
		}
	}
	c, err := w.Host.ListenPacket("udp4", ":7777")
	if err != nil {
		t.Fatal(err)
	}
	if got := countedPorts(t, k)[port]; got != [2]int32{1, 0} {
		t.Errorf("a program's socket is counted %v, want once", got)
	}
	c.Close()
	if got := countedPorts(t, k); len(got) != 0 {
		t.Errorf("left by a program: %v", got)
	}
}

// TestBindsHalfWay: where the last hook cannot be hung up, none is left, and no
// count of the others either.
func TestBindsHalfWay(t *testing.T) {
	k := open(t)
	cgroup := labtest.Cgroup(t)
	w := labtest.NewWorld(t)
	spec := k.spec.Programs[programsProgVswBound6]
	spec.Type = ebpf.SocketFilter // no hook takes it
	k.bound.sockets[0][7001], k.bound.sockets[1][7002] = 1, 3
	if err := w.Host.Do(func() error { return k.WatchBinds(cgroup) }); err == nil {
		t.Fatal("a hook of another type is hung up")
	}
	if got := countedPorts(t, k); k.WatchesBinds() || len(got) != 0 {
		t.Errorf("after the error: watches %v, counted %v", k.WatchesBinds(), got)
	}
}

// TestBindsElsewhere: where there is no cgroup2 the error says so, and nothing is hung up.
func TestBindsElsewhere(t *testing.T) {
	k := open(t)
	for _, dir := range []string{t.TempDir(), filepath.Join(t.TempDir(), "none")} {
		if err := k.WatchBinds(dir); err == nil {
			t.Errorf("%s has hooks", dir)
		}
	}
	if k.WatchesBinds() {
		t.Error("somebody watches")
	}
	if err := k.Own(int(os.Stdin.Fd())); err != nil {
		t.Error(err)
	}
}

// TestRecount: the list of sockets puts right what the hooks have not heard, sockets from before
// them as well, and never against what they hear meanwhile.
func TestRecount(t *testing.T) {
	k := open(t)
	cgroup := labtest.Cgroup(t)
	w := labtest.NewWorld(t)
	bind := func(addr string) net.PacketConn {
		t.Helper()
		c, err := w.Host.ListenPacket("udp4", addr)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	recount := func(meanwhile func(), listed ...string) []netip.AddrPort {
		t.Helper()
		held, err := k.Recount(func() (list []netip.AddrPort, err error) {
			for _, a := range listed {
				list = append(list, netip.MustParseAddrPort(a))
			}
			meanwhile()
			return list, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return held
	}
	nothing := func() {}
	old := bind(":7001")
	defer old.Close()
	if err := w.Host.Do(func() error { return k.WatchBinds(cgroup) }); err != nil {
		t.Fatal(err)
	}
	const before, here = "0.0.0.0:7001", "0.0.0.0:7002"
	c := bind(":7002")
	defer c.Close()
	want := func(ports map[int][2]int32) {
		t.Helper()
		if got := countedPorts(t, k); !maps.Equal(got, ports) {
			t.Errorf("counted %v, want %v", got, ports)
		}
	}
	want(map[int][2]int32{7002: {1, 0}})
	for range 2 {
		recount(nothing, before, here)
	}
	want(map[int][2]int32{7001: {1, 0}, 7002: {1, 0}})

	// A second socket of the port comes between two readings, or while one is under way.
	var more []net.PacketConn
	another := func() { more = append(more, bind(netlab.HostAddr+":7003")) }
	for range 3 {
		recount(another, before, here)
		more[len(more)-1].Close()
	}
	recount(another, before, here)
	recount(nothing, before, here, netlab.HostAddr+":7003")
	want(map[int][2]int32{7001: {1, 0}, 7002: {1, 0}, 7003: {1, 0}})
	more[len(more)-1].Close()

	// The kernel chose the port, which goes with the connection; the release comes later.
	err := w.Host.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{}); err != nil {
			return err
		}
		a, err := unix.Getsockname(fd)
		if err != nil {
			return err
		}
		port := a.(*unix.SockaddrInet4).Port
		// connect(2): AF_UNSPEC dissolves the association.
		if _, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unix.RawSockaddr{Family: unix.AF_UNSPEC})), unix.SizeofSockaddrInet4); errno != 0 {
			return errno
		}
		want(map[int][2]int32{7001: {1, 0}, 7002: {1, 0}, port: {1, 0}})
		if held := recount(nothing, before, here); !slices.Equal(held, []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port))}) {
			t.Errorf("held are %v, want %d", held, port)
		}
		if held := recount(nothing, before, here); len(held) != 0 {
			t.Errorf("held are %v", held)
		}
		want(map[int][2]int32{7001: {1, 0}, 7002: {1, 0}})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	old.Close()
	for range 2 {
		recount(nothing, here)
	}
	want(map[int][2]int32{7002: {1, 0}})

	six := map[int][2]int32{7002: {1, 0}, 7010: {1, 1}, 7011: {0, 1}, 7012: {1, 0}}
	for range 2 {
		recount(nothing, here, "[::]:7010", "["+netlab.HostAddr6+"]:7011", "[::ffff:"+netlab.HostAddr+"]:7012", "[::1]:7013", "127.0.0.1:7014")
	}
	want(six)
}
