package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Veth makes a pair of veth devices, one end in a and the other in b (which may
// be the same namespace), both down. An mtu of 0 means 1500.
func Veth(a *NS, aName string, b *NS, bName string, mtu int) error {
	if mtu == 0 {
		mtu = 1500
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = aName, mtu
	attrs.Namespace = netlink.NsFd(a.fd)
	err := a.nl.LinkAdd(&netlink.Veth{
		LinkAttrs: attrs, PeerName: bName, PeerMTU: uint32(mtu),
		PeerNamespace: netlink.NsFd(b.fd),
	})
	if err != nil {
		return fmt.Errorf("veth %s:%s to %s:%s: %w", a.name, aName, b.name, bName, err)
	}
	return nil
}

// Bridge makes a kernel bridge and puts the ports under it; all of them are set
// up.
func (n *NS) Bridge(name string, ports ...string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	br := &netlink.Bridge{LinkAttrs: attrs}
	if err := n.nl.LinkAdd(br); err != nil {
		return n.wrap("bridge "+name, err)
	}
	for _, p := range ports {
		err := n.onLink(p, "bridge "+name, func(l netlink.Link) error { return n.nl.LinkSetMaster(l, br) })
		if err := errors.Join(err, n.SetUp(p)); err != nil {
			return err
		}
	}
	return n.SetUp(name)
}

// SetMaster puts a device under a bridge.
func (n *NS) SetMaster(ifname, bridge string) error {
	return n.onLink(ifname, "set master "+bridge, func(l netlink.Link) error {
		br, err := n.nl.LinkByName(bridge)
		if err != nil {
			return err
		}
		return n.nl.LinkSetMaster(l, br)
	})
}

// DelLink removes a device.
func (n *NS) DelLink(ifname string) error { return n.onLink(ifname, "delete", n.nl.LinkDel) }

// Move puts an interface into another namespace under another name, as Docker does
// with what a network driver made: it is down there and without addresses.
func (n *NS) Move(ifname string, to *NS, as string) error {
	err := n.onLink(ifname, "move", func(l netlink.Link) error { return n.nl.LinkSetNsFd(l, to.fd) })
	if err != nil {
		return err
	}
	return to.onLink(ifname, "rename", func(l netlink.Link) error { return to.nl.LinkSetName(l, as) })
}

// SetUp sets a device up.
func (n *NS) SetUp(ifname string) error { return n.onLink(ifname, "set up", n.nl.LinkSetUp) }

// SetDown sets a device down.
func (n *NS) SetDown(ifname string) error { return n.onLink(ifname, "set down", n.nl.LinkSetDown) }

// SetMAC sets a device's Ethernet address.
func (n *NS) SetMAC(ifname, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return n.wrap(ifname, err)
	}
	return n.onLink(ifname, "set address", func(l netlink.Link) error {
		return n.nl.LinkSetHardwareAddr(l, hw)
	})
}

// MAC returns a device's Ethernet address.
func (n *NS) MAC(ifname string) (mac net.HardwareAddr, err error) {
	err = n.onLink(ifname, "address", func(l netlink.Link) error {
		mac = l.Attrs().HardwareAddr
		return nil
	})
	return mac, err
}

// Index returns a device's interface index.
func (n *NS) Index(ifname string) (index int, err error) {
	err = n.onLink(ifname, "index", func(l netlink.Link) error {
		index = l.Attrs().Index
		return nil
	})
	return index, err
}

// Statistics returns a device's counters, owned by the caller.
func (n *NS) Statistics(ifname string) (s netlink.LinkStatistics, err error) {
	err = n.onLink(ifname, "statistics", func(l netlink.Link) error {
		s = *l.Attrs().Statistics
		return nil
	})
	return s, err
}

// Links returns the names of all devices, lo included, in the kernel's order.
func (n *NS) Links() ([]string, error) {
	links, err := n.nl.LinkList()
	if err != nil {
		return nil, n.wrap("list links", err)
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.Attrs().Name
	}
	return names, nil
}

// AddAddr gives a device an address in CIDR form. IPv6 addresses are usable at
// once: duplicate address detection is off for them.
func (n *NS) AddAddr(ifname, cidr string) error {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return n.wrap(ifname, err)
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD
	}
	return n.onLink(ifname, "add address "+cidr, func(l netlink.Link) error {
		return n.nl.AddrAdd(l, addr)
	})
}

// DelAddr takes an address in CIDR form from a device.
func (n *NS) DelAddr(ifname, cidr string) error {
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return n.wrap(ifname, err)
	}
	return n.onLink(ifname, "delete address "+cidr, func(l netlink.Link) error {
		return n.nl.AddrDel(l, addr)
	})
}

// AddRoute adds a route to dst, a prefix or "default" (of via's family), through
// the gateway via or, when via is empty, directly on dev. dev may be empty when
// via says it.
func (n *NS) AddRoute(dst, via, dev string) error {
	what := fmt.Sprintf("add route %s via %q dev %q", dst, via, dev)
	r, err := n.route(dst, via, dev)
	if err != nil {
		return n.wrap(what, err)
	}
	return n.wrap(what, n.nl.RouteAdd(r))
}

// DelRoute removes a route that AddRoute made with the same arguments.
func (n *NS) DelRoute(dst, via, dev string) error {
	what := fmt.Sprintf("delete route %s via %q dev %q", dst, via, dev)
	r, err := n.route(dst, via, dev)
	if err != nil {
		return n.wrap(what, err)
	}
	return n.wrap(what, n.nl.RouteDel(r))
}

func (n *NS) route(dst, via, dev string) (*netlink.Route, error) {
	r := &netlink.Route{}
	if via != "" {
		gw, err := netip.ParseAddr(via)
		if err != nil {
			return nil, err
		}
		r.Gw = gw.AsSlice()
	} else {
		r.Scope = netlink.SCOPE_LINK
	}
	if dst == "default" {
		dst = "0.0.0.0/0"
		if r.Gw != nil && r.Gw.To4() == nil {
			dst = "::/0"
		}
	}
	p, err := netip.ParsePrefix(dst)
	if err != nil {
		return nil, err
	}
	p = p.Masked()
	r.Dst = &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
	if dev != "" {
		l, err := n.nl.LinkByName(dev)
		if err != nil {
			return nil, err
		}
		r.LinkIndex = l.Attrs().Index
	}
	return r, nil
}

// AddNeighbor enters a permanent neighbour.
func (n *NS) AddNeighbor(ifname, addr, mac string) error {
	hw, err := net.ParseMAC(mac)
	if err != nil {
		return n.wrap(ifname, err)
	}
	return n.onLink(ifname, "add neighbour "+addr, func(l netlink.Link) error {
		return n.nl.NeighSet(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, IP: net.ParseIP(addr), HardwareAddr: hw,
			State: netlink.NUD_PERMANENT,
		})
	})
}

// DelNeighbor removes a neighbour.
func (n *NS) DelNeighbor(ifname, addr string) error {
	return n.onLink(ifname, "delete neighbour "+addr, func(l netlink.Link) error {
		return n.nl.NeighDel(&netlink.Neigh{LinkIndex: l.Attrs().Index, IP: net.ParseIP(addr)})
	})
}

// Neighbor is the state (NUD_*) and MAC of a neighbour; 0 and "" when it is not known.
func (n *NS) Neighbor(ifname, addr string) (state int, mac string, err error) {
	err = n.onLink(ifname, "neighbour "+addr, func(l netlink.Link) error {
		list, err := n.nl.NeighList(l.Attrs().Index, netlink.FAMILY_ALL)
		for _, e := range list {
			if e.IP.Equal(net.ParseIP(addr)) {
				state, mac = e.State, e.HardwareAddr.String()
			}
		}
		return err
	})
	return state, mac, err
}

// Sysctl writes a value below /proc/sys/net: "ipv4.ip_forward". Dots within an
// interface name cannot be expressed; use slashes then.
func (n *NS) Sysctl(key, value string) error {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	return n.Do(func() error {
		err := os.WriteFile(filepath.Join("/proc/sys/net", key), []byte(value), 0)
		return n.wrap("sysctl "+key, err)
	})
}

// SetSuper lets a device make and gather super-packets of so many bytes, of both families.
func (n *NS) SetSuper(ifname string, size int) error {
	for _, set := range []func(netlink.Link, int) error{
		n.nl.LinkSetGSOMaxSize, n.nl.LinkSetGROMaxSize, n.nl.LinkSetGSOIPv4MaxSize, n.nl.LinkSetGROIPv4MaxSize,
	} {
		if err := n.onLink(ifname, "set the size of super-packets", func(l netlink.Link) error { return set(l, size) }); err != nil {
			return err
		}
	}
	return nil
}

// SetOffloads switches checksum and segmentation offload of what a device
// sends, as `ethtool -K tx on|off sg .. tso .. gso ..` does.
func (n *NS) SetOffloads(ifname string, on bool) error {
	value := struct{ cmd, data uint32 }{}
	if on {
		value.data = 1
	}
	ifr := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(ifr.name[:], ifname)
	return n.Do(func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return n.wrap("offloads", err)
		}
		defer unix.Close(s)
		for _, value.cmd = range []uint32{
			unix.ETHTOOL_STXCSUM, unix.ETHTOOL_SSG, unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO,
		} {
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
			if errno != 0 {
				return n.wrap(ifname+": offloads", errno)
			}
		}
		return nil
	})
}

func (n *NS) onLink(ifname, what string, fn func(netlink.Link) error) error {
	l, err := n.nl.LinkByName(ifname)
	if err == nil {
		err = fn(l)
	}
	return n.wrap(ifname+": "+what, err)
}
