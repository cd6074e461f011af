package gen

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// stall is how long a peer may be silent before the path counts as broken.
const stall = 2 * time.Second

// socket is a blocking socket of addr's family: SOCK_STREAM or SOCK_DGRAM.
func socket(addr netip.Addr, kind int) (int, error) {
	family := unix.AF_INET
	if addr.Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	return fd, nil
}

// limit makes reads, writes and connecting give up after stall.
func limit(fd int) error {
	tv := unix.NsecToTimeval(stall.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
}

func sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if ap.Addr().Is6() {
		return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
	}
	return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
}

// dial connects to target, whose sockaddr is sa, without Nagle's delay.
func dial(target netip.AddrPort, sa unix.Sockaddr) (int, error) {
	fd, err := socket(target.Addr(), unix.SOCK_STREAM)
	if err != nil {
		return -1, err
	}
	if err = limit(fd); err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = connect(fd, sa)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect %s: %w", target, silent(err))
	}
	return fd, nil
}

// connect, after a signal, goes on waiting for the connection that it began.
func connect(fd int, sa unix.Sockaddr) error {
	for {
		switch err := unix.Connect(fd, sa); err {
		case unix.EINTR:
		case unix.EISCONN:
			return nil
		default:
			return err
		}
	}
}

func listen(at netip.AddrPort) (int, error) {
	fd, err := socket(at.Addr(), unix.SOCK_STREAM)
	if err != nil {
		return -1, err
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, sockaddr(at))
	}
	if err == nil {
		err = unix.Listen(fd, 128)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("listen %s: %w", at, err)
	}
	return fd, nil
}

// read and write retry after a signal: sockets with a timeout return EINTR
// whatever SA_RESTART says (signal(7)).
func read(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		if err == nil {
			return n, nil
		}
		if err != unix.EINTR {
			return 0, silent(err)
		}
	}
}

func write(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Write(fd, b)
		if err == nil {
			return n, nil
		}
		if err != unix.EINTR {
			return 0, silent(err)
		}
	}
}

var errSilent = errors.New("no answer within " + stall.String())

// silent names what EAGAIN and EINPROGRESS mean on a blocking socket.
func silent(err error) error {
	if err == unix.EAGAIN || err == unix.EINPROGRESS {
		return errSilent
	}
	return err
}
