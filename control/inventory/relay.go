package inventory

import (
	"net/netip"

	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/relay"
)

// Ways are where connections of the host itself to a mapping are led. They may come in by one
// family and reach the container by the other.
func (m *Mapping) Ways() (list []relay.Way) {
	for _, f := range model.Families {
		if m.HostIP.IsValid() && model.FamilyOf(m.HostIP) != f {
			continue
		}
		for _, inside := range [2]model.Family{f, 1 - f} {
			target := m.Container.Gateway(inside)
			if target == nil || !target.Live {
				continue
			}
			addr := m.HostIP
			if !addr.IsValid() {
				addr = f.Unspecified()
			}
			to := netip.AddrPortFrom(target.Addr(inside), m.ContainerFirst)
			list = append(list, relay.Way{Proto: m.Proto, Addr: addr, First: m.HostFirst, Last: m.HostLast, To: to})
			break
		}
	}
	return list
}
