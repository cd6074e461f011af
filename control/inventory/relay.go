package inventory

import (
	"net/netip"

	"github.com/vswitch/vswitch/control/claims"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/model"
)

// RelayTable finds the container behind a published port for connections of the
// host itself. Immutable.
type RelayTable map[relayKey][]relayEntry

type relayKey struct {
	proto uint8
	addr  netip.Addr // unspecified: every address of its family
}

type relayEntry struct {
	host   *claims.Ports
	target netip.AddrPort // of host.HostFirst
}

// Add enters a mapping for connections of the host itself. They are relayed,
// so that they may come in by one family and reach the container by the other.
func (t RelayTable) Add(m *Mapping) {
	for _, f := range model.Families {
		if m.HostIP.IsValid() && model.FamilyOf(m.HostIP) != f {
			continue
		}
		for _, inside := range [2]model.Family{f, 1 - f} {
			target := m.Container.Gateway(inside)
			if target == nil || !target.Live {
				continue
			}
			k := relayKey{m.Proto, m.HostIP}
			if !m.HostIP.IsValid() {
				k.addr = f.Unspecified()
			}
			t[k] = append(t[k], relayEntry{m.Ports, netip.AddrPortFrom(target.Addr(inside), m.ContainerFirst)})
			break
		}
	}
}

// Ways are the mappings that need no relay between two families.
func (t RelayTable) Ways() (list []edge.Way) {
	for k, entries := range t {
		for _, e := range entries {
			if e.target.Addr().Is4() == k.addr.Is4() {
				list = append(list, edge.Way{Proto: k.proto, Addr: k.addr, First: e.host.HostFirst, Last: e.host.HostLast, To: e.target})
			}
		}
	}
	return list
}

// Resolve finds the container of a port that is published at a host address.
func (t RelayTable) Resolve(proto uint8, local netip.AddrPort) (netip.AddrPort, bool) {
	asked := local.Addr().Unmap()
	for _, addr := range [2]netip.Addr{asked, model.FamilyOf(asked).Unspecified()} {
		for _, e := range t[relayKey{proto, addr}] {
			if e.host.HostFirst <= local.Port() && local.Port() <= e.host.HostLast {
				return netip.AddrPortFrom(e.target.Addr(), e.target.Port()+local.Port()-e.host.HostFirst), true
			}
		}
	}
	return netip.AddrPort{}, false
}
