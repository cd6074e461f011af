package underlay

import (
	"net/netip"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Way answers what the switch asks where no table of routes alone says it: where the kernel would
// forward a container's packet, by which uplink the host would answer from an address of its own, or
// where the way leads that a container has chosen.
func (u *Underlay) Way(k dataplane.WayKey) dataplane.RouteConfig {
	v := u.Now()
	dst := k.Dst.NetIP()
	none := dataplane.RouteConfig{Prefix: netip.PrefixFrom(dst, dst.BitLen())}
	var r host.Route
	var err error
	by := v.leads(frame.NoPort)
	switch {
	case k.Chosen != "":
		e := v.chosen[k.Chosen]
		if up := v.named(e.Dev); up != nil {
			by = v.leads(up.Port)
		}
		r, err = u.chosenWay(v, e, dst)
	case k.Network != 0:
		device := u.cfg.Device(k.Network)
		if device == 0 {
			return none
		}
		r, err = u.cfg.Edge.WayOut(host.WayQuery{Src: k.Src.NetIP(), Dst: dst, In: device})
	default:
		by = v.leads(k.Uplink)
		r, err = u.answerWay(v, k, dst)
	}
	if err != nil {
		u.cfg.Log.Warn("a way out is not known", "err", err)
		return none
	}
	r.Prefix = none.Prefix
	rc, ok := routeConfig(r, by, nil, v.sources())
	if !ok {
		return none
	}
	return rc
}

// answerWay is the way of an answer of the host's own: by the uplink that it was asked by or, where
// that has none, by any.
func (u *Underlay) answerWay(v *View, k dataplane.WayKey, dst netip.Addr) (r host.Route, err error) {
	q := host.WayQuery{Src: k.Src.NetIP(), Dst: dst}
	for i := range v.Uplinks {
		if v.Uplinks[i].Port == k.Uplink {
			q.Out = v.Uplinks[i].Link.Index
		}
	}
	r, err = u.cfg.Edge.WayOut(q)
	if err == nil && r.Kind == host.Unreachable && q.Out != 0 {
		q.Out = 0 // as no socket of the host's binds to an interface
		r, err = u.cfg.Edge.WayOut(q)
	}
	return r, err
}

// leads are the uplinks by index, without those that are chosen by containers alone, except the one of a port.
func (v *View) leads(port frame.PortID) map[int]*Uplink {
	m := make(map[int]*Uplink, len(v.Uplinks))
	for i := range v.Uplinks {
		if up := &v.Uplinks[i]; !up.Chosen || up.Port == port {
			m[up.Link.Index] = up
		}
	}
	return m
}

// sources are the addresses that masquerade may use, with their claim slots.
func (v *View) sources() map[netip.Addr]int {
	if len(v.Configs) == 0 {
		return nil
	}
	return v.Configs[0].Slots // the same of every uplink
}
