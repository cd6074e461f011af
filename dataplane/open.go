package dataplane

import "github.com/vswitch/vswitch/dataplane/header"

// open lets the outside reach ports of a container in a routed network at the
// container's own address.
func (s *Snapshot) open(proto uint8, a header.Addr, ports PortRange) {
	if s.opened == nil {
		s.opened = make(map[publishKey][]PortRange)
	}
	k := publishKey{a, proto}
	s.opened[k] = append(s.opened[k], ports)
}

// welcomes reports whether the first packet of a flow may come in by an uplink to
// an address of a routed network as it is: to an opened port, or with an ICMP
// query. Everything else is closed, as behind masquerade.
func (s *Snapshot) welcomes(t *header.Tuple) bool {
	h := s.hosts[t.Dst]
	if h == nil || h.network.Internal || h.network.Modes[family(t.Dst)] != GatewayRouted {
		return false
	}
	switch t.Proto {
	case header.ProtoICMP, header.ProtoICMPv6:
		return t.DstPort == 0 // the side that asks
	}
	for _, r := range s.opened[publishKey{t.Dst, t.Proto}] {
		if r.First <= t.DstPort && t.DstPort <= r.Last {
			return true
		}
	}
	return false
}
