package kernel

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// What a container asks at a gateway is for the resolver, also where port 53 is published at
// every address. What the host asks there, and all other ports, go where they went before.
func TestSteerResolves(t *testing.T) {
	k := open(t)
	k.Published().Set(flowmap.WildcardSlot, header.ProtoUDP, 53)
	for _, p := range []string{"10.88.0.0/24", "10.89.0.0/24", "fd88::/64"} {
		if err := k.ClaimSubnet(netip.MustParsePrefix(p), false); err != nil {
			t.Fatal(err)
		}
	}
	relay := [sockCount]int{-1, -1, udpSocket(t, unix.AF_INET), -1}
	s, err := k.newSteering(relay)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	udp := [2]int{udpSocket(t, unix.AF_INET), udpSocket(t, unix.AF_INET6)}
	if err := s.Resolve([2]int{-1, -1}, udp); err != nil {
		t.Fatal(err)
	}
	a, off, six := netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("10.89.0.1"), netip.MustParseAddr("fd88::1")
	for _, err := range []error{s.AnswerAt(a, true, true), s.AnswerAt(off, false, false), s.AnswerAt(six, false, true)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const relayed, resolved, resolved6, host = "relay", "resolver", "resolver of IPv6", "the host's"
	who := map[uint64]string{0: host, cookieOf(t, relay[sockUDP4]): relayed, cookieOf(t, udp[0]): resolved, cookieOf(t, udp[1]): resolved6}
	ask := func(proto uint8, from, to string, port uint16) string {
		t.Helper()
		ctx := lookup{proto, netip.MustParseAddr(to), port}.context()
		src := netip.MustParseAddr(from)
		copy(ctx[16:], src.AsSlice())
		if src.Is6() {
			copy(ctx[16:], make([]byte, 4))
			copy(ctx[20:], src.AsSlice())
		}
		out := make([]byte, 128)
		_, err := s.program.Run(&ebpf.RunOptions{Context: ctx, ContextOut: out})
		if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.ENOTSUP) {
			labtest.SkipOldKernel(t, 5, 13, "no test run of sk_lookup")
		}
		if err != nil {
			t.Fatal(err)
		}
		return who[binary.NativeEndian.Uint64(out)]
	}
	for _, tc := range []struct {
		proto    uint8
		from, to string
		port     uint16
		want     string
	}{
		{header.ProtoUDP, "10.88.0.7", "10.88.0.1", 53, resolved},
		{header.ProtoUDP, "10.89.0.7", "10.88.0.1", 53, resolved}, // of another network, at this gateway
		{header.ProtoUDP, "10.89.0.7", "10.89.0.1", 53, relayed},  // where no names are answered
		{header.ProtoUDP, "10.88.0.1", "10.88.0.1", 53, relayed},  // the host itself
		{header.ProtoUDP, "10.89.0.1", "10.88.0.1", 53, relayed},
		{header.ProtoUDP, "127.0.0.1", "127.0.0.1", 53, relayed},
		{header.ProtoUDP, "192.0.2.1", "10.88.0.1", 53, relayed}, // the LAN
		{header.ProtoUDP, "10.88.0.7", "192.0.2.1", 53, relayed}, // another address of the host
		{header.ProtoUDP, "10.88.0.7", "10.88.0.1", 54, host},
		{header.ProtoTCP, "10.88.0.7", "10.88.0.1", 53, host}, // no socket for it
		{header.ProtoUDP, "fd88::7", "fd88::1", 53, resolved6},
		{header.ProtoUDP, "fd88::1", "fd88::1", 53, host},
		{header.ProtoSCTP, "10.88.0.7", "10.88.0.1", 53, host},
	} {
		if got := ask(tc.proto, tc.from, tc.to, tc.port); got != tc.want {
			t.Errorf("protocol %d from %s to %s:%d is for %q, want %q", tc.proto, tc.from, tc.to, tc.port, got, tc.want)
		}
	}
	if err := errors.Join(s.NoGateway(a), s.NoGateway(a)); err != nil {
		t.Error(err)
	}
	if got := ask(header.ProtoUDP, "10.88.0.7", "10.88.0.1", 53); got != relayed {
		t.Errorf("at a gateway that is gone it is for %q", got)
	}
	if err := s.Resolve([2]int{-1, -1}, [2]int{-1, -1}); err != nil {
		t.Error(err)
	}
	if got := ask(header.ProtoUDP, "fd88::7", "fd88::1", 53); got != host {
		t.Errorf("without a resolver it is for %q", got)
	}
}

func udpSocket(t *testing.T, family int) int {
	t.Helper()
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	var at unix.Sockaddr = &unix.SockaddrInet4{}
	if family == unix.AF_INET6 {
		at = &unix.SockaddrInet6{}
	}
	if err := unix.Bind(fd, at); err != nil {
		t.Fatal(err)
	}
	return fd
}

func cookieOf(t *testing.T, fd int) uint64 {
	t.Helper()
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
