package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Socket is a TCP socket that listens or holds a port, or a bound UDP or SCTP one.
type Socket struct {
	Proto uint8 // header.ProtoTCP, ProtoUDP or ProtoSCTP
	// Addr is the local address; an IPv6 socket bound to an IPv4 address shows
	// that.
	Addr netip.Addr
	Port uint16
	// DualStack: an IPv6 wildcard socket that holds the port for IPv4 as well.
	DualStack bool
	Ifindex   int    // bound to this interface (SO_BINDTODEVICE), or 0
	Listens   bool   // of TCP
	Inode     uint32 // 0: the kernel's own, or a connection whose program has left it
	// Cookie is a number that no other socket has as long as the host is up; 0: not known.
	Cookie uint64
}

// States of a socket as sock_diag numbers them (include/net/tcp_states.h).
const (
	stateEstablished   = 1 << 1
	stateClose         = 1 << 7
	stateListen        = 1 << 10
	stateBoundInactive = 1 << 13 // bound, neither listening nor connected; since Linux 6.8
	stateAll           = 1<<14 - 1

	statesTCP = stateListen | stateBoundInactive
	statesUDP = stateClose | stateEstablished
)

// Sockets returns the TCP listeners, bound UDP sockets and SCTP endpoints of the host, and on
// Linux 6.8 and later the TCP sockets that are bound and do not listen.
func (h *Host) Sockets() ([]Socket, error) {
	list, err := h.tcp(statesTCP)
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		udp, err1 := h.sockets(sockDiagByFamily, unix.IPPROTO_UDP, udpRequest(family))
		list, err = append(list, udp...), errors.Join(err, err1)
	}
	sctp, err1 := sctpEndpoints()
	return append(list, sctp...), errors.Join(err, err1)
}

// Connections returns the TCP sockets of the host in every state, connections
// and those in TIME_WAIT included: each keeps its local port from being bound by
// a program that does not ask for SO_REUSEADDR. There may be very many.
func (h *Host) Connections() ([]Socket, error) { return h.tcp(stateAll) }

// ConnectionsFrom is Connections whose local port is one of first to last, both included;
// the kernel chooses them.
func (h *Host) ConnectionsFrom(first, last uint16) ([]Socket, error) {
	return h.tcp(stateAll, attr(diagReqBytecode, localPorts(first, last)))
}

// ConnectedFrom is ConnectionsFrom without those that Sockets returns, of which the kernel has
// tables of their own, as long as that of connections.
func (h *Host) ConnectedFrom(first, last uint16) ([]Socket, error) {
	return h.tcp(stateAll&^statesTCP, attr(diagReqBytecode, localPorts(first, last)))
}

// localPorts is the program of sock_diag that takes sockets by their local port
// (linux/inet_diag.h): operations with how far they lead when they hold and when not, one
// past the end to refuse.
func localPorts(first, last uint16) (program []byte) {
	const portAtLeast, portAtMost = 2, 3
	for i, port := range []uint16{first, last} {
		op := []byte{portAtLeast + byte(i)*(portAtMost-portAtLeast), 8, 0, 0, 0, 0, 0, 0}
		binary.NativeEndian.PutUint16(op[2:], uint16(20-8*i))
		binary.NativeEndian.PutUint16(op[6:], port)
		program = append(program, op...)
	}
	return program
}

// tcp asks for both families in one message, as only the older of the two questions does: the
// kernel walks through its tables of all network namespaces once for each.
func (h *Host) tcp(states uint32, which ...nl.NetlinkRequestData) ([]Socket, error) {
	question := make(raw, 60) // struct inet_diag_req, of which the kernel reads the states alone
	binary.NativeEndian.PutUint32(question[52:], states)
	return h.sockets(tcpDiagGetSock, unix.IPPROTO_TCP, append([]nl.NetlinkRequestData{question}, which...)...)
}

func (h *Host) sockets(typ int, proto uint8, question ...nl.NetlinkRequestData) (list []Socket, err error) {
	msgs, err := h.diag.dump(typ, typ, question...)
	if errors.Is(err, unix.ENOENT) { // no handler: the kernel lacks this family
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the sockets: %w", err)
	}
	for _, m := range msgs {
		if s, ok := parseSocket(m); ok {
			s.Proto = proto
			list = append(list, s)
		}
	}
	return list, nil
}

const (
	tcpDiagGetSock   = 18 // TCPDIAG_GETSOCK
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	sizeofDiagMsg    = 72 // struct inet_diag_msg
	diagSKV6Only     = 11 // INET_DIAG_SKV6ONLY
	diagReqBytecode  = 1  // INET_DIAG_REQ_BYTECODE
)

// udpRequest is a struct inet_diag_req_v2 without a socket id.
func udpRequest(family uint8) raw {
	b := make(raw, 56)
	b[0], b[1] = family, unix.IPPROTO_UDP
	binary.NativeEndian.PutUint32(b[4:], statesUDP)
	return b
}

// parseSocket reads a struct inet_diag_msg (sock_diag(7)).
func parseSocket(m []byte) (s Socket, ok bool) {
	if len(m) < sizeofDiagMsg {
		return s, false
	}
	s.Listens = 1<<m[1] == stateListen
	s.Port = binary.BigEndian.Uint16(m[4:])
	s.Ifindex = int(binary.NativeEndian.Uint32(m[40:]))
	s.Cookie = uint64(binary.NativeEndian.Uint32(m[44:])) | uint64(binary.NativeEndian.Uint32(m[48:]))<<32
	s.Inode = binary.NativeEndian.Uint32(m[68:])
	v6only := false
	if m[0] == unix.AF_INET6 {
		s.Addr = netip.AddrFrom16([16]byte(m[8:])).Unmap()
		_ = attrs(m, sizeofDiagMsg, func(typ uint16, v []byte) {
			if typ == diagSKV6Only && len(v) == 1 {
				v6only = v[0] != 0
			}
		})
	} else {
		s.Addr = netip.AddrFrom4([4]byte(m[8:]))
	}
	s.DualStack = s.Addr == netip.IPv6Unspecified() && !v6only
	return s, s.Port != 0
}
