package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// lookup is one that the host's stack makes for a socket.
type lookup struct {
	proto uint8
	to    netip.Addr
	port  uint16
}

// context is struct bpf_sk_lookup, as far as it reached in Linux 5.13.
func (l lookup) context() []byte {
	b := make([]byte, 64)
	binary.NativeEndian.PutUint32(b[8:], unix.AF_INET)
	copy(b[40:], l.to.AsSlice())
	if l.to.Is6() {
		binary.NativeEndian.PutUint32(b[8:], unix.AF_INET6)
		copy(b[40:], make([]byte, 4))
		copy(b[44:], l.to.AsSlice())
	}
	binary.NativeEndian.PutUint32(b[12:], uint32(l.proto))
	binary.NativeEndian.PutUint32(b[60:], uint32(l.port))
	return b
}

// want is the number of the socket that a lookup finds, -1 for none.
func (l lookup) want(k *Kernel) int {
	wildcard, six := flowmap.WildcardSlot, 0
	if l.to.Is6() {
		wildcard, six = flowmap.WildcardSlot6, 1
	}
	slot, ok := k.slots[header.AddrFrom(l.to)]
	if !k.Published().Test(wildcard, l.proto, l.port) && !(ok && k.Published().Test(slot, l.proto, l.port)) {
		return -1
	}
	switch l.proto {
	case header.ProtoTCP:
		return sockTCP4 + six
	case header.ProtoUDP:
		return sockUDP4 + six
	}
	return -1
}

func TestSteerChooses(t *testing.T) {
	k := open(t)
	claim(t, k)
	k.Published().Set(flowmap.WildcardSlot, header.ProtoUDP, 9017)
	k.Published().Set(flowmap.WildcardSlot, header.ProtoSCTP, 9132)
	fds, cookies := [sockCount]int{}, map[uint64]int{0: -1}
	for i := range fds {
		family, kind := unix.AF_INET, unix.SOCK_STREAM
		if i&1 != 0 {
			family = unix.AF_INET6
		}
		if i >= sockUDP4 {
			kind = unix.SOCK_DGRAM
		}
		fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		var at unix.Sockaddr = &unix.SockaddrInet4{}
		if family == unix.AF_INET6 {
			at = &unix.SockaddrInet6{}
		}
		if err := unix.Bind(fd, at); err != nil {
			t.Fatal(err)
		}
		if kind == unix.SOCK_STREAM {
			if err := unix.Listen(fd, 1); err != nil {
				t.Fatal(err)
			}
		}
		cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		if err != nil {
			t.Fatal(err)
		}
		fds[i], cookies[cookie] = fd, i
	}
	s, err := k.newSteering(fds)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	chosen := make(map[int]int)
	for _, to := range []string{host4, host6, alias4, alias6, other4, other6, "127.0.0.1", "::1", "127.9.9.9"} {
		for _, port := range []uint16{0, 8006, 8007, 8017, 8127, 8132, 9006, 9017, 9132, 9406, 9606, 40006, 40017, 65535} {
			for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP, header.ProtoSCTP} {
				l := lookup{proto, netip.MustParseAddr(to), port}
				ctx := l.context()
				out := make([]byte, 128)
				verdict, err := s.program.Run(&ebpf.RunOptions{Context: ctx, ContextOut: out})
				if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.ENOTSUP) {
					labtest.SkipOldKernel(t, 5, 13, "no test run of sk_lookup")
				}
				if err != nil {
					t.Fatalf("%+v: %v", l, err)
				}
				got, ok := cookies[binary.NativeEndian.Uint64(out)]
				if !ok {
					got = -2
				}
				chosen[got]++
				if want := l.want(k); got != want || verdict != 1 { // SK_PASS
					t.Errorf("%+v: socket %d, verdict %d, want socket %d", l, got, verdict, want)
				}
			}
		}
	}
	for i := -1; i < sockCount; i++ {
		if chosen[i] == 0 {
			t.Errorf("socket %d was never chosen: %s", i, fmt.Sprint(chosen))
		}
	}
}
