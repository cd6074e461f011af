package conntrack

import (
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// Selector names tracked flows by values. A zero field leaves no flow out, so that the
// zero Selector names all.
type Selector struct {
	Ports []frame.PortID // the container's port is one of these; nil: any
	// Targets are addresses of that port: what other containers have sent there by the
	// host's address (KindHairpin) is selected with it.
	Targets []netip.Addr
	Protos  []uint8 // of IP; nil: any
	Kinds   Kinds
	// To holds the address that the first packet was sent to; the zero Prefix: any.
	To netip.Prefix
	// ToPorts holds the port that the first packet was sent to; zero: any.
	ToPorts PortRange
	// Slot is that of the host's address which it leaves with, or came in by as a
	// stranger's; 0: any.
	Slot int
	// At is the address of the host which it leaves with, or came in by; invalid: any.
	At netip.Addr
	// Overtaken has the UDP ports that programs of the host hold as well; nil: any.
	Overtaken *BusyPorts
	// HostUses has the peers that the host itself uses; nil: any.
	HostUses HostPeers
}

// Kinds is a set of kinds, one bit each. The zero set is that of all kinds.
type Kinds uint8

// AllBut is the set of the kinds that are not named.
func AllBut(kinds ...Kind) (s Kinds) {
	for k := range KindBridged {
		if !slices.Contains(kinds, k) {
			s |= 1 << k
		}
	}
	return s
}

// Only is the set of the kinds that are named.
func Only(kinds ...Kind) (s Kinds) {
	for _, k := range kinds {
		s |= 1 << k
	}
	return s
}

// at is the address of the host which the flow leaves with, or came in by.
func (c *Conn) at() netip.Addr {
	switch c.Kind {
	case KindMasquerade:
		return c.Reply.Dst.NetIP()
	case KindPublish, KindInbound:
		return c.Orig.Dst.NetIP()
	}
	return netip.Addr{}
}

// has reports whether a flow is one that s names. The flow's shard is locked.
func (s *Selector) has(c *Conn) bool {
	o := &c.Orig
	return (s.Ports == nil || slices.Contains(s.Ports, c.Port) || c.Kind == KindHairpin && slices.Contains(s.Targets, c.Reply.Src.NetIP())) &&
		(s.Protos == nil || slices.Contains(s.Protos, o.Proto)) &&
		(s.Kinds == 0 || s.Kinds>>c.Kind&1 == 1) &&
		(!s.To.IsValid() || s.To.Contains(o.Dst.NetIP())) &&
		(s.ToPorts == PortRange{} || s.ToPorts.First <= o.DstPort && o.DstPort <= s.ToPorts.Last) &&
		(s.Slot == 0 || int(c.Slot) == s.Slot && (c.claims() || c.Kind == KindInbound)) &&
		(!s.At.IsValid() || c.at() == s.At) &&
		(s.Overtaken == nil || s.Overtaken.overtakes(c)) &&
		(s.HostUses == nil || c.claims() && s.HostUses.takes(c.peer()))
}
