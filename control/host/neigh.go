package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neighbor is a next hop whose link-layer address is known (RFC 4861 section
// 7.3.2: REACHABLE, STALE, DELAY, PROBE, and the kernel's PERMANENT and NOARP).
type Neighbor struct {
	Ifindex int
	Addr    netip.Addr
	MAC     net.HardwareAddr // nil in an event: the neighbour is not known any more
}

// sizeofNdmsg is the length of struct ndmsg in linux/neighbour.h.
const sizeofNdmsg = int(unsafe.Sizeof(netlink.Ndmsg{}))

const nudKnown = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE |
	netlink.NUD_PERMANENT | netlink.NUD_NOARP

// Neighbors returns the host's ARP and ND entries that can be used.
func (h *Host) Neighbors() ([]Neighbor, error) {
	msgs, err := h.route.dump(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &netlink.Ndmsg{})
	if err != nil {
		return nil, fmt.Errorf("read the neighbours: %w", err)
	}
	var list []Neighbor
	for _, m := range msgs {
		if n, ok := parseNeighbor(m); ok && n.MAC != nil {
			list = append(list, n)
		}
	}
	return list, nil
}

// parseNeighbor reads an ndmsg. The MAC is nil unless it can be used.
func parseNeighbor(m []byte) (Neighbor, bool) {
	if len(m) < sizeofNdmsg {
		return Neighbor{}, false
	}
	msg := *(*netlink.Ndmsg)(unsafe.Pointer(&m[0]))
	if msg.Family != unix.AF_INET && msg.Family != unix.AF_INET6 { // AF_BRIDGE: a bridge's FDB
		return Neighbor{}, false
	}
	n := Neighbor{Ifindex: int(msg.Index)}
	err := attrs(m, sizeofNdmsg, func(typ uint16, v []byte) {
		switch {
		case typ == netlink.NDA_DST:
			n.Addr = addrOf(v)
		case typ == netlink.NDA_LLADDR && len(v) == 6 && msg.State&nudKnown != 0:
			n.MAC = slices.Clone(v)
		}
	})
	return n, err == nil && n.Addr.IsValid()
}

// Resolve asks the kernel to resolve a neighbour and returns at once. The
// answer arrives as an event of Watch. An entry that is already known is marked as
// used, so that the kernel keeps it fresh.
func (h *Host) Resolve(ifindex int, next netip.Addr) error {
	next = next.Unmap()
	// NTF_USE stands for a packet to that neighbour (neigh_event_send): the
	// kernel sends ARP or ND itself.
	err := h.route.do(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE, &netlink.Ndmsg{
		Family: uint8(family(next)), Index: uint32(ifindex), Flags: netlink.NTF_USE,
	}, attrAddr(netlink.NDA_DST, next.WithZone("")))
	if err != nil {
		return fmt.Errorf("resolve %s on interface %d: %w", next, ifindex, err)
	}
	return nil
}

// SetNeighbor tells the kernel a neighbour's MAC before it asks, as if it had just
// answered: a packet to it does not wait, and so none overtakes it. What waits for an
// answer (arp_queue of a neighbour) is sent by the CPU that has received that, while
// another may send already. In a full table (gc_thresh3) there is none: the kernel will
// ask.
func (h *Host) SetNeighbor(n Neighbor) error {
	if err := h.route.setNeighbor(n); err != nil {
		return fmt.Errorf("neighbour %s on interface %d: %w", n.Addr, n.Ifindex, err)
	}
	return nil
}

func (c *conn) setNeighbor(n Neighbor) error {
	err := c.do(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &netlink.Ndmsg{
		Family: uint8(family(n.Addr)), Index: uint32(n.Ifindex), State: netlink.NUD_REACHABLE,
	}, attrAddr(netlink.NDA_DST, n.Addr), attr(netlink.NDA_LLADDR, n.MAC))
	if errors.Is(err, unix.ENOBUFS) {
		return nil
	}
	return err
}

// DelNeighbor forgets a neighbour. That there is none is no error.
func (h *Host) DelNeighbor(ifindex int, addr netip.Addr) error {
	err := h.route.do(unix.RTM_DELNEIGH, 0, &netlink.Ndmsg{Family: uint8(family(addr)), Index: uint32(ifindex)}, attrAddr(netlink.NDA_DST, addr))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("forget neighbour %s on interface %d: %w", addr, ifindex, err)
	}
	return nil
}
