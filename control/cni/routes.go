package cni

import (
	"encoding/json"
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/vswitch/vswitch/control/api"
)

// routes are those of the configuration, then those of its ipam, which a delegated
// plugin gives in its own way.
func (c *call) routes(given *types100.Result) (list []api.Route, err error) {
	all := make([]types.Route, 0, len(c.Routes))
	all = append(all, c.Routes...)
	if given != nil {
		for _, r := range given.Routes {
			all = append(all, *r)
		}
	} else {
		var conf struct {
			IPAM struct {
				Routes []types.Route `json:"routes"`
			} `json:"ipam"`
		}
		if err := json.Unmarshal(c.args.StdinData, &conf); err != nil {
			return nil, badConfig("ipam: routes: %v", err)
		}
		all = append(all, conf.IPAM.Routes...)
	}
	for _, r := range all {
		if r.MTU != 0 || r.AdvMSS != 0 || r.Table != nil || r.Scope != nil {
			return nil, badConfig("route to %s: only dst, gw and priority are served: leave the others out", r.Dst.String())
		}
		a, ok := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		p := netip.PrefixFrom(a.Unmap(), bits)
		if !ok || !p.IsValid() {
			return nil, badConfig("route to %s: dst is no prefix", r.Dst.String())
		}
		out := api.Route{To: p.Masked().String(), Metric: r.Priority}
		if r.GW != nil {
			out.Via = r.GW.String()
		}
		list = append(list, out)
	}
	return list, nil
}

// resultRoute is a route of the daemon's answer as CNI has it.
func resultRoute(r api.Route) (*types.Route, error) {
	_, dst, err := net.ParseCIDR(r.To)
	if err != nil {
		return nil, err
	}
	return &types.Route{Dst: *dst, GW: net.ParseIP(r.Via), Priority: r.Metric}, nil
}
