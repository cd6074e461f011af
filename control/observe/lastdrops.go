package observe

import (
	"context"
	"fmt"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/reasons"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// LastDrops explains the last frames that were dropped, at all ports or at those
// of a container, the latest first.
func (o *Observer) LastDrops(_ context.Context, name string) ([]api.Drop, error) {
	var ports []frame.PortID
	if name != "" {
		s, err := o.dir.Now().Select(name)
		if err != nil {
			return nil, err
		}
		ports = s.Ports()
	}
	infos := o.sw.LastDrops(ports)
	now := time.Now()
	names := o.dir.Now()
	list := []api.Drop{}
	for i := range infos {
		d := &infos[i]
		n, ok := names.Port(d.Port)
		if !ok {
			continue
		}
		v := api.Drop{
			Time: now.Add(-d.Ago).UTC(), Count: d.Count, Reason: d.Reason.String(), Interface: n.Name, Container: n.Container, Network: n.Network,
			VLAN: int(d.VLAN), SourceMAC: d.Src.String(), DestMAC: d.Dst.String(),
		}
		f := reasons.Facts{Container: n.Container, Network: n.Network, Iface: n.Name}
		switch t := &d.Tuple; {
		case *t != header.Tuple{}:
			v.Proto, v.Source, v.Dest = model.ProtoName(t.Proto), Side(t.Src, t.SrcPort), Side(t.Dst, t.DstPort)
			v.Peer, f.PeerNetwork = names.Name(t.Dst.NetIP())
			f.Peer, f.Proto, f.Source, f.Destination = v.Peer, v.Proto, t.Src.String(), t.Dst.String()
			if t.DstPort != 0 {
				f.Port = fmt.Sprint(t.DstPort)
			}
		case d.EtherType == header.TypeARP:
			v.Proto = "arp"
		case d.EtherType != 0:
			v.Proto = fmt.Sprintf("ethertype %#04x", d.EtherType)
		}
		v.Explanation, v.Fix = reasons.Explain(d.Reason, f)
		list = append(list, v)
	}
	return list, nil
}
