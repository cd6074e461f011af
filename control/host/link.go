package host

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Link is an interface of the host.
type Link struct {
	Index    int
	Name     string
	Alias    string
	Kind     string // "veth", "tun", "bridge", ...; "" for a NIC and for lo
	MAC      net.HardwareAddr
	MTU      int
	Up       bool // set up by its administrator
	Running  bool // and has a carrier, which shows here up to a second later
	Carrier  bool // has one now
	XDP      bool // an XDP program is attached
	Ethernet bool // speaks Ethernet (ARPHRD_ETHER); lo does not
	Packets  bool // speaks IP without a header of the link (ARPHRD_NONE): tun, WireGuard

	peer    int // IFLA_LINK: the other end of a veth, in the other end's namespace
	mostMTU int // IFLA_MAX_MTU, 0: unlimited
}

// Links returns the host's interfaces by rising index.
func (h *Host) Links() ([]Link, error) {
	if r := h.once.Load(); r != nil {
		links, err := r.links()
		return slices.Clone(links), err
	}
	msgs, err := h.route.readAllLinks()
	return parseLinks(msgs), err
}

func parseLinks(msgs [][]byte) []Link {
	links := make([]Link, 0, len(msgs))
	for _, m := range msgs {
		if l, ok := parseLink(m); ok {
			links = append(links, l)
		}
	}
	slices.SortFunc(links, func(a, b Link) int { return a.Index - b.Index })
	return links
}

// Link returns one interface by name; the error wraps ErrNotFound.
func (h *Host) Link(name string) (Link, error) { return h.route.link(name, 0) }

// link looks an interface up by index or, if that is 0, by name.
func (c *conn) link(name string, index int) (Link, error) {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	parts := []nl.NetlinkRequestData{msg}
	if index == 0 {
		if err := checkIfname(name); err != nil {
			return Link{}, fmt.Errorf("%w: %w", ErrNotFound, err)
		}
		parts = append(parts, attrString(unix.IFLA_IFNAME, name))
	}
	m, err := c.get(unix.RTM_GETLINK, unix.RTM_NEWLINK, parts...)
	if errors.Is(err, unix.ENODEV) {
		return Link{}, fmt.Errorf("interface %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return Link{}, fmt.Errorf("interface %s: %w", name, err)
	}
	l, ok := parseLink(m)
	if !ok {
		return Link{}, fmt.Errorf("interface %s: unreadable answer from the kernel", name)
	}
	return l, nil
}

// parseLink reads an ifinfomsg (rtnetlink(7)). It refuses messages of family
// AF_BRIDGE: they tell of bridge ports, and one that leaves its bridge is an
// RTM_DELLINK although the interface stays.
func parseLink(m []byte) (Link, bool) {
	if len(m) < unix.SizeofIfInfomsg {
		return Link{}, false
	}
	msg := nl.DeserializeIfInfomsg(m)
	if msg.Family != unix.AF_UNSPEC {
		return Link{}, false
	}
	l := Link{
		Index:    int(msg.Index),
		Up:       msg.Flags&unix.IFF_UP != 0,
		Running:  msg.Flags&unix.IFF_RUNNING != 0,
		Ethernet: msg.Type == unix.ARPHRD_ETHER,
		Packets:  msg.Type == unix.ARPHRD_NONE,
	}
	err := attrs(m, unix.SizeofIfInfomsg, func(typ uint16, v []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = text(v)
		case unix.IFLA_IFALIAS:
			l.Alias = text(v)
		case unix.IFLA_ADDRESS:
			l.MAC = slices.Clone(v)
		case unix.IFLA_MTU:
			l.MTU = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_MAX_MTU:
			l.mostMTU = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_LINK:
			l.peer = int(nl.NativeEndian().Uint32(v))
		case unix.IFLA_CARRIER:
			l.Carrier = len(v) > 0 && v[0] != 0
		case unix.IFLA_XDP:
			_ = attrs(v, 0, func(typ uint16, v []byte) {
				if typ == nl.IFLA_XDP_ATTACHED && len(v) > 0 {
					l.XDP = v[0] != nl.XDP_ATTACHED_NONE
				}
			})
		case unix.IFLA_LINKINFO:
			_ = attrs(v, 0, func(typ uint16, v []byte) {
				if typ == nl.IFLA_INFO_KIND {
					l.Kind = text(v)
				}
			})
		}
	})
	return l, err == nil
}

// checkIfname repeats the kernel's rule (dev_valid_name).
func checkIfname(name string) error {
	switch {
	case name == "":
		return errors.New("an interface needs a name")
	case len(name) >= unix.IFNAMSIZ:
		return fmt.Errorf("interface name %q is longer than 15 bytes: choose a shorter one", name)
	case name == ".", name == "..", strings.ContainsAny(name, "/: \t\n\v\f\r"):
		return fmt.Errorf("interface name %q has a character that the kernel refuses: choose another", name)
	}
	return nil
}

// setLink changes an interface: flags in mask become as in flags, and what
// parts say. The kernel works through attributes in its own order, flags before
// IPv6 settings.
func (c *conn) setLink(index int, flags, mask uint32, parts ...nl.NetlinkRequestData) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index, msg.Flags, msg.Change = int32(index), flags, mask
	return c.do(unix.RTM_SETLINK, 0, append([]nl.NetlinkRequestData{msg}, parts...)...)
}

// SetAlias gives an interface another alias.
func (h *Host) SetAlias(index int, alias string) error {
	if err := h.route.setLink(index, 0, 0, attr(unix.IFLA_IFALIAS, []byte(alias))); err != nil {
		return fmt.Errorf("alias of interface %d: %w", index, err)
	}
	return nil
}

// noIPv6 keeps the kernel from making up IPv6 addresses for an interface
// (addr_gen_mode none). An interface that does no IPv6, because its MTU is under
// 1280 or the kernel has none, needs no such order: EAFNOSUPPORT.
func (c *conn) noIPv6(index int) error {
	spec := attr(unix.IFLA_AF_SPEC, nil)
	spec.AddRtAttr(unix.AF_INET6, nil).AddRtAttr(unix.IFLA_INET6_ADDR_GEN_MODE, nl.Uint8Attr(nl.IN6_ADDR_GEN_MODE_NONE))
	err := c.setLink(index, 0, 0, spec)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil
	}
	return err
}

// SetupTAP gives an existing TAP device its alias, MAC, MTU and addresses and
// sets it up. Addresses of the device that are not in addrs are removed. When
// addrs holds no IPv6 address the device does no IPv6.
func (h *Host) SetupTAP(name, alias string, mac net.HardwareAddr, mtu int, addrs []netip.Prefix) (index int, err error) {
	l, err := h.route.link(name, 0)
	if err != nil {
		return 0, err
	}
	if err := h.setupTAP(l, alias, mac, mtu, addrs); err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return l.Index, nil
}

func (h *Host) setupTAP(l Link, alias string, mac net.HardwareAddr, mtu int, addrs []netip.Prefix) error {
	for _, p := range addrs {
		if !p.IsValid() {
			return fmt.Errorf("invalid address %s", p)
		}
	}
	set := []nl.NetlinkRequestData{attr(unix.IFLA_IFALIAS, []byte(alias)), attr32(unix.IFLA_MTU, uint32(mtu))}
	if !bytes.Equal(l.MAC, mac) {
		// Also with the address that it has the kernel would forget all neighbours there
		// (NETDEV_CHANGEADDR), and nobody answers when it asks for them before all is restored.
		set = append(set, attr(unix.IFLA_ADDRESS, mac))
	}
	if err := h.route.setLink(l.Index, 0, 0, set...); err != nil {
		return err
	}
	if hasIPv6(addrs) {
		// A container must not become the host's router by sending router
		// advertisements (CVE-2020-13401).
		if err := sysctl(l.Name, "disable_ipv6", "0"); err != nil {
			return err
		}
		if err := sysctl(l.Name, "accept_ra", "0"); err != nil {
			return err
		}
	} else if err := sysctl(l.Name, "disable_ipv6", "1"); err != nil {
		return err
	}
	// So that WayOut may be asked about what comes from there. The host forwards nothing for it:
	// the switch sends it what is for the host, and of IPv6 it is not needed.
	if err := sysctlOf("ipv4", l.Name, "forwarding", "1"); err != nil {
		return err
	}
	if err := h.replaceAddrs(l.Index, addrs); err != nil {
		return err
	}
	return h.route.setLink(l.Index, unix.IFF_UP, unix.IFF_UP)
}

func hasIPv6(addrs []netip.Prefix) bool {
	return slices.ContainsFunc(addrs, func(p netip.Prefix) bool { return p.Addr().Is6() })
}
