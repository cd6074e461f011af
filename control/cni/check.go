package cni

import (
	"encoding/json"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/visible"
)

// check holds what ADD said against the daemon's records, and lets the daemon
// hold these against the kernel.
func (p *plugin) check(args *skel.CmdArgs) error {
	c, end, err := begin(args)
	defer end()
	if err != nil {
		return err
	}
	list, err := c.daemon.ContainersOf(c, api.ContainerFilter{Runtime: api.RuntimeCNI, RuntimeID: args.ContainerID})
	if err != nil {
		return refusal(err)
	}
	var e *api.Endpoint
	if len(list) > 0 {
		e = endpointOf(list[0], args.IfName)
	}
	if e == nil {
		return types.NewError(types.ErrUnknownContainer, "interface "+args.IfName+" of container "+args.ContainerID+" is not attached: see vswitch ps --runtime cni", "")
	}
	if err := c.comparePrev(list[0].Name, e); err != nil {
		return err
	}
	if err := c.daemon.Check(c, list[0].Name); err != nil {
		return refusal(err)
	}
	return c.delegate("CHECK")
}

// comparePrev looks for what ADD said of the interface. Plugins behind this one
// may have added to it.
func (c *call) comparePrev(name string, e *api.Endpoint) error {
	if c.RawPrevResult == nil {
		return badConfig("container %s: CHECK without prevResult", name)
	}
	raw, err := json.Marshal(c.RawPrevResult)
	if err == nil {
		c.PrevResult, err = version.NewResult(c.CNIVersion, raw)
	}
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, visible.Line("prevResult: "+err.Error()), "")
	}
	prev, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, visible.Line("prevResult: "+err.Error()), "")
	}
	at := slices.IndexFunc(prev.Interfaces, func(i *types100.Interface) bool { return i.Name == e.Interface && i.Sandbox != "" })
	if at < 0 {
		return badConfig("container %s: prevResult lacks interface %s", name, e.Interface)
	}
	if mac := prev.Interfaces[at].Mac; mac != "" && mac != e.MAC {
		return types.NewError(errDaemon, "container "+name+": "+e.Interface+" has MAC address "+e.MAC+", ADD said "+mac, "")
	}
	for _, ip := range prev.IPs {
		if ip.Interface == nil || *ip.Interface != at {
			continue
		}
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		bits, _ := ip.Address.Mask.Size()
		if want := netip.PrefixFrom(a.Unmap(), bits).String(); !slices.Contains(e.Addresses, want) {
			return types.NewError(errDaemon, "container "+name+": "+e.Interface+" lacks address "+want+", which ADD gave", "")
		}
	}
	return nil
}
