package host

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VethSpec describes a container's cable. Zero values are not defaults: every
// field is needed except where it says otherwise.
type VethSpec struct {
	Name     string           // of the host end, 1 to 15 bytes
	Alias    string           // of the host end: says whose it is (IFLA_IFALIAS, up to 255 bytes)
	Ifname   string           // of the container end
	MAC      net.HardwareAddr // of the container end
	MTU      int              // of both ends
	Addrs    []netip.Prefix   // of the container end, address with prefix length; may be empty
	Gateways []netip.Addr     // next hop of the default routes, at most one for each family; may be empty
	// GatewayMAC is that of all Gateways; nil: the container asks.
	GatewayMAC net.HardwareAddr
	Routes     []StaticRoute // of the container end, beside the default routes; may be empty
	NoUSO      bool          // the kernel's virtio_net_hdr has no words for UDP segmentation
	Seal       Seal          // of the host end's ingress; nil: not sealed (tests only)
}

// AddVeth makes a veth pair with one end in ns, whole or not at all, and returns
// the index of the host end. Both ends are up when it returns. The host end has
// no address, no IPv6 and no ARP, and was sealed before it was set up, so that
// no frame of the container ever reached the host's stack.
//
// The container end gets no IPv6 address of its own making when Addrs holds no
// IPv6 address. IPv6 addresses are usable at once (no duplicate address
// detection: they are ours).
//
// The container end segments and sums by itself what a virtio_net_hdr cannot
// describe, above all TCP in a tunnel, and UDP with NoUSO. TCP and otherwise UDP
// segmentation offload stay on.
//
// The error wraps ErrExists when ns has an interface Ifname or the host one of
// Name.
func (h *Host) AddVeth(ns *Netns, s VethSpec) (index int, err error) {
	return h.addVeth(ns, s, (*conn).configure)
}

// AddWaitingVeth is AddVeth for a runtime that moves the container end by itself:
// the end stays in the host's namespace under the name Ifname, down and without
// addresses and routes, which are the runtime's to give. What it carries with it
// into the container's namespace is its MAC, its MTU and its offloads. Addrs and
// Gateways are not used.
func (h *Host) AddWaitingVeth(s VethSpec) (index int, err error) {
	return h.addVeth(h.ns, s, func(*conn, int, VethSpec) error { return nil })
}

func (h *Host) addVeth(ns *Netns, s VethSpec, configure func(in *conn, index int, s VethSpec) error) (index int, err error) {
	if err := s.check(); err != nil {
		return 0, err
	}
	in, err := ns.dial()
	if err != nil {
		return 0, err
	}
	if err := h.addPair(ns, in, s); err != nil {
		return 0, err
	}
	pair, err := h.route.link(s.Name, 0)
	if err == nil {
		if err = h.seal(pair.Index, s); err == nil {
			// Not the host end: what leaves there came with a virtio_net_hdr.
			off := h.undescribable
			if s.NoUSO {
				off = h.undescribableUDP
			}
			in.describable(s.Ifname, off)
			err = configure(in, pair.peer, s)
		}
		if err == nil {
			err = h.route.setLink(pair.Index, unix.IFF_UP, unix.IFF_UP)
		}
		if err == nil {
			return pair.Index, nil
		}
		// The container's end goes with the host's.
		err = errors.Join(err, h.route.delLink(s.Name, pair.Index))
	}
	return 0, fmt.Errorf("interface %s: %w", s.Name, err)
}

func (s *VethSpec) check() error {
	for _, name := range []string{s.Name, s.Ifname} {
		if err := checkIfname(name); err != nil {
			return err
		}
	}
	switch {
	case len(s.Alias) > 255:
		return fmt.Errorf("interface %s: alias is longer than 255 bytes", s.Name)
	case len(s.MAC) != 6 || s.MAC[0]&1 != 0:
		return fmt.Errorf("interface %s: MAC %s is no unicast Ethernet address: choose another with --mac", s.Ifname, s.MAC)
	case s.MTU < 68 || s.MTU > 65535: // ETH_MIN_MTU: what IPv4 needs (RFC 791)
		return fmt.Errorf("interface %s: MTU %d is not between 68 and 65535", s.Ifname, s.MTU)
	}
	for _, p := range s.Addrs {
		if !p.IsValid() {
			return fmt.Errorf("interface %s: invalid address %s", s.Ifname, p)
		}
	}
	for _, gw := range s.Gateways {
		if !gw.IsValid() {
			return fmt.Errorf("interface %s: invalid gateway", s.Ifname)
		}
	}
	return nil
}

// addPair makes both ends with one message, each in its namespace under its
// final name, so that there is never a stray end to find again after a crash.
func (h *Host) addPair(ns *Netns, in *conn, s VethSpec) error {
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Flags, msg.Change = unix.IFF_NOARP, unix.IFF_NOARP
	info := attr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, []byte("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(s.Ifname))
	peer.AddRtAttr(unix.IFLA_ADDRESS, s.MAC)
	peer.AddRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(s.MTU)))
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(ns.fd)))
	err := h.route.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, msg,
		attrString(unix.IFLA_IFNAME, s.Name), attr32(unix.IFLA_MTU, uint32(s.MTU)), info)
	switch {
	case err == nil:
		return nil
	case !errors.Is(err, unix.EEXIST):
		return fmt.Errorf("interface %s: %w", s.Name, err)
	}
	if _, err := in.link(s.Ifname, 0); err == nil {
		return fmt.Errorf("%w: %s in network namespace %s: choose another with --ifname", ErrExists, s.Ifname, ns.path)
	}
	return fmt.Errorf("%w: %s on the host", ErrExists, s.Name)
}

// seal makes the host end deaf: marked as ours first, for whoever cleans up
// after a crash, then shut off from the host's stack.
func (h *Host) seal(index int, s VethSpec) error {
	if err := h.route.setLink(index, 0, 0, attr(unix.IFLA_IFALIAS, []byte(s.Alias))); err != nil {
		return fmt.Errorf("alias: %w", err)
	}
	if err := sysctl(s.Name, "disable_ipv6", "1"); err != nil {
		return err
	}
	if err := h.route.noIPv6(index); err != nil {
		return fmt.Errorf("addr_gen_mode: %w", err)
	}
	if s.Seal == nil {
		return nil
	}
	if err := s.Seal.Attach(index); err != nil {
		return fmt.Errorf("seal: %w", err)
	}
	return nil
}

// configure gives the container's end its addresses and routes. The kernel
// generates a link-local address when the interface comes up, so the choice not to
// comes before.
func (c *conn) configure(index int, s VethSpec) error {
	if !hasIPv6(s.Addrs) {
		if err := c.noIPv6(index); err != nil {
			return fmt.Errorf("addr_gen_mode of %s: %w", s.Ifname, err)
		}
	}
	for _, p := range s.Addrs {
		if err := c.addAddr(index, p); err != nil {
			return fmt.Errorf("%s: %w", s.Ifname, err)
		}
	}
	if err := c.setLink(index, unix.IFF_UP, unix.IFF_UP); err != nil {
		return fmt.Errorf("set %s up: %w", s.Ifname, err)
	}
	for _, gw := range s.Gateways {
		switch err := c.addDefault(index, gw, unix.NLM_F_EXCL); {
		case errors.Is(err, unix.EEXIST):
			return fmt.Errorf("%s: %w: remove it first, or choose an internal network", s.Ifname, ErrHasDefault)
		case err != nil:
			return fmt.Errorf("%s: default route via %s: %w", s.Ifname, gw, err)
		}
		if s.GatewayMAC == nil {
			continue
		}
		if err := c.setNeighbor(Neighbor{index, gw, s.GatewayMAC}); err != nil {
			return fmt.Errorf("%s: neighbour %s: %w", s.Ifname, gw, err)
		}
	}
	for _, r := range s.Routes {
		switch err := c.addStatic(index, r); {
		case errors.Is(err, unix.EEXIST):
			return fmt.Errorf("%s: %w: a route to %s is there already", s.Ifname, err, r.To)
		case err != nil:
			return fmt.Errorf("%s: route to %s: %w", s.Ifname, r, err)
		}
	}
	return nil
}

// SetLoopbackUp sets lo of a namespace up.
func (h *Host) SetLoopbackUp(ns *Netns) error {
	in, err := ns.dial()
	if err != nil {
		return err
	}
	// lo is the first interface of every namespace: net/core/dev.c names its
	// index LOOPBACK_IFINDEX.
	if err := in.setLink(1, unix.IFF_UP, unix.IFF_UP); err != nil {
		return fmt.Errorf("network namespace %s: set lo up: %w", ns.path, err)
	}
	return nil
}

// SetDefaultRoute makes gw the default gateway of its family in ns, in place of
// the one there is.
func (h *Host) SetDefaultRoute(ns *Netns, ifname string, gw netip.Addr) error {
	in, err := ns.dial()
	if err != nil {
		return err
	}
	l, err := in.link(ifname, 0)
	if err != nil {
		return fmt.Errorf("network namespace %s: %w", ns.path, err)
	}
	if err := in.addDefault(l.Index, gw, unix.NLM_F_REPLACE); err != nil {
		return fmt.Errorf("network namespace %s: default route via %s dev %s: %w", ns.path, gw, ifname, err)
	}
	return nil
}
