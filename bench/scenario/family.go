package scenario

import (
	"net/netip"

	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// inIPv6 has the main rows of a path by IPv6.
func inIPv6(s Scenario) Scenario {
	four := s.ends
	s.Name, s.Title, s.Others = s.Name+", IPv6", s.Title+", IPv6", nil
	s.Long = true
	var loads []Load
	for _, l := range s.Loads {
		if l.place == oneCPU && l.Others {
			l.Quick = false
			loads = append(loads, l)
		}
	}
	s.Loads = loads
	s.ends = func(r *rig.Rig) (ends, error) {
		e, err := four(r)
		switch e.server {
		case r.B.Addr:
			e.server = r.B.Addr6
		case netip.MustParseAddr(netlab.HostAddr):
			e.server = netip.MustParseAddr(netlab.HostAddr6)
		case netip.MustParseAddr(netlab.FarAddr):
			e.server = netip.MustParseAddr(netlab.FarAddr6)
		}
		e.frames = nil
		return e, err
	}
	return s
}
