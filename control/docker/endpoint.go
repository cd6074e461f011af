package docker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/control/api"
)

// ids name an endpoint.
type ids struct{ NetworkID, EndpointID string }

// createEndpoint is the body of NetworkDriver.CreateEndpoint.
type createEndpoint struct {
	ids
	Interface *endpointInterface
	Options   map[string]any
}

// endpointInterface is what IPAM and the user have fixed of an interface, and in
// the answer what the switch has.
type endpointInterface struct {
	Address     string `json:",omitempty"` // CIDR
	AddressIPv6 string `json:",omitempty"` // CIDR
	MacAddress  string `json:",omitempty"`
}

// createEndpoint makes the interface. Its end waits in the host's namespace: the
// container's does not exist before dockerd has asked for everything else.
func (d *driver) createEndpoint(ctx context.Context, in createEndpoint) (any, error) {
	if err := checkID("endpoint", in.EndpointID); err != nil {
		return nil, err
	}
	n, _, err := d.network(ctx, in.NetworkID)
	if err != nil {
		return nil, err
	}
	on, s, err := readEndpointOptions(in.Options)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", short(in.EndpointID), err)
	}
	asked := in.Interface
	if asked == nil {
		asked = new(endpointInterface)
	}
	on.Network, on.RuntimeNetwork = n.Name, in.NetworkID
	on.IP, on.IP6, on.MAC = bare(asked.Address), bare(asked.AddressIPv6), asked.MacAddress
	attach := api.Attach{
		// Its user's name for the container comes later (Names).
		Name: short(in.EndpointID), Runtime: api.RuntimeDocker, RuntimeID: in.EndpointID, Handover: true,
		Networks: []api.Connect{on},
	}
	if attach.Expose, err = exposed(in.Options[optExposed]); err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", short(in.EndpointID), err)
	}
	if len(s.Routes) > 0 {
		attach.Labels = map[string]string{routesLabel: s.text()}
	}
	ct, err := d.Attach(ctx, attach)
	if isConflict(err) && d.releaseStale(ctx, n, in) {
		ct, err = d.Attach(ctx, attach)
	}
	if err != nil {
		return nil, err
	}
	e := endpointIn(ct, in.NetworkID)
	if e == nil {
		return nil, fmt.Errorf("endpoint %s exists already, in another network", short(in.EndpointID))
	}
	// dockerd refuses to be told what it has fixed itself.
	var got endpointInterface
	if asked.MacAddress == "" {
		got.MacAddress = e.MAC
	}
	for _, cidr := range e.Addresses {
		switch p, err := netip.ParsePrefix(cidr); {
		case err != nil:
		case p.Addr().Is4() && asked.Address == "":
			got.Address = cidr
		case p.Addr().Is6() && asked.AddressIPv6 == "":
			got.AddressIPv6 = cidr
		}
	}
	return struct{ Interface endpointInterface }{got}, nil
}

// routesLabel keeps the routes of one endpoint from CreateEndpoint to Join.
const routesLabel = "org.vswitch.docker.routes"

// releaseStale releases an endpoint that holds the address of a new one in the
// same Docker network. Docker gives no address twice: it has forgotten the old one,
// when it was killed or when nobody listened to it.
func (d *driver) releaseStale(ctx context.Context, n api.Network, in createEndpoint) bool {
	if in.Interface == nil {
		return false
	}
	for _, m := range n.Containers {
		for _, a := range m.Addresses {
			if a = bare(a); a != bare(in.Interface.Address) && a != bare(in.Interface.AddressIPv6) {
				continue
			}
			ct, err := d.Container(ctx, m.ID)
			e := endpointIn(ct, in.NetworkID)
			if err != nil || ct.Runtime != api.RuntimeDocker || e == nil || endpointID(ct, e) == in.EndpointID {
				continue
			}
			d.log.Warn("docker: endpoint released, Docker has given its address to another", "container", ct.Name, "address", a)
			return d.Release(ctx, api.Release{Runtime: api.RuntimeDocker, RuntimeID: endpointID(ct, e)}) == nil
		}
	}
	return false
}

// endpointIn is a container's interface in a Docker network, nil when it has none.
func endpointIn(ct api.Container, networkID string) *api.Endpoint {
	for i := range ct.Endpoints {
		if ct.Endpoints[i].RuntimeNetwork == networkID {
			return &ct.Endpoints[i]
		}
	}
	return nil
}

// endpointID is what Docker calls a container's interface.
func endpointID(ct api.Container, e *api.Endpoint) string { return cmp.Or(e.RuntimeID, ct.RuntimeID) }

// endpoint finds what stands for an endpoint. Its error is unknown when the
// interface, or the namespace it was in, has vanished.
func (d *driver) endpoint(ctx context.Context, in ids) (ct api.Container, e *api.Endpoint, err error) {
	if err := checkID("endpoint", in.EndpointID); err != nil {
		return ct, nil, err
	}
	ct, err = d.Container(ctx, in.EndpointID)
	if err == nil && ct.RuntimeID == in.EndpointID {
		e = endpointIn(ct, in.NetworkID)
	}
	if isNotFound(err) || err == nil && e == nil {
		err = &unknown{fmt.Sprintf("endpoint %s is not known to the switch: its interface has vanished: restart the container", short(in.EndpointID))}
	}
	return ct, e, err
}

// endpointOperInfo is asked for docker inspect, which shows none of it.
func (d *driver) endpointOperInfo(ctx context.Context, in ids) (any, error) {
	value := map[string]any{}
	ct, e, err := d.endpoint(ctx, in)
	switch {
	case err == nil:
		value["com.docker.network.endpoint.macaddress"] = e.MAC
		value[ownPrefix+"name"], value[ownPrefix+"host-interface"] = ct.Name, e.HostInterface
	case !isNotFound(err):
		return nil, err
	}
	return struct{ Value map[string]any }{value}, nil
}

// deleteEndpoint is no error for one that is gone.
func (d *driver) deleteEndpoint(ctx context.Context, in ids) (any, error) {
	if err := checkID("endpoint", in.EndpointID); err != nil {
		return nil, err
	}
	return struct{}{}, d.Release(ctx, api.Release{Runtime: api.RuntimeDocker, RuntimeID: in.EndpointID})
}

// joined is the answer of NetworkDriver.Join.
type joined struct {
	InterfaceName struct{ SrcName, DstPrefix string }
	Gateway       string        `json:",omitempty"`
	GatewayIPv6   string        `json:",omitempty"`
	StaticRoutes  []staticRoute `json:",omitempty"`
	// DisableGatewayService keeps dockerd from giving a container without a gateway a
	// second interface, on a bridge of its own.
	DisableGatewayService bool
}

// join says which interface dockerd is to move into the sandbox, and its routes.
func (d *driver) join(ctx context.Context, in struct {
	ids
	SandboxKey string
	Options    map[string]any
}) (any, error) {
	n, s, err := d.network(ctx, in.NetworkID)
	if err != nil {
		return nil, err
	}
	ct, e, err := d.endpoint(ctx, in.ids)
	if err != nil {
		return nil, err
	}
	var out joined
	out.InterfaceName.SrcName, out.InterfaceName.DstPrefix = e.Handover, "eth"
	if s.Prefix != "" {
		out.InterfaceName.DstPrefix = s.Prefix
	}
	if !n.Internal && !s.NoGateway {
		for _, sub := range n.Subnets {
			switch a, err := netip.ParseAddr(sub.Gateway); {
			case err != nil: // isolated
			case a.Is4():
				out.Gateway = sub.Gateway
			default:
				out.GatewayIPv6 = sub.Gateway
			}
		}
	}
	out.StaticRoutes = s.Routes
	if v := ct.Labels[routesLabel]; v != "" {
		var own settings
		if err := recodeText(v, &own); err != nil {
			return nil, fmt.Errorf("endpoint %s: its label %s is damaged: %w", short(in.EndpointID), routesLabel, err)
		}
		out.StaticRoutes = append(out.StaticRoutes, own.Routes...)
	}
	out.DisableGatewayService = out.Gateway == ""
	if in.SandboxKey != "" && ct.Labels[api.LabelSandbox] != in.SandboxKey {
		labels := map[string]string{api.LabelSandbox: in.SandboxKey}
		if _, err := d.UpdateContainer(ctx, ct.ID, api.ContainerUpdate{Labels: labels}); err != nil {
			return nil, err
		}
	}
	d.joined()
	return out, nil
}

// leave has nothing to do: dockerd moves the interface back, down, and has it
// deleted next.
func (d *driver) leave(_ context.Context, in ids) (any, error) {
	return struct{}{}, checkID("endpoint", in.EndpointID)
}
