package kernel

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
)

// TestLedFromMapped: no address is the loopback of IPv4 to a socket of IPv6 that is bound to an address of IPv4.
func TestLedFromMapped(t *testing.T) {
	l := newLedLab(t, nil)
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		fd := l.socket(unix.AF_INET6, typ)
		if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: netip.MustParseAddr(netlab.HostAddr).As16()}); err != nil {
			t.Fatal(err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet6{Port: 8080}); err != nil {
			t.Errorf("type %d: %v", typ, err)
			continue
		}
		if peer, err := unix.Getpeername(fd); err != nil || endOf(peer) != "[::ffff:127.0.0.1]:8080" {
			t.Errorf("type %d: the peer is %s, %v", typ, endOf(peer), err)
		}
	}
}

// TestLedNoMore: a UDP socket that is connected no more hears of the container by its own address.
func TestLedNoMore(t *testing.T) {
	l := newLedLab(t, nil)
	fd := l.socket(unix.AF_INET, unix.SOCK_DGRAM)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 8080, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	var unspec [16]byte // AF_UNSPEC
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), 16)
	if errno != 0 {
		t.Fatal(errno)
	}
	if from, answer := l.asks(fd, ledTo4+":80"); from != ledTo4+":80" {
		t.Errorf("%s answers %q", from, answer)
	}
}

// TestNotLedFromElsewhere: a socket that is bound to an address which is not the host's, as those of
// transparent proxies are.
func TestNotLedFromElsewhere(t *testing.T) {
	l := newLedLab(t, nil)
	for _, typ := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
		fd := l.socket(unix.AF_INET, typ|unix.SOCK_NONBLOCK)
		if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_FREEBIND, 1); err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{192, 0, 2, 77}}); err != nil {
			t.Fatal(err)
		}
		err := unix.Connect(fd, &unix.SockaddrInet4{Port: 8080, Addr: netip.MustParseAddr(netlab.HostAddr).As4()})
		if n, _ := l.c.Led(); n != 0 {
			t.Errorf("type %d: %d are led, %v", typ, n, err)
		}
	}
}
