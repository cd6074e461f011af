package observe

import (
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
)

// explainStuck is the way out for a sender without one.
func (d prober) explainStuck(p *probe) string {
	if p.ct == "" || p.src.Addr() == p.dst.addr && p.src.IsValid() {
		return ""
	}
	to, f := "", model.FamilyOf(p.dst.addr)
	for n := range d.Networks() {
		if s := n.Subnet(f); s != nil && s.WayOut && (to == "" || n.Name == model.DefaultNetwork) {
			to = n.Name
		}
	}
	if to == "" {
		return fmt.Sprintf("no network leads there: make one, vswitch network create NAME --ipv%d, then vswitch network connect NAME %s", 4+2*int(f), p.ct)
	}
	return "connect it to a network that leads there: vswitch network connect " + to + " " + p.ct
}

// ownGateway is the same port of an address of the host at the gateway of the network that
// a sender without a default route is in, "" where there is none or it is no host's.
func (d prober) ownGateway(p *probe) string {
	ct := d.Named(p.ct)
	if ct == nil || p.dst.port == 0 || !d.own(p.dst.addr) || p.dst.addr.IsLoopback() {
		return ""
	}
	f := model.FamilyOf(p.dst.addr)
	for i := range ct.Endpoints {
		if s := d.subnet(&ct.Endpoints[i], f); s != nil && !s.Isolated && s.Gateway.IsValid() && s.Gateway != p.dst.addr {
			to := p.dst
			to.name, to.addr = "", s.Gateway
			return to.text()
		}
	}
	return ""
}

// hostAddr is the address of the host that a container would use: its gateway's, or one of
// an uplink.
func (d prober) hostAddr(from *directory.Container) (a netip.Addr) {
	if from != nil {
		for i := range from.Endpoints {
			for _, f := range model.Families {
				if s := d.subnet(&from.Endpoints[i], f); s != nil && !s.Isolated && s.Gateway.IsValid() {
					return s.Gateway
				}
			}
		}
	}
	for _, u := range d.Uplinks() {
		for _, p := range u.Addrs {
			return p.Addr()
		}
	}
	return a
}
