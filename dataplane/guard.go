package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// guard holds back what may not enter at its port: addresses that no station
// can have, those that a guarded container was not given, and frames from the
// host's side that are not the host's own. The uplink's frames were chosen by a
// socket filter and go by.
func (w *worker) guard(s *Snapshot) {
	keep := w.live[:0]
	for _, f := range w.live {
		if why := admit(f, s.ports[f.In], s); why != NotDropped {
			w.tellGuard(s, f, why)
			w.drop(f, why)
			continue
		}
		keep = append(keep, f)
	}
	w.live = keep
}

// admit decides about one frame.
func admit(f *frame.Frame, in *portConfig, s *Snapshot) DropReason {
	l := &f.Layers
	switch {
	case in.Kind == PortUplink:
		return admitUplink(l, s)
	case in.Kind == PortHost && l.Src.IsZero():
		return DropNotFromHost // the kernel's side says so
	case l.Src.IsMulticast() || l.Src.IsZero():
		return DropBadSource
	case l.Dst.IsReserved():
		return DropReservedGroup
	case l.EtherType == header.TypeIPv6 && !in.network.ipv6:
		return DropNoIPv6
	case in.Kind == PortHost:
		return admitHost(f, in, s)
	case l.Src == in.network.GatewayMAC:
		return DropSpoofedMAC
	case !in.Guarded:
		return NotDropped
	case l.Src != in.MAC:
		return DropSpoofedMAC
	}
	return admitContainer(f, in, s)
}

// admitUplink passes what a socket filter has chosen, unless its source is an address of
// ours: nobody beyond an uplink speaks from one (BCP 38). The host's own packets to its other
// addresses never leave it.
func admitUplink(l *header.Layers, s *Snapshot) DropReason {
	if l.Kind >= header.KindIP && s.ours.has(&l.Tuple.Src) {
		return DropForgedSource
	}
	return NotDropped
}

// ours reports whether the addresses of a route are the host's or of a network's subnet.
func (r *route) ours() bool {
	return r != nil && (r.Kind == RouteLocal || r.Kind == routeNetwork)
}

// admitHost passes the host's own packets only. With ip_forward on, the kernel
// would also route a LAN neighbour's packets to a container's address, past
// every published port (the direct routing of moby#45610). The program at the
// TAP's egress, which sees where a frame came from, takes the source MAC address
// from those; here is what can be told by addresses.
func admitHost(f *frame.Frame, in *portConfig, s *Snapshot) DropReason {
	l := &f.Layers
	if l.Src != in.network.GatewayMAC {
		return DropSpoofedMAC
	}
	if l.Kind < header.KindIP || l.Tuple.Src.IsUnspecified() || l.Tuple.Src.IsLinkLocal() {
		return NotDropped // DHCP, DAD, neighbour discovery
	}
	if r := s.lookup(l.Tuple.Src); r == nil || r.Kind != RouteLocal {
		return DropNotFromHost
	}
	return NotDropped
}

// admitContainer holds a container to the addresses it was given (BCP 38). The
// protocols that speak for an address in their payload are looked at further.
func admitContainer(f *frame.Frame, in *portConfig, s *Snapshot) DropReason {
	l := &f.Layers
	if l.Kind < header.KindIP {
		if l.EtherType == header.TypeARP {
			return admitARP(f, in)
		}
		return NotDropped
	}
	if !in.own.has(&l.Tuple.Src) && !speaksWithoutAddress(l) {
		return DropSpoofedIP
	}
	switch l.Tuple.Proto {
	case header.ProtoICMPv6:
		return admitND(f, in)
	case header.ProtoUDP:
		return admitDHCP(f, in, s)
	}
	return NotDropped
}

// speaksWithoutAddress reports whether a packet comes from the unspecified
// address and is of a kind that must: a DHCP client's, a membership report
// (RFC 3376 4.2.13, RFC 3810 5.2.13), duplicate address detection or a router
// solicitation (RFC 4861 4.1).
func speaksWithoutAddress(l *header.Layers) bool {
	if !l.Tuple.Src.IsUnspecified() || l.Flags&header.FlagFragment != 0 {
		return false
	}
	switch l.Tuple.Proto {
	case header.ProtoUDP:
		return l.Tuple.SrcPort == dhcpClient && l.Tuple.DstPort == dhcpServer
	case header.ProtoIGMP:
		return true
	case header.ProtoICMPv6:
		switch l.ICMPType {
		case header.ICMP6RouterSolicit, header.ICMP6NeighborSolicit, header.MLDReport, header.MLDv2Report:
			return l.L4 != 0
		}
	}
	return false
}

// owned are the addresses of a port. Almost always there is one of each family,
// which costs one comparison.
type owned struct {
	first     [2]header.Addr // IPv4, IPv6
	more      []header.Addr
	linkLocal header.Addr
}

func (o *owned) add(a header.Addr) {
	if p := &o.first[family(a)]; *p == (header.Addr{}) {
		*p = a
		return
	}
	o.more = append(o.more, a)
}

// has reports whether a port may speak from an address.
func (o *owned) has(a *header.Addr) bool {
	if *a == o.first[0] || *a == o.first[1] || *a == o.linkLocal {
		return *a != (header.Addr{}) // where there is none
	}
	for i := range o.more {
		if *a == o.more[i] {
			return true
		}
	}
	return false
}

// linkLocal is the IPv6 address that follows from a MAC address (RFC 4291,
// appendix A), the zero Addr for none.
func linkLocal(m header.MAC) header.Addr {
	if m.IsZero() {
		return header.Addr{}
	}
	return header.Addr{
		0: 0xfe, 1: 0x80, 8: m[0] ^ 2, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5],
	}
}
