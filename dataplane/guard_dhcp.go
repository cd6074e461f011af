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

// admitDHCP keeps a container from being a DHCP server (RFC 7610): nothing else
// sends to a client's port. What cannot be read is dropped.
func admitDHCP(f *frame.Frame) DropReason {
	l := &f.Layers
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
