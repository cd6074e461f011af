package host

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Addr is an address of an interface.
type Addr struct {
	Ifindex int
	Prefix  netip.Prefix // the address with its prefix length, not masked
	// Deprecated and tentative (RFC 4862) addresses are no source for new
	// connections.
	Deprecated bool
	Tentative  bool
}

// Addrs returns the host's addresses of both families.
func (h *Host) Addrs() ([]Addr, error) {
	msgs, err := h.route.dump(unix.RTM_GETADDR, unix.RTM_NEWADDR, nl.NewIfAddrmsg(unix.AF_UNSPEC))
	if err != nil {
		return nil, fmt.Errorf("read the addresses: %w", err)
	}
	addrs := make([]Addr, 0, len(msgs))
	for _, m := range msgs {
		if a, ok := parseAddr(m); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

// parseAddr reads an ifaddrmsg (rtnetlink(7)).
func parseAddr(m []byte) (Addr, bool) {
	if len(m) < unix.SizeofIfAddrmsg {
		return Addr{}, false
	}
	msg := nl.DeserializeIfAddrmsg(m)
	if msg.Family != unix.AF_INET && msg.Family != unix.AF_INET6 {
		return Addr{}, false
	}
	var address, local netip.Addr
	flags := uint32(msg.IfAddrmsg.Flags)
	err := attrs(m, unix.SizeofIfAddrmsg, func(typ uint16, v []byte) {
		switch typ {
		case unix.IFA_ADDRESS:
			address = addrOf(v)
		case unix.IFA_LOCAL:
			local = addrOf(v)
		case unix.IFA_FLAGS:
			flags = nl.NativeEndian().Uint32(v)
		}
	})
	if local.IsValid() { // on a point-to-point link IFA_ADDRESS is the other side's
		address = local
	}
	if err != nil || !address.IsValid() {
		return Addr{}, false
	}
	return Addr{
		Ifindex:    int(msg.Index),
		Prefix:     netip.PrefixFrom(address, int(msg.Prefixlen)),
		Deprecated: flags&unix.IFA_F_DEPRECATED != 0,
		Tentative:  flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) != 0 && flags&unix.IFA_F_OPTIMISTIC == 0,
	}, true
}

func addrMessage(index int, p netip.Prefix) []nl.NetlinkRequestData {
	msg := nl.NewIfAddrmsg(family(p.Addr()))
	msg.Index, msg.Prefixlen = uint32(index), uint8(p.Bits())
	return []nl.NetlinkRequestData{msg, attrAddr(unix.IFA_LOCAL, p.Addr()), attrAddr(unix.IFA_ADDRESS, p.Addr())}
}

// addAddr gives an interface an address. Nobody else has it, so an IPv6 one
// skips duplicate address detection, which would keep it unusable for a second.
func (c *conn) addAddr(index int, p netip.Prefix) error {
	parts := addrMessage(index, p)
	if p.Addr().Is6() {
		parts = append(parts, attr32(unix.IFA_FLAGS, unix.IFA_F_NODAD))
	} else if p.Bits() < 31 {
		parts = append(parts, attrAddr(unix.IFA_BROADCAST, lastAddr(p)))
	}
	if err := c.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, parts...); err != nil {
		return fmt.Errorf("address %s: %w", p, err)
	}
	return nil
}

// lastAddr is the directed broadcast address of an IPv4 subnet.
func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}

// replaceAddrs makes addrs the addresses of an interface. Link-local IPv6
// addresses are the kernel's own and stay.
func (h *Host) replaceAddrs(index int, addrs []netip.Prefix) error {
	have, err := h.Addrs()
	if err != nil {
		return err
	}
	for _, a := range have {
		if a.Ifindex != index || slices.Contains(addrs, a.Prefix) || a.Prefix.Addr().Is6() && a.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		err := h.route.do(unix.RTM_DELADDR, 0, addrMessage(index, a.Prefix)...)
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("remove address %s: %w", a.Prefix, err)
		}
	}
	for _, p := range addrs {
		if err := h.route.addAddr(index, p); err != nil {
			return err
		}
	}
	return nil
}

// Readdress gives an interface back which of its addresses it has lost, and returns them.
func (h *Host) Readdress(index int, addrs []netip.Prefix) (lost []netip.Prefix, err error) {
	have, err := h.Addrs()
	if err != nil {
		return nil, err
	}
	for _, p := range addrs {
		if slices.ContainsFunc(have, func(a Addr) bool { return a.Ifindex == index && a.Prefix == p }) {
			continue
		}
		if err := h.route.addAddr(index, p); err != nil {
			return lost, err
		}
		lost = append(lost, p)
	}
	return lost, nil
}
