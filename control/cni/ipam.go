package cni

import (
	"errors"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/vswitch/vswitch/control/visible"
)

// self is the name by which a configuration says that addresses come from the
// daemon; so does one that names no IPAM plugin.
const self = "vswitch"

func (c *config) delegates() bool { return c.IPAM.Type != "" && c.IPAM.Type != self }

// addresses asks the IPAM plugin of the configuration, nil when there is none.
func (c *call) addresses() (*types100.Result, error) {
	if !c.delegates() {
		return nil, nil
	}
	r, err := invoke.DelegateAdd(c, c.IPAM.Type, c.args.StdinData, nil)
	if err != nil {
		return nil, c.ipamErr(err)
	}
	out, err := types100.NewResultFromResult(r)
	if err != nil {
		return nil, c.ipamErr(err)
	}
	if len(out.IPs) == 0 {
		return nil, c.ipamErr(errors.New("it gave no address"))
	}
	var v4, v6 int
	for _, ip := range out.IPs {
		if ip.Address.IP.To4() != nil {
			v4++
		} else {
			v6++
		}
	}
	if v4 > 1 || v6 > 1 {
		return out, badConfig("ipam %s gave %d IPv4 and %d IPv6 addresses: an interface has one of each family", c.IPAM.Type, v4, v6)
	}
	return out, nil
}

// delegate passes a call without a result on to the IPAM plugin.
func (c *call) delegate(command string) error {
	if !c.delegates() {
		return nil
	}
	var err error
	switch command {
	case "DEL":
		err = invoke.DelegateDel(c, c.IPAM.Type, c.args.StdinData, nil)
	case "CHECK":
		err = invoke.DelegateCheck(c, c.IPAM.Type, c.args.StdinData, nil)
	case "GC":
		err = invoke.DelegateGC(c, c.IPAM.Type, c.args.StdinData, nil)
	case "STATUS":
		err = invoke.DelegateStatus(c, c.IPAM.Type, c.args.StdinData, nil)
	}
	return c.ipamErr(err)
}

// ipamErr says whose error it is, with its code when it has one.
func (c *call) ipamErr(err error) error {
	if err == nil {
		return nil
	}
	var e *types.Error
	if errors.As(err, &e) {
		return types.NewError(e.Code, visible.Line("ipam "+c.IPAM.Type+": "+e.Error()), "")
	}
	return types.NewError(types.ErrInternal, visible.Line("ipam "+c.IPAM.Type+": "+err.Error()), "")
}
