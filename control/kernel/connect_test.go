package kernel

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestLedConnections: what a program of the host connects to a published port arrives at the container, from the
// gateway or from the address that the socket is bound to, and the program sees the address
// that it asked for.
func TestLedConnections(t *testing.T) {
	l := newLedLab(t, nil)
	for _, network := range []string{"tcp", "udp"} {
		for _, tc := range []struct{ from, to, asker, peer string }{
			{"", "127.0.0.1", ledGw4, ""}, {"", "127.9.9.9", ledGw4, ""}, {"", netlab.HostAddr, ledGw4, ""}, {"", ledGw4, ledGw4, ""},
			{"", "0.0.0.0", ledGw4, "127.0.0.1"}, {"", "::1", ledGw6, ""}, {"", netlab.HostAddr6, ledGw6, ""}, {"", ledGw6, ledGw6, ""},
			{"", "::", ledGw6, "::1"},
			{netlab.HostAddr, "127.0.0.1", netlab.HostAddr, ""}, {netlab.HostAddr, netlab.HostAddr, netlab.HostAddr, ""},
			{netlab.HostAddr6, "::1", netlab.HostAddr6, ""}, {netlab.HostAddr6, netlab.HostAddr6, netlab.HostAddr6, ""},
		} {
			before, _ := l.c.Led()
			c, err := l.dialFrom(l.Host, network, tc.from, net.JoinHostPort(tc.to, "8080"), nil)
			if err != nil {
				t.Errorf("%s from %q to %s: %v", network, tc.from, tc.to, err)
				continue
			}
			if tc.peer == "" {
				tc.peer = tc.to
			}
			if got := c.RemoteAddr().String(); got != net.JoinHostPort(tc.peer, "8080") {
				t.Errorf("%s from %q to %s: the peer is %s", network, tc.from, tc.to, got)
			}
			if got, err := answered(c); got != tc.asker || err != nil {
				t.Errorf("%s from %q to %s: asked by %q, %v, want %q", network, tc.from, tc.to, got, err, tc.asker)
			}
			if n, _ := l.c.Led(); n != before+1 {
				t.Errorf("%s from %q to %s: counted %d", network, tc.from, tc.to, n-before)
			}
		}
	}
}

// TestLedMapped: a socket of IPv6 that asks for an IPv4 address, as those of Java do.
func TestLedMapped(t *testing.T) {
	l := newLedLab(t, nil)
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		for _, at := range []string{"127.0.0.1", netlab.HostAddr} {
			fd := l.socket(unix.AF_INET6, typ)
			to := &unix.SockaddrInet6{Port: 8080, Addr: netip.MustParseAddr(at).As16()}
			if err := unix.Connect(fd, to); err != nil {
				t.Fatal(err)
			}
			if peer, err := unix.Getpeername(fd); err != nil || endOf(peer) != endOf(to) {
				t.Errorf("type %d to %s: the peer is %s, %v", typ, at, endOf(peer), err)
			}
			if typ == unix.SOCK_DGRAM {
				if _, err := unix.Write(fd, []byte("?")); err != nil {
					t.Fatal(err)
				}
			}
			b := make([]byte, 100)
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil || string(b[:n]) != ledGw4 {
				t.Errorf("type %d to %s: asked by %q, %v", typ, at, b[:max(n, 0)], err)
			}
			if from != nil && endOf(from) != endOf(to) {
				t.Errorf("type %d to %s: the answer comes from %s", typ, at, endOf(from))
			}
		}
	}
}

// TestLedDatagrams: a UDP socket that names an end with each datagram hears the answers from whom
// it asked, and from a container itself what it asked that.
func TestLedDatagrams(t *testing.T) {
	l := newLedLab(t, nil)
	l.serve(81)
	four, six := l.socket(unix.AF_INET, unix.SOCK_DGRAM), l.socket(unix.AF_INET6, unix.SOCK_DGRAM)
	for _, tc := range []struct {
		fd                int
		to, from, answers string
	}{
		{four, "127.0.0.1:8080", "", ledGw4},
		{four, "127.0.0.1:8080", "", ledGw4},
		{four, ledTo4 + ":81", "", ledGw4},
		{four, ledTo4 + ":80", "", ledGw4}, // the container itself: last asked, so answered
		{four, netlab.HostAddr + ":8080", "", ledGw4},
		{six, "[::1]:8080", "", ledGw6},
		{six, "[" + ledTo6 + "]:80", "", ledGw6},
		{six, "[" + netlab.HostAddr6 + "]:8080", "", ledGw6},
		{six, "[::ffff:127.0.0.1]:8080", "", ledGw4},
	} {
		from, answer := l.asks(tc.fd, tc.to)
		if from != tc.to || answer != tc.answers {
			t.Errorf("to %s: %q answers %q, want %q", tc.to, from, answer, tc.answers)
		}
	}
}

// TestNotLed: what no packet of reaches a container is left to the relay, here nobody.
func TestNotLed(t *testing.T) {
	l := newLedLab(t, nil)
	elsewhere := labtest.New(t, "elsewhere")
	if err := elsewhere.SetUp("lo"); err != nil {
		t.Fatal(err)
	}
	device := func(fd int) error { return unix.SetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "lo") }
	mark := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 7) }
	for _, network := range []string{"tcp", "udp"} {
		for _, tc := range []struct {
			name     string
			in       *netlab.NS
			from, to string
			control  func(int) error
		}{
			{"bound to loopback", l.Host, "127.0.0.1", "127.0.0.1:8080", nil}, {"bound to loopback", l.Host, "::1", "[::1]:8080", nil},
			{"bound to an interface", l.Host, "", "127.0.0.1:8080", device}, {"marked", l.Host, "", "127.0.0.1:8080", mark},
			{"another port", l.Host, "", "127.0.0.1:8081", nil}, {"another namespace", elsewhere, "", "127.0.0.1:8080", nil},
		} {
			c, err := l.dialFrom(tc.in, network, tc.from, tc.to, tc.control)
			if err == nil {
				_, err = answered(c)
			}
			if !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%s, %s to %s: %v, want %v", tc.name, network, tc.to, err, unix.ECONNREFUSED)
			}
		}
	}
	if n, before := l.c.Led(); n != 0 || before {
		t.Errorf("%d sockets were led, by a process before %v", n, before)
	}

	// An address that is the host's no more.
	if _, err := l.c.Set(nil, ledWays(80)); err != nil {
		t.Fatal(err)
	}
	if _, err := l.dialFrom(l.Host, "tcp", "", netlab.HostAddr+":8080", nil); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("to an address that is nobody's: %v", err)
	}
	// A socket that asks one end and another afterwards.
	fd := l.socket(unix.AF_INET, unix.SOCK_DGRAM)
	for _, port := range []int{8080, 9} {
		to := &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
		if err := unix.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		if peer, err := unix.Getpeername(fd); err != nil || endOf(peer) != endOf(to) {
			t.Errorf("to port %d: the peer is %s, %v", port, endOf(peer), err)
		}
	}
}

// TestLedTwice: of two ends that lead to one only the first is led, and no more than the socket can
// tell apart.
func TestLedTwice(t *testing.T) {
	l := newLedLab(t, nil)
	fd := l.socket(unix.AF_INET, unix.SOCK_DGRAM)
	if from, _ := l.asks(fd, "127.0.0.1:8080"); from != "127.0.0.1:8080" {
		t.Errorf("%s answers", from)
	}
	brief := &unix.Timeval{Usec: 200_000} // for answers that do not come
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, brief); err != nil {
		t.Fatal(err)
	}
	if from, err := l.asks(fd, "127.0.0.2:8080"); from != "" {
		t.Errorf("%s answers for 127.0.0.2: %s", from, err)
	}
	ways := ledWays(80)
	for p := uint16(9000); p < 9010; p++ {
		ways = append(ways, Way{header.ProtoUDP, netip.IPv4Unspecified(), p, p, netip.AddrPortFrom(netip.MustParseAddr(ledTo4), p)})
		l.serve(int(p))
	}
	if _, err := l.c.Set(l.own(), ways); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if i == 0 || i == 7 {
			wait := map[int]*unix.Timeval{0: {Sec: 5}, 7: brief}[i]
			if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, wait); err != nil {
				t.Fatal(err)
			}
		}
		at := fmt.Sprintf("127.0.0.1:%d", 9000+i)
		from, _ := l.asks(fd, at)
		if want := map[bool]string{true: at}[i < 7]; from != want { // one of eight is there already
			t.Errorf("%s: %q answers, want %q", at, from, want)
		}
	}
}

// TestWays: an interval of ports leads where it should, to the port.
func TestWays(t *testing.T) {
	for _, w := range []Way{{First: 1, Last: 65535}, {First: 7000, Last: 7010}, {First: 80, Last: 80}, {First: 0, Last: 65535}, {First: 32767, Last: 32768}} {
		w.Addr, w.To = netip.IPv4Unspecified(), netip.MustParseAddrPort("10.1.0.2:100")
		led, rows := 0, 0
		w.each(func(k wayKey, v way) {
			rows++
			led += 1 << (160 - k.Bits)
		})
		if led != int(w.Last)-int(w.First)+1 || rows > 30 {
			t.Errorf("%d-%d: %d ports in %d rows", w.First, w.Last, led, rows)
		}
	}
	l := newLedLab(t, nil)
	l.serve(7013)
	ways := []Way{{header.ProtoTCP, netip.IPv4Unspecified(), 6000, 8000, netip.AddrPortFrom(netip.MustParseAddr(ledTo4), 6013)}}
	if _, err := l.c.Set(l.own(), ways); err != nil {
		t.Fatal(err)
	}
	c, err := l.dialFrom(l.Host, "tcp", "", "127.0.0.1:7000", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := answered(c); got != ledGw4 || err != nil {
		t.Errorf("asked by %q, %v", got, err)
	}
	if left, err := l.c.Set(l.own(), ways); len(left) > 0 || err != nil {
		t.Errorf("the same again: %v, %v", left, err)
	}
	if left, err := l.c.Set(l.own(), nil); !slices.Contains(left, netip.MustParseAddr(ledTo4)) || err != nil {
		t.Errorf("none: %v, %v", left, err)
	}
	if _, err := l.dialFrom(l.Host, "tcp", "", "127.0.0.1:7000", nil); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a port that is not published any more: %v", err)
	}
}

// TestLedGoOn: while nobody is there sockets go on where they went and see what they asked for, and
// others are left to the relay. The next process finds them.
func TestLedGoOn(t *testing.T) {
	keep := kept{}
	l := newLedLab(t, keep)
	conn, err := l.dialFrom(l.Host, "udp", "", "127.0.0.1:8080", nil)
	if err != nil {
		t.Fatal(err)
	}
	free := l.socket(unix.AF_INET, unix.SOCK_DGRAM)
	bind := func(when string) {
		t.Helper()
		b := make([]byte, 100)
		if _, err := conn.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		n, from, err := conn.(*net.UDPConn).ReadFromUDPAddrPort(b)
		if err != nil || from.String() != "127.0.0.1:8080" || string(b[:n]) != ledGw4 {
			t.Errorf("%s: %v answers %q, %v", when, from, b[:n], err)
		}
		if from, answer := l.asks(free, "127.0.0.1:8080"); from != "127.0.0.1:8080" || answer != ledGw4 {
			t.Errorf("%s: %s answers %q", when, from, answer)
		}
	}
	bind("the process is there")
	asked := maps.Clone(keep)
	l.c.Close(true)
	bind("nobody is there")
	if _, err := l.dialFrom(l.Host, "tcp", "", "127.0.0.1:8080", nil); !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("a new connection while nobody is there: %v", err)
	}
	l.lead(keep)
	bind("the next process is there")
	for _, name := range []string{"connect vsw_asked", "connect vsw_sent"} {
		if keep[name] != asked[name] {
			t.Errorf("%s is another", name)
		}
	}
	l.c.Close(false)
	if len(keep) != 0 {
		t.Errorf("kept after the end: %v", keep)
	}
}

// TestConnectRefused: where another program at a cgroup above allows no others nothing is hung up.
func TestConnectRefused(t *testing.T) {
	k, cgroup := open(t), labtest.Cgroup(t)
	w := labtest.NewWorld(t)
	alone := attachAlone(t, cgroup)
	keep := kept{}
	err := w.Host.Do(func() error {
		c, err := k.LeadConnects(alone, keep)
		if err == nil {
			c.Close(false)
		}
		return err
	})
	if !errors.Is(err, unix.EPERM) || !strings.HasPrefix(err.Error(), "hooks of connect at "+alone+": ") {
		t.Errorf("got %v, want %v", err, unix.EPERM)
	}
	if len(keep) != 0 {
		t.Errorf("kept after the error: %v", keep)
	}
}

// TestAsked: what a connected socket asked for, and where that was led, is known by its ends.
func TestAsked(t *testing.T) {
	l := newLedLab(t, nil)
	for _, network := range []string{"tcp", "udp"} {
		for _, tc := range []struct{ at, to string }{
			{"127.0.0.1:8080", ledTo4 + ":80"}, {"[::1]:8080", "[" + ledTo6 + "]:80"}, {"[::ffff:127.0.0.1]:8080", ledTo4 + ":80"}, {ledTo4 + ":80", ""},
		} {
			c, err := l.dialFrom(l.Host, network, "", tc.at, nil)
			if err != nil {
				t.Fatal(err)
			}
			proto, local := uint8(header.ProtoUDP), netip.MustParseAddrPort(c.LocalAddr().String())
			if network == "tcp" {
				proto = header.ProtoTCP
			}
			local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
			peer := netip.MustParseAddrPort(tc.at)
			if tc.to != "" {
				peer = netip.MustParseAddrPort(tc.to)
			}
			var asked, to netip.AddrPort
			var ok bool
			if err := l.Host.Do(func() error { asked, to, ok = l.c.Asked(proto, local, peer); return nil }); err != nil {
				t.Fatal(err)
			}
			want := netip.MustParseAddrPort(tc.at)
			want = netip.AddrPortFrom(want.Addr().Unmap(), want.Port())
			if ok != (tc.to != "") || ok && (asked != want || to != peer) {
				t.Errorf("%s to %s: asked for %v, led to %v, %v", network, tc.at, asked, to, ok)
			}
		}
	}
}
