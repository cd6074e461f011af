package gen

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// UDPPing sends one byte back and forth in datagrams for window. A datagram
// that is lost costs a stall, which is an error: none of the paths is so busy
// with one of them.
func UDPPing(ctx context.Context, ns Namespace, target netip.AddrPort, window time.Duration) (e Exchanges, err error) {
	return e, call(ctx, ns, Spec{Role: roleUDP, Target: target, Window: window}, &e)
}

func udpPing(s Spec) (Exchanges, error) {
	fd, err := socket(s.Target.Addr(), unix.SOCK_DGRAM)
	if err != nil {
		return Exchanges{}, err
	}
	defer unix.Close(fd)
	if err = limit(fd); err == nil {
		err = unix.Connect(fd, sockaddr(s.Target)) // what others send is not for this socket
	}
	if err != nil {
		return Exchanges{}, fmt.Errorf("connect %s/udp: %w", s.Target, err)
	}
	var b [1]byte
	e, err := exchange(s.Window, func() error { return roundTrip(fd, b[:]) })
	if err != nil {
		return Exchanges{}, fmt.Errorf("UDP request and response with %s: %w", s.Target, err)
	}
	return e, nil
}

// serveUDP sends each datagram back to where it came from.
func serveUDP(at netip.AddrPort) error {
	fd, err := socket(at.Addr(), unix.SOCK_DGRAM)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		unix.Close(fd)
		return fmt.Errorf("listen %s/udp: %w", at, err)
	}
	go func() {
		lockThread()
		buf := make([]byte, 2048)
		for {
			n, from, err := unix.Recvfrom(fd, buf, 0)
			switch {
			case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNREFUSED): // a client that has gone
				continue
			case err != nil:
				return
			}
			unix.Sendto(fd, buf[:n], 0, from)
		}
	}()
	return nil
}
