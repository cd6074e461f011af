package underlay

import (
	"net/netip"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane"
)

// Way answers what the switch asks where no table of routes alone says it: where the kernel would
// forward a container's packet, or by which uplink the host would answer from an address of its own.
func (u *Underlay) Way(k dataplane.WayKey) dataplane.RouteConfig {
	v := u.Now()
	dst := k.Dst.NetIP()
	q := host.WayQuery{Src: k.Src.NetIP(), Dst: dst}
	byIndex := make(map[int]*Uplink, len(v.Uplinks))
	for i := range v.Uplinks {
		byIndex[v.Uplinks[i].Link.Index] = &v.Uplinks[i]
		if k.Network == 0 && v.Uplinks[i].Port == k.Uplink {
			q.Out = v.Uplinks[i].Link.Index
		}
	}
	if k.Network != 0 {
		if q.In = u.cfg.Device(k.Network); q.In == 0 {
			return dataplane.RouteConfig{Prefix: netip.PrefixFrom(dst, dst.BitLen())}
		}
	}
	r, err := u.cfg.Edge.WayOut(q)
	if err == nil && r.Kind == host.Unreachable && q.Out != 0 {
		q.Out = 0 // as the host's own answer, which no socket binds to an interface
		r, err = u.cfg.Edge.WayOut(q)
	}
	if err != nil {
		u.cfg.Log.Warn("a way out is not known", "err", err)
		r.Kind = host.Unreachable
	}
	var slots map[netip.Addr]int
	if len(v.Configs) > 0 {
		slots = v.Configs[0].Slots
	}
	r.Prefix = netip.PrefixFrom(dst, dst.BitLen())
	rc, ok := routeConfig(r, byIndex, nil, slots)
	if !ok {
		rc.Kind = dataplane.RouteUnreachable
	}
	return rc
}
