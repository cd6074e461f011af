package inventory

import (
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/control/claims"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/conntrack"
)

// Mapping is a published interval of ports.
type Mapping struct {
	*claims.Ports  // of the host
	Container      *Container
	ContainerFirst uint16 // container port of HostFirst
	Live           bool   // compiled into snapshots
	ByHand         bool   // somebody added it to a container of a runtime
	Waits          bool   // for HostIP, which the host does not have now
}

// Follow notes whether the host has the address of the mapping.
func (m *Mapping) Follow(has func(netip.Addr) bool) {
	m.Waits = m.HostIP.IsValid() && !m.HostIP.IsUnspecified() && !m.HostIP.IsLoopback() && !has(m.HostIP)
}

// Matches reports whether a rule names the mapping.
func (m *Mapping) Matches(s model.PublishSpec) bool {
	if m.Proto != s.Proto || m.ContainerFirst != s.ContainerFirst || m.HostLast-m.HostFirst != s.ContainerLast-s.ContainerFirst {
		return false
	}
	if s.HostIP.IsValid() && s.HostIP != m.HostIP {
		return false
	}
	return s.HostFirst == 0 || s.HostFirst <= m.HostFirst && m.HostLast <= s.HostLast
}

// Flows are the connections that came in through the mapping.
func (m *Mapping) Flows() conntrack.Selector {
	to := netip.Prefix{} // every address of the host, of both families
	switch {
	case !m.HostIP.IsValid():
	case m.HostIP.IsUnspecified():
		to = netip.PrefixFrom(m.HostIP, 0)
	default:
		to = netip.PrefixFrom(m.HostIP, m.HostIP.BitLen())
	}
	return conntrack.Selector{
		Kinds: conntrack.AllBut(conntrack.KindMasquerade), Protos: []uint8{m.Proto},
		To: to, ToPorts: conntrack.PortRange{First: m.HostFirst, Last: m.HostLast},
	}
}

// WantedClaims are the addresses of the host at which a mapping takes packets:
// of a family that the container has not only loopback, where the relay serves
// it. From outside such a port is closed, not silent.
func (m *Mapping) WantedClaims() (list []netip.Addr) {
	if m.HostIP.IsValid() {
		return []netip.Addr{m.HostIP}
	}
	for _, f := range model.Families {
		if m.Container.Gateway(f) != nil {
			list = append(list, f.Unspecified())
		} else {
			list = append(list, f.Loopback())
		}
	}
	return list
}

// Serves reports whether a port published on a host address, invalid for every
// one, can lead to the container.
func (ct *Container) Serves(hostIP netip.Addr) bool {
	if !hostIP.IsValid() || hostIP.IsLoopback() { // by the relay from one family to the other
		return ct.Gateway(model.IPv4) != nil || ct.Gateway(model.IPv6) != nil
	}
	return ct.Gateway(model.FamilyOf(hostIP)) != nil
}

// CheckPublish refuses a rule whose host address cannot lead to the container.
func (ct *Container) CheckPublish(s model.PublishSpec) error {
	switch {
	case ct.Serves(s.HostIP):
		return nil
	case ct.Serves(netip.Addr{}):
		return model.Invalidf("publish %s: it has no %s address with a gateway: connect it to a network that gives one, or leave the host address out",
			s, model.FamilyOf(s.HostIP))
	}
	return model.Invalidf("publish %s: all its networks are internal or isolated: connect it to another network first", s)
}

// Unserved are the mappings that a container could not serve without some endpoints.
func (ct *Container) Unserved(gone []*Endpoint) (list []*Mapping) {
	rest := &Container{Endpoints: Without(ct.Endpoints, gone)}
	for _, m := range ct.Mappings {
		if !rest.Serves(m.HostIP) {
			list = append(list, m)
		}
	}
	return list
}

// Record is what is stored of a mapping.
func (m *Mapping) Record() state.Port {
	return state.Port{
		Proto: m.Proto, HostIP: m.HostIP, HostFirst: m.HostFirst, HostLast: m.HostLast, ContainerFirst: m.ContainerFirst, ByHand: m.ByHand, Kept: m.Kept(),
	}
}

// PortTexts writes mappings as after -p.
func PortTexts(list []*Mapping) []string {
	var out []string
	for _, m := range list {
		out = append(out, PortText(m.Record()))
	}
	return out
}

// PortText writes a published interval as after -p.
func PortText(p state.Port) string {
	at := ""
	if p.HostIP.IsValid() {
		at = p.HostIP.String() + ":"
		if p.HostIP.Is6() {
			at = "[" + p.HostIP.String() + "]:"
		}
	}
	return fmt.Sprintf("%s%s:%s/%s", at, model.PortsText(p.HostFirst, p.HostLast), model.PortsText(p.ContainerFirst, p.ContainerFirst+(p.HostLast-p.HostFirst)), model.ProtoName(p.Proto))
}
