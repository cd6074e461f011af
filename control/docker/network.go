package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// label is the key under which a network says that it stands for a Docker network.
func label(id string) string { return api.UsedBy + api.RuntimeDocker + "." + id }

// createNetwork is the body of NetworkDriver.CreateNetwork.
type createNetwork struct {
	NetworkID          string
	Options            map[string]any
	IPv4Data, IPv6Data []ipamData
}

// ipamData is what Docker's IPAM gave a network of one family.
type ipamData struct {
	AddressSpace string            // of the IPAM driver that chose
	Pool         string            // CIDR; 0.0.0.0/0 from the null driver
	Gateway      string            // CIDR
	AuxAddresses map[string]string // CIDR
}

// foreign reports whether another IPAM driver gives out the addresses of a pool.
func (d ipamData) foreign() bool {
	p, err := netip.ParsePrefix(d.Pool)
	return d.AddressSpace != localSpace && d.AddressSpace != globalSpace && (err != nil || p.Bits() > 0)
}

// gwAllocCheck says whether Docker's IPAM keeps an address for the gateway: a
// network in mode isolated has none.
func (d *driver) gwAllocCheck(_ context.Context, in struct{ Options map[string]any }) (any, error) {
	n, _, err := readNetworkOptions(in.Options)
	if err != nil {
		return nil, err
	}
	isolated := func(mode string) bool {
		return mode == api.GatewayIsolated || mode == "" && n.Mode == api.GatewayIsolated
	}
	return struct{ SkipIPv4, SkipIPv6 bool }{isolated(n.ModeIPv4), isolated(n.ModeIPv6)}, nil
}

func (d *driver) createNetwork(ctx context.Context, in createNetwork) (any, error) {
	if err := checkID("network", in.NetworkID); err != nil {
		return nil, err
	}
	if n, _, err := d.network(ctx, in.NetworkID); err == nil {
		d.log.Debug("docker: network exists already", "network", n.Name, "id", short(in.NetworkID))
		return struct{}{}, nil
	} else if !isNotFound(err) {
		return nil, err
	}
	want, s, err := readNetworkOptions(in.Options)
	if err == nil {
		err = want4and6(&want, in)
	}
	if err != nil {
		return nil, fmt.Errorf("network %s: %w", short(in.NetworkID), err)
	}
	ours := !slices.ContainsFunc(slices.Concat(in.IPv4Data, in.IPv6Data), ipamData.foreign)
	defer d.pools.keep(want.Subnets)
	if want.Name != "" {
		n, err := d.Network(ctx, want.Name)
		if err == nil && n.Labels[api.LabelDockerNetwork] == "" {
			if !ours {
				return nil, fmt.Errorf("network %s gives out addresses itself, and Docker would give out the same: add --ipam-driver vswitch --ipam-opt %snetwork=%[1]s", n.Name, ownPrefix)
			}
			return struct{}{}, d.lodge(ctx, n, in, want, s)
		}
		if err != nil && !isNotFound(err) {
			return nil, err
		}
	} else {
		want.Name = madeName(in.NetworkID)
	}
	want.Labels = map[string]string{label(in.NetworkID): s.text()}
	if !ours {
		want.Labels[api.LabelDockerPool] = "yes"
	}
	if _, err := d.CreateNetwork(ctx, want); err != nil {
		return nil, err
	}
	d.joined()
	return struct{}{}, nil
}

// madeName is what a network is called until the name that its user gave it is
// known.
func madeName(id string) string { return "docker-" + short(id) }

// want4and6 takes over what IPAM has decided. What it has not, with the null
// driver, is the switch's to choose.
func want4and6(want *api.NetworkCreate, in createNetwork) error {
	yes, no := true, false
	want.IPv4, want.IPv6 = &no, &no
	for _, family := range []struct {
		data []ipamData
		on   **bool
	}{{in.IPv4Data, &want.IPv4}, {in.IPv6Data, &want.IPv6}} {
		for _, data := range family.data {
			*family.on = &yes
			p, err := netip.ParsePrefix(data.Pool)
			if err != nil {
				return fmt.Errorf("pool %q is no subnet", data.Pool)
			}
			if p.Bits() == 0 {
				continue
			}
			want.Subnets = append(want.Subnets, p.Masked().String())
			if data.Gateway != "" {
				want.Gateways = append(want.Gateways, bare(data.Gateway))
			}
			for name, a := range data.AuxAddresses {
				if want.Reserved == nil {
					want.Reserved = make(map[string]string)
				}
				want.Reserved[name] = bare(a)
			}
		}
	}
	// Compose files say both modes for networks of one family.
	if len(in.IPv4Data) == 0 {
		want.ModeIPv4 = ""
	}
	if len(in.IPv6Data) == 0 {
		want.ModeIPv6 = ""
	}
	return nil
}

// lodge lets a network that stands be Docker's too. What it is was decided by whoever
// made it.
func (d *driver) lodge(ctx context.Context, n api.Network, in createNetwork, want api.NetworkCreate, s settings) error {
	mine := make(map[string]api.Subnet)
	for _, sub := range n.Subnets {
		mine[sub.Subnet] = sub
	}
	for _, sub := range want.Subnets {
		if _, ok := mine[sub]; !ok {
			return fmt.Errorf("network %s has not the subnet %s: give its own as --subnet",
				n.Name, sub)
		}
	}
	for _, gw := range want.Gateways {
		ok := false
		for _, sub := range n.Subnets {
			ok = ok || sub.Gateway == gw || sub.Gateway == ""
		}
		if !ok {
			return fmt.Errorf("network %s has not the gateway %s: leave --gateway out", n.Name, gw)
		}
	}
	if want.MTU != 0 && want.MTU != n.MTU || want.Interface != "" && want.Interface != n.Interface || len(want.Reserved) > 0 ||
		want.Mode != "" || want.ModeIPv4 != "" || want.ModeIPv6 != "" || want.ICC != nil && *want.ICC != n.ICC ||
		want.HostAccess != nil && *want.HostAccess != n.HostAccess || want.Filter != "" && want.Filter != n.Filter {
		return fmt.Errorf("network %s exists already, with other options: leave them out, or see vswitch network update", n.Name)
	}
	s.Guest, s.NoGateway = true, want.Internal && !n.Internal
	_, err := d.UpdateNetwork(ctx, n.Name, api.NetworkUpdate{Labels: map[string]string{label(in.NetworkID): s.text()}})
	return err
}

func (s settings) text() string {
	b, _ := json.Marshal(s) // strings and numbers: cannot fail
	return string(b)
}

// network finds what stands for a Docker network.
func (d *driver) network(ctx context.Context, id string) (n api.Network, s settings, err error) {
	if err := checkID("network", id); err != nil {
		return n, s, err
	}
	list, err := d.Networks(ctx)
	if err != nil {
		return n, s, err
	}
	for _, n := range list {
		if v, ok := n.Labels[label(id)]; ok {
			if err := json.Unmarshal([]byte(v), &s); err != nil {
				return n, s, fmt.Errorf("network %s: its label %s is damaged: %w", n.Name, label(id), err)
			}
			return n, s, nil
		}
	}
	return n, s, &unknown{fmt.Sprintf("network %s is not known to the switch: remove it with docker network rm and make it again", short(id))}
}

// unknown is api.ErrNotFound with a line of its own.
type unknown struct{ message string }

func (u *unknown) Error() string { return u.message }
func (u *unknown) Unwrap() error { return api.ErrNotFound }

// deleteNetwork removes what was made for a Docker network. Docker has seen to it
// that it has no endpoints: what is left of them was lost while nobody listened.
func (d *driver) deleteNetwork(ctx context.Context, in struct{ NetworkID string }) (any, error) {
	n, s, err := d.network(ctx, in.NetworkID)
	if isNotFound(err) {
		return struct{}{}, nil
	}
	if err != nil {
		return nil, err
	}
	for _, m := range n.Containers {
		ct, err := d.Container(ctx, m.ID)
		e := endpointIn(ct, in.NetworkID)
		if err != nil || ct.Runtime != api.RuntimeDocker || e == nil {
			continue
		}
		d.log.Warn("docker: endpoint of a removed network released", "container", ct.Name, "network", n.Name)
		if err := d.Release(ctx, api.Release{Runtime: api.RuntimeDocker, RuntimeID: endpointID(ct, e)}); err != nil {
			return nil, err
		}
	}
	heir := ""
	for key := range n.Labels {
		if strings.HasPrefix(key, api.UsedBy) && key != label(in.NetworkID) && (heir == "" || key < heir) {
			heir = key
		}
	}
	if s.Guest || heir != "" {
		labels := map[string]string{label(in.NetworkID): ""}
		var other settings
		if !s.Guest && recodeText(n.Labels[heir], &other) == nil {
			other.Guest = false // it removes the network then
			labels[heir] = other.text()
		}
		_, err = d.UpdateNetwork(ctx, n.Name, api.NetworkUpdate{Labels: labels})
	} else if err = d.RemoveNetwork(ctx, n.Name); isNotFound(err) {
		err = nil
	}
	return struct{}{}, err
}

// bare is an address without its prefix length.
func bare(cidr string) string {
	a, _, _ := strings.Cut(cidr, "/")
	return a
}
