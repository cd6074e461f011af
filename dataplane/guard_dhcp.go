package dataplane

import (
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

const (
	dhcpServer  = 67
	dhcpClient  = 68
	dhcp6Client = 546
)

// admitDHCP keeps a container from being a DHCP server of its neighbours (RFC 7610): nothing else
// sends to a client's port. Messages out of our networks by the gateway are routed like all else,
// as the answer to a renewal that came by a published port. What cannot be read is dropped.
func admitDHCP(f *frame.Frame, in *portConfig, s *Snapshot) DropReason {
	l := &f.Layers
	if l.Dst == in.network.GatewayMAC {
		if r := s.lookup(l.Tuple.Dst); r == nil || r.Kind != routeNetwork {
			return NotDropped
		}
	}
	switch {
	case l.Flags&header.FlagFragment != 0:
		return NotDropped // nothing without its first
	case l.Kind != header.KindL4:
		return DropUnreadable
	case l.Flags&header.FlagIPv6 == 0 && l.Tuple.DstPort == dhcpClient,
		l.Flags&header.FlagIPv6 != 0 && l.Tuple.DstPort == dhcp6Client:
		return DropDHCPServer
	}
	return NotDropped
}
