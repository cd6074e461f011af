package control

import (
	"context"
	"fmt"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// LastDrops explains the last frames that were dropped, at all ports or at those
// of a container, the latest first.
func (c *Controller) LastDrops(_ context.Context, name string) ([]api.Drop, error) {
	var ports []frame.PortID
	if name != "" {
		c.mu.Lock()
		ct, err := c.findContainerLocked(name)
		if err != nil {
			c.mu.Unlock()
			return nil, err
		}
		ports = []frame.PortID{}
		for _, e := range ct.endpoints {
			ports = append(ports, e.port)
		}
		c.mu.Unlock()
	}
	infos := c.sw.LastDrops(ports)
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	names := c.flowNamesLocked()
	list := []api.Drop{}
	for i := range infos {
		d := &infos[i]
		n, ok := c.portNameLocked(d.Port)
		if !ok {
			continue
		}
		v := api.Drop{
			Time: now.Add(-d.Ago).UTC(), Count: d.Count, Reason: d.Reason.String(), Interface: n.name, Container: n.container, Network: n.network,
			VLAN: int(d.VLAN), SourceMAC: d.Src.String(), DestMAC: d.Dst.String(),
		}
		f := dropFacts{container: n.container, network: n.network, iface: n.name}
		switch t := &d.Tuple; {
		case *t != header.Tuple{}:
			v.Proto, v.Source, v.Dest = protoName(t.Proto), side(t.Src, t.SrcPort), side(t.Dst, t.DstPort)
			v.Peer, f.peerNetwork = names.of(t.Dst.NetIP())
			f.peer, f.proto, f.source, f.destination = v.Peer, v.Proto, t.Src.String(), t.Dst.String()
			if t.DstPort != 0 {
				f.port = fmt.Sprint(t.DstPort)
			}
		case d.EtherType == header.TypeARP:
			v.Proto = "arp"
		case d.EtherType != 0:
			v.Proto = fmt.Sprintf("ethertype %#04x", d.EtherType)
		}
		v.Explanation, v.Fix = explainDrop(d.Reason, f)
		list = append(list, v)
	}
	return list, nil
}
