package others

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/subuid"
)

// SocketUsers finds whose the sockets of this host are. SO_PEERCRED knows that of unix
// sockets only; sock_diag looks a connection up by its addresses, as the kernel does for a
// packet, which takes some microseconds however many there are. It is safe for concurrent
// use.
type SocketUsers struct {
	subs *subuid.Table

	mu  sync.Mutex // one question at a time
	fd  int
	seq uint32
	buf [4096]byte
}

// OpenSocketUsers opens a socket for the questions in the namespace of the calling thread.
func OpenSocketUsers() (*SocketUsers, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	// The kernel answers before sendto returns; were it ever not to, nobody waits for long.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return &SocketUsers{fd: fd, subs: subuid.Open()}, nil
}

// Close ends it; from then on it knows nobody.
func (s *SocketUsers) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd := s.fd
	if s.fd = -1; fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

// Of sock_diag (linux/sock_diag.h, linux/inet_diag.h).
const (
	sizeofNlHeader   = 16
	sockDiagByFamily = 20
	sizeofDiagMsg    = 72
	stateAll         = 1<<14 - 1
	loIfindex        = 1 // of lo in every namespace
)

// Of returns the user whose socket has the address from and speaks to the address to, of
// TCP or UDP. The number is the one that the user has in the user namespace of this process;
// those that have none there share the kernel's overflow number. A subordinate number is its
// owner's. It is not ok when no program has that socket any more: it was closed with data
// under way, or has ended.
func (s *SocketUsers) Of(proto uint8, from, to netip.AddrPort) (uid uint32, ok bool) {
	if uid, ok = s.ask(proto, from, to); ok {
		uid = s.subs.Owner(uid)
	}
	return uid, ok
}

func (s *SocketUsers) ask(proto uint8, from, to netip.AddrPort) (uid uint32, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return 0, false
	}
	// Between addresses of one host packets come in at lo, and a socket that is bound to it
	// is found by that only. One with a zone is bound to the zone's interface.
	ifindex := loIfindex
	if zone := from.Addr().Zone(); zone != "" {
		if nic, err := net.InterfaceByName(zone); err == nil {
			ifindex = nic.Index
		}
	}
	from, to = plain(from), plain(to)
	near, far := from, to
	if proto == unix.IPPROTO_UDP {
		near, far = to, from // udp_dump_one takes the ends the other way round
	}
	s.seq++
	q := s.buf[:sizeofNlHeader+56]
	clear(q)
	ne := binary.NativeEndian
	ne.PutUint32(q, uint32(len(q)))
	ne.PutUint16(q[4:], sockDiagByFamily)
	ne.PutUint16(q[6:], unix.NLM_F_REQUEST)
	ne.PutUint32(q[8:], s.seq)
	b := q[sizeofNlHeader:]
	b[0], b[1] = familyOf(from.Addr()), proto
	ne.PutUint32(b[4:], stateAll)
	binary.BigEndian.PutUint16(b[8:], near.Port())
	binary.BigEndian.PutUint16(b[10:], far.Port())
	copy(b[12:28], near.Addr().AsSlice())
	copy(b[28:44], far.Addr().AsSlice())
	ne.PutUint32(b[44:], uint32(ifindex))
	ne.PutUint64(b[48:], ^uint64(0)) // INET_DIAG_NOCOOKIE
	if err := unix.Sendto(s.fd, q, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, false
	}
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n < sizeofNlHeader {
			return 0, false
		}
		if ne.Uint32(s.buf[8:]) != s.seq {
			continue // of a question that was given up
		}
		if ne.Uint16(s.buf[4:]) != sockDiagByFamily || n < sizeofNlHeader+sizeofDiagMsg {
			return 0, false // ENOENT
		}
		return userOf(s.buf[sizeofNlHeader:n], proto, from, to)
	}
}

// userOf reads a struct inet_diag_msg. Where no connection is, the kernel finds what listens
// at its port, which may be anybody's.
func userOf(m []byte, proto uint8, from, to netip.AddrPort) (uid uint32, ok bool) {
	port, peer := binary.BigEndian.Uint16(m[4:]), binary.BigEndian.Uint16(m[6:])
	inode := binary.NativeEndian.Uint32(m[68:])
	connected := peer == to.Port()
	if proto == unix.IPPROTO_UDP {
		connected = connected || peer == 0
	}
	if port != from.Port() || !connected || inode == 0 {
		return 0, false
	}
	return binary.NativeEndian.Uint32(m[64:]), true
}

// plain is an address as sock_diag takes it.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

func familyOf(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}
