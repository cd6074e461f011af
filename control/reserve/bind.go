package reserve

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/header"
)

// holdList are the holds of a Ports.
type holdList []*Hold

// has reports whether a socket is one of ours.
func (l holdList) has(inode uint32) bool {
	for _, h := range l {
		for _, s := range h.sockets {
			if s.inode == inode {
				return true
			}
		}
	}
	return false
}

// hold binds one port. Where another hold has the port on other addresses, both
// sockets get SO_REUSEADDR for the moment of the bind, which is what lets them
// stand side by side; afterwards it would let others in.
func (h *Hold) hold(port uint16) (held, error) {
	var beside []int
	for _, o := range h.ports.holds {
		for _, s := range o.sockets {
			if o.proto == h.proto && s.port == port && meet(o.addr, h.addr) {
				beside = append(beside, s.fd)
			}
		}
	}
	fd, err := -1, error(nil)
	if len(beside) == 0 {
		fd, err = h.bind(port)
	} else {
		err = reuse(beside, true)
		if err == nil {
			fd, err = h.open(port, true)
		}
		if off := reuse(beside, false); err == nil && off != nil {
			unix.Close(fd)
			err = off
		}
		if err != nil {
			err = fmt.Errorf("port %s: %w", h.name(port), err)
		}
	}
	if err != nil {
		return held{}, err
	}
	s, err := h.socket(port, fd)
	if err != nil {
		unix.Close(fd)
	}
	return s, err
}

// socket is one that holds a port.
func (h *Hold) socket(port uint16, fd int) (held, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return held{}, err
	}
	return held{port, fd, uint32(st.Ino)}, nil
}

func reuse(fds []int, on bool) error {
	for _, fd := range fds {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, bit(on)); err != nil {
			return err
		}
	}
	return nil
}

// bind holds one port with a socket that is never read.
//
// The kernel's rule for TCP (inet_csk_bind_conflict): two sockets conflict
// unless both have SO_REUSEADDR and the one that is there does not listen. A port
// where an earlier relay left connections in TIME_WAIT can therefore be bound with
// SO_REUSEADDR only; cleared again afterwards, the option keeps others out.
// It is not used where it is not needed: while the port's bucket remembers that its
// first owner had the option (fastreuse), a program that has it too gets past
// bind, to fail with EADDRINUSE only at listen.
func (h *Hold) bind(port uint16) (fd int, err error) {
	fd, err = h.open(port, false)
	if errors.Is(err, unix.EADDRINUSE) && h.proto == header.ProtoTCP {
		if err := h.checkConnections(port); err != nil {
			return -1, err
		}
		fd, err = h.open(port, true)
	}
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.EADDRINUSE):
		// A program came between the check and now, or a connection without
		// SO_REUSEADDR lives on, in TIME_WAIT for its minute if nobody owns it.
		if err := h.checkNow(); err != nil {
			return -1, err
		}
		return -1, &takenError{text: fmt.Sprintf("port %s is in use by a connection that has not ended: try again in a minute or publish another port", h.name(port))}
	}
	return -1, fmt.Errorf("port %s: %w", h.name(port), err)
}

// checkConnections refuses a port that is still in use by the connections of a
// living program. Our own, which a relay has not finished, do no harm.
func (h *Hold) checkConnections(port uint16) error {
	list, err := h.ports.host.Connections()
	if err != nil {
		return err
	}
	self := fmt.Sprintf("(pid %d)", os.Getpid())
	for _, s := range list {
		if s.Port != port || s.Inode == 0 || !h.conflicts(s) {
			continue
		}
		if !strings.HasSuffix(Owner(s.Inode), self) {
			return h.heldBy(s)
		}
	}
	return nil
}

// open makes the socket. For all addresses it is one dual-stack IPv6 socket,
// which keeps IPv4 binders away as well; a kernel without IPv6 gets one for IPv4.
func (h *Hold) open(port uint16, reuse bool) (fd int, err error) {
	addr := h.addr
	if !addr.IsValid() {
		fd, err = h.openAt(netip.IPv6Unspecified(), port, reuse, false)
		if !errors.Is(err, unix.EAFNOSUPPORT) {
			return fd, err
		}
		addr = netip.IPv4Unspecified()
	}
	return h.openAt(addr, port, reuse, true)
}

func (h *Hold) openAt(addr netip.Addr, port uint16, reuse, v6only bool) (fd int, err error) {
	family, typ := unix.AF_INET, unix.SOCK_STREAM
	if addr.Is6() {
		family = unix.AF_INET6
	}
	if h.proto == header.ProtoUDP {
		typ = unix.SOCK_DGRAM
	}
	fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(h.proto))
	if err != nil {
		return -1, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
			fd = -1
		}
	}()
	if addr.Is6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, bit(v6only)); err != nil {
			return fd, err
		}
	}
	// An address that the host has at other times is held meanwhile, too: whoever asked for it
	// was refused if the host did not have it then.
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1); err != nil {
		return fd, err
	}
	if h.proto == header.ProtoUDP {
		if err := deafen(fd); err != nil {
			return fd, err
		}
	}
	if own := h.ports.cfg.Own; own != nil {
		if err := own(fd); err != nil {
			return fd, err
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, bit(reuse)); err != nil {
		return fd, err
	}
	if err := unix.Bind(fd, sockaddr(addr, port)); err != nil {
		return fd, err
	}
	return fd, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0)
}

// deafen makes a UDP socket that is never read cost nothing: a filter drops
// every datagram before it is queued.
func deafen(fd int) error {
	drop := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K}}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop[0]}); err != nil {
		return err
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0) // the kernel makes that its minimum
}

func sockaddr(addr netip.Addr, port uint16) unix.Sockaddr {
	if addr.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()}
	}
	sa := &unix.SockaddrInet6{Port: int(port), Addr: addr.As16()}
	if link, err := net.InterfaceByName(addr.Zone()); err == nil {
		sa.ZoneId = uint32(link.Index)
	}
	return sa
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (h *Hold) closeSockets() {
	for _, s := range h.sockets {
		unix.Close(s.fd)
		if k := h.ports.cfg.Holder; k != nil {
			k.Drop(h.heldAs(s.port))
		}
	}
	h.sockets = nil
}
