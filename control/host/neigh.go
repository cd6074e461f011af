package host

import (
	"encoding/binary"
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

// Resolve asks the kernel to resolve a neighbour and returns at once. The answer arrives
// as an event of Watch. The kernel is asked about an entry that is absent, failed or
// stale and about no other: it renews the rest itself, and of those that the
// administrator or a routing daemon entered (permanent, noarp, managed) it knows all.
func (h *Host) Resolve(ifindex int, next netip.Addr) error {
	next = next.Unmap().WithZone("")
	// NTF_USE stands for a packet to that neighbour (neigh_event_send): the kernel
	// sends ARP or ND itself. It takes NUD_PERMANENT from an entry (__neigh_update),
	// so the entry is read just before, and one that is absent is made with
	// NLM_F_EXCL: whoever enters it meanwhile comes first.
	entry, err := h.route.neighbor(ifindex, next)
	if err == nil && entry.asked() {
		err = h.route.do(unix.RTM_NEWNEIGH, entry.create(), &netlink.Ndmsg{
			Family: uint8(family(next)), Index: uint32(ifindex), Flags: netlink.NTF_USE | entry.flags&ntfExtLearned,
		}, attrAddr(netlink.NDA_DST, next))
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("resolve %s on interface %d: %w", next, ifindex, err)
	}
	return nil
}

// neighborEntry is an entry of the kernel's table as it is. An entry that is there may have
// no state (NUD_NONE).
type neighborEntry struct {
	there   bool
	state   uint16
	flags   uint8 // NTF_*
	managed bool  // the kernel keeps it fresh by itself
}

// Flags that a request without them takes away. An entry that is learned from outside is a
// control plane's.
const (
	ntfExtLearned = 0x10
	ntfExtManaged = 1 << 0

	ndaFlagsExt = 15 // NDA_FLAGS_EXT
)

// asked reports whether the kernel needs a word to ask for a neighbour.
func (e neighborEntry) asked() bool {
	return !e.managed && e.state&^(netlink.NUD_FAILED|netlink.NUD_STALE) == 0
}

// owned reports whether an entry is the administrator's or the kernel's own.
func (e neighborEntry) owned() bool { return e.state&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) != 0 }

func (e neighborEntry) create() int {
	if !e.there {
		return unix.NLM_F_CREATE | unix.NLM_F_EXCL
	}
	return 0
}

// neighbor reads one entry.
func (c *conn) neighbor(ifindex int, addr netip.Addr) (e neighborEntry, err error) {
	m, err := c.get(unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, &netlink.Ndmsg{Family: uint8(family(addr)), Index: uint32(ifindex)}, attrAddr(netlink.NDA_DST, addr))
	switch {
	case errors.Is(err, unix.ENOENT):
		return e, nil
	case err != nil:
		return e, err
	case len(m) < sizeofNdmsg:
		return e, unix.EINVAL
	}
	msg := (*netlink.Ndmsg)(unsafe.Pointer(&m[0]))
	e.there, e.state, e.flags = true, msg.State, msg.Flags
	err = attrs(m, sizeofNdmsg, func(typ uint16, v []byte) {
		if typ == ndaFlagsExt && len(v) == 4 {
			e.managed = binary.NativeEndian.Uint32(v)&ntfExtManaged != 0
		}
	})
	return e, err
}

// SetNeighbor tells the kernel a neighbour's MAC before it asks, as if it had just
// answered: a packet to it does not wait, and so none overtakes it. What waits for an
// answer (arp_queue of a neighbour) is sent by the CPU that has received that, while
// another may send already. In a full table (gc_thresh3) there is none: the kernel will
// ask. A permanent entry of the administrator's stays as it is.
func (h *Host) SetNeighbor(n Neighbor) error {
	if e, err := h.route.neighbor(n.Ifindex, n.Addr); err == nil && e.owned() {
		return nil
	}
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

// DelNeighbor forgets a neighbour that SetNeighbor told. That there is none is no error.
func (h *Host) DelNeighbor(ifindex int, addr netip.Addr) error {
	if e, err := h.route.neighbor(ifindex, addr); err == nil && e.owned() {
		return nil
	}
	err := h.route.do(unix.RTM_DELNEIGH, 0, &netlink.Ndmsg{Family: uint8(family(addr)), Index: uint32(ifindex)}, attrAddr(netlink.NDA_DST, addr))
	if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("forget neighbour %s on interface %d: %w", addr, ifindex, err)
	}
	return nil
}
