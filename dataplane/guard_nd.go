package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// admitND lets a container speak of its own addresses and be no router (RFC
// 6105). Parse has walked the extension headers and refused first fragments
// that hide the ICMPv6 header behind them (RFC 7112); a later fragment is
// nothing without its first. Neighbour discovery is never fragmented (RFC 6980).
func admitND(f *frame.Frame, in *portConfig) DropReason {
	l := &f.Layers
	if l.Flags&header.FlagIPv6 == 0 || l.Flags&header.FlagFragment != 0 {
		return NotDropped
	}
	if l.L4 == 0 {
		return DropUnreadable // behind a source route
	}
	switch l.ICMPType {
	case header.ICMP6RouterAdvert, header.ICMP6Redirect:
		return DropRouterMessage
	case header.ICMP6RouterSolicit, header.ICMP6NeighborSolicit, header.ICMP6NeighborAdvert:
	default:
		return NotDropped
	}
	if l.Flags&header.FlagFirstFragment != 0 {
		return DropSpoofedND
	}
	var n header.Neighbor
	if !header.ReadNeighbor(f.Data(), l, &n) || n.HasLinkAddr && n.LinkAddr != in.MAC {
		return DropSpoofedND
	}
	switch {
	case l.ICMPType == header.ICMP6NeighborAdvert && !in.own.has(&n.Target):
		return DropSpoofedND // also the answer to everybody's duplicate address detection
	case l.ICMPType == header.ICMP6NeighborSolicit && l.Tuple.Src.IsUnspecified():
		// A station in duplicate address detection gives up an address that it
		// hears another ask for (RFC 4862 5.4.3).
		if n.HasLinkAddr || !in.own.has(&n.Target) {
			return DropSpoofedND
		}
	}
	return NotDropped
}
