package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Connection is a TCP or UDP socket of the host that is connected.
type Connection struct {
	Proto       uint8
	Local, Peer netip.AddrPort

	family uint8
	id     []byte // struct inet_diag_sockid
}

const (
	sockDestroy  = 21 // SOCK_DESTROY
	sizeofSockID = 48
	// SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK and CLOSING as well.
	statesConnected = stateEstablished | 1<<2 | 1<<4 | 1<<5 | 1<<8 | 1<<9 | 1<<11
)

// Connected returns the sockets whose peer has one of some addresses.
func (h *Host) Connected(peers func(netip.Addr) bool) (list []Connection, err error) {
	question := make(raw, 60) // both families, see tcp
	binary.NativeEndian.PutUint32(question[52:], statesConnected)
	if list, err = h.connected(list, peers, tcpDiagGetSock, unix.IPPROTO_TCP, question); err != nil {
		return nil, err
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		question := udpRequest(family)
		binary.NativeEndian.PutUint32(question[4:], stateEstablished)
		if list, err = h.connected(list, peers, sockDiagByFamily, unix.IPPROTO_UDP, question); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (h *Host) connected(list []Connection, peers func(netip.Addr) bool, typ int, proto uint8, question raw) ([]Connection, error) {
	msgs, err := h.diag.dump(typ, typ, question)
	if err != nil && !errors.Is(err, unix.ENOENT) { // the kernel lacks this family
		return nil, fmt.Errorf("read the sockets: %w", err)
	}
	for _, m := range msgs {
		if len(m) < sizeofDiagMsg {
			continue
		}
		c := Connection{Proto: proto, family: m[0], id: m[4 : 4+sizeofSockID]}
		if c.Local, c.Peer = c.end(0, 4), c.end(2, 20); peers(c.Peer.Addr()) {
			list = append(list, c)
		}
	}
	return list, nil
}

// end is where struct inet_diag_sockid has a port and an address.
func (c *Connection) end(port, addr int) netip.AddrPort {
	a := netip.AddrFrom4([4]byte(c.id[addr:]))
	if c.family == unix.AF_INET6 {
		a = netip.AddrFrom16([16]byte(c.id[addr:])).Unmap()
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(c.id[port:]))
}

// Destroy ends a connection: its program is told ECONNABORTED, and a peer by TCP that it is reset. That
// it has ended meanwhile is no error.
func (h *Host) Destroy(c Connection) error {
	b := make(raw, 8+sizeofSockID)
	b[0], b[1] = c.family, c.Proto
	binary.NativeEndian.PutUint32(b[4:], stateAll)
	copy(b[8:], c.id)
	err := h.diag.do(sockDestroy, 0, b)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("end a socket's connection: %w", err)
	}
	return nil
}

// Destroys is an error where the kernel cannot (CONFIG_INET_DIAG_DESTROY).
func (h *Host) Destroys() error {
	for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		if err := h.Destroy(Connection{Proto: proto, family: unix.AF_INET, id: make([]byte, sizeofSockID)}); err != nil {
			return err
		}
	}
	return nil
}
