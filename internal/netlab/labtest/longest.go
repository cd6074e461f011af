package labtest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
)

// LongestFrame looks at what passes an interface, both ways; the result ends that and is the length of
// the longest frame.
func LongestFrame(t testing.TB, ns *netlab.NS, ifname string) func() int {
	t.Helper()
	index, err := ns.Index(ifname)
	if err != nil {
		t.Fatal(err)
	}
	var fd int
	if err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
		unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: 0x0300, Ifindex: index})) // ETH_P_ALL
	if err != nil {
		t.Fatal(err)
	}
	var longest int
	var stop atomic.Bool
	var reader sync.WaitGroup
	reader.Go(func() {
		defer unix.Close(fd)
		for buf := make([]byte, 1); !stop.Load(); {
			n, _, err := unix.Recvfrom(fd, buf, unix.MSG_TRUNC)
			if err == nil {
				longest = max(longest, n)
			} else if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENETDOWN) {
				return
			}
		}
	})
	end := sync.OnceValue(func() int { stop.Store(true); reader.Wait(); return longest })
	t.Cleanup(func() { end() })
	return end
}
