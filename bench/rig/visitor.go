package rig

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

const (
	visitorName = "visitor"
	visitorPort = "visit0" // its device under the bridge
	visitorAddr = "10.88.0.250/24"
)

// Visitor is a container that comes and goes beside A and B. Its namespace stays.
// Attach and Detach take turns, and one goroutine calls them while others use the rig.
type Visitor struct {
	NS  *netlab.NS
	rig *Rig
}

// Visitor is made when it is first asked for.
func (r *Rig) Visitor() (*Visitor, error) {
	if r.visitor == nil {
		ns, err := r.namespace(visitorName)
		if err != nil {
			return nil, err
		}
		r.visitor = &Visitor{ns, r}
	}
	return r.visitor, nil
}

// Attach gives the visitor an interface with an address and a default route, as A
// and B have.
func (v *Visitor) Attach(ctx context.Context) error {
	if v.rig.API != nil {
		_, err := v.rig.API.Attach(ctx, api.Attach{Name: visitorName, Netns: v.NS.Path()})
		return err
	}
	if !netip.MustParsePrefix(bridgeSubnet).Contains(v.rig.B.Addr) {
		return fmt.Errorf("%s takes no visitors", v.rig.System)
	}
	host := v.rig.World.Host
	for _, step := range []func() error{
		func() error { return netlab.Veth(host, visitorPort, v.NS, "eth0", 1500) },
		func() error { return v.NS.AddAddr("eth0", visitorAddr) },
		func() error { return v.NS.SetUp("eth0") },
		func() error { return v.NS.AddRoute("default", bridgeGateway, "eth0") },
		func() error { return v.rig.AddBridgePorts(visitorPort) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Detach takes the interface away.
func (v *Visitor) Detach(ctx context.Context) error {
	if v.rig.API != nil {
		return v.rig.API.Detach(ctx, visitorName)
	}
	return v.rig.World.Host.DelLink(visitorPort)
}
