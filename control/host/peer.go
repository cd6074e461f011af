package host

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Peer returns the other end of a veth pair from wherever it is, and whether
// that is the host's own namespace. The error wraps ErrNotFound when index is
// not that of name any more.
//
// It needs no path of the other namespace: the kernel numbers the namespaces of
// peers (IFLA_LINK_NETNSID) and answers questions about links in them by that
// number (IFLA_TARGET_NETNSID).
func (h *Host) Peer(name string, index int) (peer Link, here bool, err error) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	m, err := h.route.get(unix.RTM_GETLINK, unix.RTM_NEWLINK, msg)
	if errors.Is(err, unix.ENODEV) {
		return Link{}, false, fmt.Errorf("interface %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return Link{}, false, fmt.Errorf("interface %s: %w", name, err)
	}
	l, ok := parseLink(m)
	if !ok || l.Name != name || l.Kind != "veth" {
		return Link{}, false, fmt.Errorf("interface %s: %w", name, ErrNotFound)
	}
	netns := int32(-1)
	err = attrs(m, unix.SizeofIfInfomsg, func(typ uint16, v []byte) {
		if typ == unix.IFLA_LINK_NETNSID {
			netns = int32(nl.NativeEndian().Uint32(v))
		}
	})
	if err != nil {
		return Link{}, false, fmt.Errorf("interface %s: %w", name, err)
	}
	if netns < 0 {
		peer, err = h.route.link(name, l.peer)
		return peer, true, err
	}
	msg.Index = int32(l.peer)
	m, err = h.route.get(unix.RTM_GETLINK, unix.RTM_NEWLINK, msg, attr32(unix.IFLA_TARGET_NETNSID, uint32(netns)))
	if err != nil {
		return Link{}, false, fmt.Errorf("other end of interface %s: %w", name, err)
	}
	if peer, ok = parseLink(m); !ok {
		return Link{}, false, fmt.Errorf("other end of interface %s: unreadable answer from the kernel", name)
	}
	return peer, false, nil
}
