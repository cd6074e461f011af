package docker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// ledger is a Backend that keeps what it is told and checks none of it but what
// the protocol depends on: names and addresses that are taken, and what is not
// there. The daemon itself is in the tests with dockerd.
type ledger struct {
	networks   map[string]*api.Network
	containers map[string]*api.Container
	leases     map[string]bool
	note       func(what string, v any)
	err        error // of the next Attach or Publish
	made       int
}

func newLedger() *ledger {
	return &ledger{
		networks: make(map[string]*api.Network), containers: make(map[string]*api.Container), leases: make(map[string]bool),
		note: func(string, any) {},
	}
}

// kindred is an error of a kind.
type kindred struct {
	kind error
	text string
}

func (k *kindred) Error() string { return k.text }
func (k *kindred) Unwrap() error { return k.kind }

func (b *ledger) Networks(context.Context) (list []api.Network, err error) {
	for _, name := range slices.Sorted(maps.Keys(b.networks)) {
		list = append(list, b.view(b.networks[name]))
	}
	return list, nil
}

func (b *ledger) view(n *api.Network) api.Network {
	v := *n
	for _, name := range slices.Sorted(maps.Keys(b.containers)) {
		if len(b.containers[name].Endpoints) == 0 {
			continue
		}
		if e := b.containers[name].Endpoints[0]; e.Network == n.Name {
			v.Containers = append(v.Containers, api.NetworkMember{ID: b.containers[name].ID, Name: name, Addresses: e.Addresses})
		}
	}
	return v
}

func (b *ledger) Network(_ context.Context, name string) (api.Network, error) {
	if n := b.networks[name]; n != nil {
		return b.view(n), nil
	}
	return api.Network{}, &kindred{api.ErrNotFound, "network " + name + " does not exist"}
}

func (b *ledger) CreateNetwork(_ context.Context, in api.NetworkCreate) (api.Network, error) {
	b.note("CreateNetwork", in)
	if strings.Contains(in.Name, "/") {
		return api.Network{}, &kindred{api.ErrInvalid, fmt.Sprintf("network name %q: use letters and digits", in.Name)}
	}
	n := &api.Network{Name: in.Name, Labels: maps.Clone(in.Labels), Internal: in.Internal, Interface: in.Interface, MTU: in.MTU,
		ICC: in.ICC == nil || *in.ICC, HostAccess: in.HostAccess == nil || *in.HostAccess, Filter: in.Filter}
	for i, s := range in.Subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return api.Network{}, &kindred{api.ErrInvalid, err.Error()}
		}
		if o := b.overlapping(p); o != "" {
			return api.Network{}, &kindred{api.ErrConflict, fmt.Sprintf("network %s: subnet %s overlaps network %s", in.Name, p, o)}
		}
		sub := api.Subnet{Subnet: s, Mode: cmp.Or(in.ModeIPv4, in.Mode)}
		if p.Addr().Is6() {
			sub.Mode = cmp.Or(in.ModeIPv6, in.Mode)
		}
		if sub.Mode != api.GatewayIsolated {
			if sub.Gateway = p.Addr().Next().String(); i < len(in.Gateways) {
				sub.Gateway = in.Gateways[i]
			}
		}
		n.Subnets = append(n.Subnets, sub)
	}
	if len(in.Subnets) == 0 {
		n.Subnets = []api.Subnet{{Subnet: "10.88.9.0/24", Gateway: "10.88.9.1"}}
	}
	b.networks[in.Name] = n
	return b.view(n), nil
}

func (b *ledger) overlapping(p netip.Prefix) string {
	for _, name := range slices.Sorted(maps.Keys(b.networks)) {
		for _, s := range b.networks[name].Subnets {
			if netip.MustParsePrefix(s.Subnet).Overlaps(p) {
				return name
			}
		}
	}
	return ""
}

func (b *ledger) UpdateNetwork(_ context.Context, name string, in api.NetworkUpdate) (api.Network, error) {
	b.note("UpdateNetwork "+name, in)
	n := b.networks[name]
	for k, v := range in.Labels {
		if n.Labels[k] = v; v == "" {
			delete(n.Labels, k)
		}
	}
	return b.view(n), nil
}

func (b *ledger) RemoveNetwork(_ context.Context, name string) error {
	b.note("RemoveNetwork", name)
	delete(b.networks, name)
	return nil
}

func (b *ledger) FreeSubnet(_ context.Context, in api.SubnetRequest) (api.FreeSubnet, error) {
	b.note("FreeSubnet", in)
	if in.Subnet != "" {
		if o := b.overlapping(netip.MustParsePrefix(in.Subnet)); o != "" {
			return api.FreeSubnet{}, &kindred{api.ErrConflict, "subnet " + in.Subnet + " overlaps network " + o}
		}
		return api.FreeSubnet{Subnet: in.Subnet}, nil
	}
	for i := 1; ; i++ {
		p := netip.MustParsePrefix(fmt.Sprintf("10.88.%d.0/24", i))
		if in.IPv6 {
			p = netip.MustParsePrefix(fmt.Sprintf("fd00:88:0:%d::/64", i))
		}
		if b.overlapping(p) == "" && !slices.Contains(in.Except, p.String()) {
			return api.FreeSubnet{Subnet: p.String()}, nil
		}
	}
}

func (b *ledger) LeaseAddress(_ context.Context, network string, in api.LeaseRequest) (api.Lease, error) {
	b.note("LeaseAddress "+network, in)
	a := in.Address
	if a == "" {
		p := netip.MustParsePrefix(cmp.Or(in.Within, b.networks[network].Subnets[0].Subnet))
		for next := p.Addr().Next().Next(); ; next = next.Next() {
			if a = next.String(); b.owner(network, a) == "" && !b.leases[a] {
				break
			}
		}
	}
	b.leases[a] = true
	return api.Lease{Address: a + "/24"}, nil
}

func (b *ledger) EndLease(_ context.Context, network, address string) error {
	b.note("EndLease "+network, address)
	delete(b.leases, address)
	return nil
}

func (b *ledger) owner(network, address string) string {
	for name, ct := range b.containers {
		if e := ct.Endpoints[0]; e.Network == network && slices.ContainsFunc(e.Addresses, func(a string) bool { return bare(a) == address }) {
			return name
		}
	}
	return ""
}

func (b *ledger) Container(_ context.Context, name string) (api.Container, error) {
	for _, ct := range b.containers {
		if ct.Name == name || ct.RuntimeID == name || ct.ID == name {
			return *ct, nil
		}
	}
	return api.Container{}, &kindred{api.ErrNotFound, "container " + name + " is not attached"}
}

func (b *ledger) Attach(_ context.Context, in api.Attach) (api.Container, error) {
	for _, ct := range b.containers {
		if ct.RuntimeID == in.RuntimeID {
			return *ct, nil
		}
	}
	b.note("Attach", in)
	if err := b.err; err != nil {
		b.err = nil
		return api.Container{}, err
	}
	if in.Mode == api.ModeContainer {
		b.made++
		ct := &api.Container{ID: fmt.Sprint("id", b.made), Name: in.Name, Runtime: in.Runtime, RuntimeID: in.RuntimeID, Labels: in.Labels, Mode: in.Mode, Peer: in.Peer, PID: in.PID}
		b.containers[in.Name] = ct
		return *ct, nil
	}
	j := in.Networks[0]
	if o := b.owner(j.Network, j.IP); j.IP != "" && o != "" {
		return api.Container{}, &kindred{api.ErrConflict, fmt.Sprintf("address %s is in use by container %s", j.IP, o)}
	}
	b.made++
	e := api.Endpoint{Network: j.Network, RuntimeNetwork: j.RuntimeNetwork, MAC: cmp.Or(j.MAC, fmt.Sprintf("02:00:00:00:00:%02x", b.made)),
		Handover: fmt.Sprint("wait", b.made), HostInterface: fmt.Sprint("veth", b.made)}
	for _, s := range b.networks[j.Network].Subnets {
		p := netip.MustParsePrefix(s.Subnet)
		a := j.IP
		if p.Addr().Is6() {
			a = j.IP6
		}
		if a == "" {
			a = p.Addr().Next().Next().String()
		}
		e.Addresses = append(e.Addresses, fmt.Sprintf("%s/%d", a, p.Bits()))
	}
	ct := &api.Container{ID: fmt.Sprint("id", b.made), Name: in.Name, Runtime: in.Runtime, RuntimeID: in.RuntimeID, Labels: in.Labels, Endpoints: []api.Endpoint{e}}
	b.containers[in.Name] = ct
	return *ct, nil
}

func (b *ledger) UpdateContainer(_ context.Context, id string, in api.ContainerUpdate) (api.Container, error) {
	b.note("UpdateContainer "+id, in)
	for name, ct := range b.containers {
		if ct.ID != id {
			continue
		}
		if in.Name != "" && in.Name != name {
			if b.containers[in.Name] != nil {
				return api.Container{}, &kindred{api.ErrConflict, "name " + in.Name + " is taken"}
			}
			delete(b.containers, name)
			ct.Name = in.Name
			b.containers[in.Name] = ct
		}
		if ct.Labels == nil {
			ct.Labels = make(map[string]string)
		}
		maps.Copy(ct.Labels, in.Labels)
		return *ct, nil
	}
	return api.Container{}, &kindred{api.ErrNotFound, "container " + id + " is not attached"}
}

func (b *ledger) Release(_ context.Context, in api.Release) error {
	b.note("Release", in)
	for name, ct := range b.containers {
		if ct.Runtime == in.Runtime && ct.RuntimeID == in.RuntimeID {
			delete(b.containers, name)
		}
	}
	return nil
}

func (b *ledger) Publish(_ context.Context, id string, rules []string) ([]api.PortMapping, error) {
	b.note("Publish "+id, rules)
	if err := b.err; err != nil {
		b.err = nil
		return nil, err
	}
	for _, ct := range b.containers {
		if ct.ID == id {
			for _, r := range rules {
				ct.Ports = append(ct.Ports, mapping(r))
			}
			return ct.Ports, nil
		}
	}
	return nil, &kindred{api.ErrNotFound, "container " + id + " is not attached"}
}

// mapping reads a rule, with 40000 for a port to be chosen and the first of a range
// to choose from.
func mapping(rule string) (m api.PortMapping) {
	rule, m.Proto, _ = strings.Cut(rule, "/")
	if in, ok := strings.CutPrefix(rule, "["); ok {
		m.HostIP, rule, _ = strings.Cut(in, "]:")
	}
	parts := strings.Split(rule, ":")
	span := func(s string) (first, last uint16) {
		if n, _ := fmt.Sscanf(s, "%d-%d", &first, &last); n < 2 {
			last = first
		}
		return first, last
	}
	m.Port, m.PortEnd = span(parts[len(parts)-1])
	m.HostPort = 40000
	if len(parts) > 1 && parts[len(parts)-2] != "" {
		m.HostPort, _ = span(parts[len(parts)-2])
	}
	m.HostPortEnd = m.HostPort + m.PortEnd - m.Port
	if len(parts) > 2 {
		m.HostIP = parts[0]
	}
	return m
}

func (b *ledger) Unpublish(_ context.Context, id string, rules []string) error {
	b.note("Unpublish "+id, rules)
	for _, ct := range b.containers {
		if ct.ID == id {
			ct.Ports = nil
		}
	}
	return nil
}
