package cni

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/resolvconf"
	"github.com/vswitch/vswitch/control/visible"
)

// add gives a container an interface and prints the result. The same call again
// prints what stands.
func (p *plugin) add(args *skel.CmdArgs) error {
	c, end, err := begin(args)
	defer end()
	if err != nil {
		return err
	}
	given, err := c.addresses()
	if err == nil {
		var ct api.Container
		if ct, err = c.attach(given); err == nil {
			p.tell(c, ct)
			return c.print(ct, given)
		}
	}
	if given != nil { // the addresses are no one's
		if derr := c.delegate("DEL"); derr != nil {
			p.logf("%v", derr)
		}
	}
	return refusal(err)
}

func (c *call) attach(given *types100.Result) (api.Container, error) {
	in, err := c.request(given)
	if err != nil {
		return api.Container{}, err
	}
	network, err := c.wanted(given)
	if err != nil {
		return api.Container{}, err
	}
	return c.daemon.AttachIn(c, in, network)
}

// request is what the daemon is asked for.
func (c *call) request(given *types100.Result) (in api.Attach, err error) {
	netns, err := filepath.Abs(c.args.Netns)
	if err != nil {
		return in, err
	}
	conn := api.Connect{
		Network: c.network(), Ifname: c.args.IfName, MAC: c.mac(), RuntimeNetwork: c.Name,
		Guard: c.Guard, VLAN: c.VLAN, Trunk: c.Trunk,
	}
	if conn.Routes, err = c.routes(given); err != nil {
		return in, err
	}
	if conn.Aliases, err = c.aliases(); err != nil {
		return in, err
	}
	ips := c.ips()
	if given != nil {
		ips = nil
		for _, ip := range given.IPs {
			ips = append(ips, ip.Address.IP.String())
		}
	}
	for _, s := range ips {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return in, badConfig("address %q is not an IP address", s)
		}
		dst := &conn.IP
		if a = a.Unmap(); a.Is6() {
			dst = &conn.IP6
		}
		if *dst != "" {
			return in, badConfig("addresses %s and %s: an interface has one of each family", *dst, a)
		}
		*dst = a.String()
	}
	in = api.Attach{
		Name: c.name(c.args.ContainerID), Runtime: api.RuntimeCNI, RuntimeID: c.args.ContainerID,
		Netns: netns, Networks: []api.Connect{conn}, Labels: map[string]string{},
	}
	if in.Publish, err = c.publish(); err != nil {
		return in, err
	}
	for key, value := range map[string]string{
		"io.kubernetes.pod.name":      string(c.env.K8S_POD_NAME),
		"io.kubernetes.pod.namespace": string(c.env.K8S_POD_NAMESPACE),
		api.LabelPodUID:               string(c.env.K8S_POD_UID),
		"org.vswitch.bandwidth":       string(c.RuntimeConfig.Bandwidth),
	} {
		if value != "" {
			in.Labels[key] = value
		}
	}
	return in, nil
}

// tell says what was asked for and is not done yet.
func (p *plugin) tell(c *call, ct api.Container) {
	if len(c.RuntimeConfig.Bandwidth) > 0 {
		p.logf("container %s: bandwidth is stored and not enforced yet", ct.Name)
	}
}

// print writes the result in the version that the configuration has.
func (c *call) print(ct api.Container, given *types100.Result) error {
	r, err := c.result(ct, given)
	if err != nil {
		return refusal(err)
	}
	if err := types.PrintResult(r, c.CNIVersion); err != nil {
		return types.NewError(types.ErrIOFailure, visible.Line(err.Error()), "")
	}
	return nil
}

func (c *call) result(ct api.Container, given *types100.Result) (*types100.Result, error) {
	e := endpointOf(ct, c.args.IfName)
	if e == nil {
		return nil, errors.New("container " + ct.Name + ": the daemon's answer lacks interface " + c.args.IfName)
	}
	r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion}
	r.Interfaces = []*types100.Interface{
		{Name: e.HostInterface},
		{Name: e.Interface, Mac: e.MAC, Sandbox: c.args.Netns},
	}
	if ok, err := version.GreaterThanOrEqualTo(c.CNIVersion, "1.1.0"); err == nil && ok {
		r.Interfaces[1].Mtu = e.MTU
	}
	for _, s := range e.Addresses {
		ip, subnet, err := net.ParseCIDR(s)
		if err != nil {
			return nil, err
		}
		subnet.IP = ip
		conf := &types100.IPConfig{Interface: types100.Int(1), Address: *subnet}
		for _, g := range e.Gateways {
			if gw := net.ParseIP(g); (gw.To4() != nil) == (ip.To4() != nil) {
				conf.Gateway = gw
				if e.DefaultRoute {
					r.Routes = append(r.Routes, &types.Route{Dst: everything(gw), GW: gw})
				}
			}
		}
		r.IPs = append(r.IPs, conf)
	}
	for _, route := range e.Routes {
		added, err := resultRoute(route)
		if err != nil {
			return nil, err
		}
		r.Routes = append(r.Routes, added)
	}
	r.DNS = c.dns(given, e)
	return r, nil
}

// everything is the destination of a default route.
func everything(gw net.IP) net.IPNet {
	if gw.To4() != nil {
		return net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}

// dns is what the runtime asks for, then the configuration, then its IPAM plugin, then the gateway that
// answers names.
func (c *call) dns(given *types100.Result, e *api.Endpoint) types.DNS {
	if d := c.RuntimeConfig.DNS; d != nil && len(d.Searches)+len(d.Servers)+len(d.Options) > 0 {
		return types.DNS{Nameservers: d.Servers, Search: d.Searches, Options: d.Options}
	}
	d := c.DNS
	if d.IsEmpty() && given != nil {
		d = given.DNS
	}
	if f, ok := resolvconf.Of(api.Container{Endpoints: []api.Endpoint{*e}}, resolvconf.File{}); ok && d.IsEmpty() {
		return types.DNS{Nameservers: f.Servers, Search: f.Search}
	}
	return d
}

func endpointOf(ct api.Container, ifname string) *api.Endpoint {
	for i := range ct.Endpoints {
		if ct.Endpoints[i].Interface == ifname {
			return &ct.Endpoints[i]
		}
	}
	return nil
}
