package observe

import (
	"bytes"
	"cmp"
	"context"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/fdb"
	"github.com/vswitch/vswitch/dataplane/header"
)

// FDB lists the MAC tables, by network and address.
func (o *Observer) FDB(context.Context) (server.Rows[api.FDBEntry], error) {
	return func(yield func([]api.FDBEntry) bool) {
		rows, names := o.sw.FDB(), o.dir.Now() // bounded, and of some tens of bytes each
		slices.SortFunc(rows, func(a, b fdb.Entry) int {
			return cmp.Or(cmp.Compare(names.NetworkName(a.Network), names.NetworkName(b.Network)), bytes.Compare(a.MAC[:], b.MAC[:]))
		})
		piece := make([]api.FDBEntry, 0, pageSize)
		for page := range slices.Chunk(rows, pageSize) {
			piece = piece[:0]
			for _, r := range page {
				p, ok := names.Port(r.Port)
				network := names.NetworkName(r.Network)
				if !ok || network == "" {
					continue // removed since the table was read
				}
				piece = append(piece, api.FDBEntry{
					Network: network, VLAN: int(r.VLAN), MAC: r.MAC.String(), Port: p.Name, Container: p.Container,
					Static: r.Static, Age: r.Age.Seconds(),
				})
			}
			if !yield(piece) {
				return
			}
		}
	}, nil
}

// NAT lists the translated connections, oldest first. Of more than sortedRows, with no limit
// below or one over server.MaxSorted, the order is that of the table.
func (o *Observer) NAT(_ context.Context, q api.NATQuery) (server.Rows[api.NATEntry], error) {
	only, err := o.only(q.Container)
	if err != nil {
		return nil, err
	}
	l := listing[api.NATEntry]{
		limit: q.Limit,
		order: func(a, b *conntrack.Info) int { return cmp.Compare(b.Age, a.Age) },
		wanted: func(names *directory.Directory, i *conntrack.Info) bool {
			return i.Kind != conntrack.KindRouted && only.port(names, i.Port)
		},
		view: func(names *directory.Directory, i *conntrack.Info) api.NATEntry {
			p, _ := names.Port(i.Port)
			return api.NATEntry{
				Proto: model.ProtoName(i.Orig.Proto), State: i.State, Kind: i.Kind.String(), Container: p.Container,
				Source: Side(i.Orig.Src, i.Orig.SrcPort), Dest: Side(i.Orig.Dst, i.Orig.DstPort),
				NATSource: Side(i.Reply.Dst, i.Reply.DstPort), NATDest: Side(i.Reply.Src, i.Reply.SrcPort), Shared: i.Lent,
				Packets: i.Packets[0] + i.Packets[1], Bytes: i.Bytes[0] + i.Bytes[1], Age: i.Age.Seconds(), Expires: max(0, i.Expires.Seconds()),
			}
		},
	}
	return l.rows(o.dir.Now, o.connPages), nil
}

// Side writes one end of a flow; the asked side of an ICMP query has no port.
func Side(a header.Addr, port uint16) string {
	if port == 0 {
		return a.String()
	}
	return netip.AddrPortFrom(a.NetIP(), port).String()
}

// protosOf are the protocols of a word of the interface; nil is all of them.
var protosOf = map[string][]uint8{
	"": nil, "tcp": {header.ProtoTCP}, "udp": {header.ProtoUDP}, "sctp": {header.ProtoSCTP}, "icmp": {header.ProtoICMP, header.ProtoICMPv6},
}

// FlushNAT forgets translated connections. One that still carries packets is
// begun anew by the next that may begin one.
func (o *Observer) FlushNAT(_ context.Context, in api.NATFlush) (api.NATFlushed, error) {
	if _, ok := protosOf[in.Proto]; !ok {
		return api.NATFlushed{}, model.Invalidf("protocol %q: use tcp, udp, icmp or sctp", in.Proto)
	}
	which := conntrack.Selector{Protos: protosOf[in.Proto], Kinds: conntrack.AllBut(conntrack.KindRouted)}
	if in.Container != "" {
		s, err := o.dir.Now().Chosen(in.Container)
		if err != nil {
			return api.NATFlushed{}, err
		}
		which.Ports = s.Ports() // of a container without, no flow
	}
	return api.NATFlushed{Count: o.sw.FlushConns(which)}, nil
}

// Stats returns the counters of all ports, by name, or of those that q selects.
func (o *Observer) Stats(_ context.Context, q api.StatsQuery) (api.Stats, error) {
	only, err := o.only(q.Container)
	if err != nil {
		return api.Stats{}, err
	}
	st := o.sw.Stats()
	out := api.Stats{Drops: make(map[string]uint64), Connections: st.Conns,
		Flows: api.FlowStats{Rows: st.Flows.Rows, Active: st.Flows.Active, Frames: st.Flows.Frames, Stations: st.Flows.Stations, Between: st.Flows.Between, Untold: st.Flows.Untold}}
	for r, count := range st.Drops {
		if count > 0 {
			out.Drops[dataplane.DropReason(r).String()] = count
		}
	}
	names := o.dir.Now()
	out.Ports = ViewPorts(names, slices.DeleteFunc(st.Ports, func(p dataplane.PortStats) bool { return !only.port(names, p.ID) }))
	if only == nil {
		return out, nil
	}
	clear(out.Drops)
	for i := range out.Ports {
		for reason, n := range out.Ports[i].Drops {
			out.Drops[reason] += n
		}
	}
	return out, nil
}

// ViewPorts names the ports of the data path and sorts them.
func ViewPorts(names *directory.Directory, ports []dataplane.PortStats) []api.PortStats {
	list := make([]api.PortStats, 0, len(ports))
	for _, p := range ports {
		n, ok := names.Port(p.ID)
		if !ok {
			continue
		}
		v := api.PortStats{
			Port: n.Name, Kind: n.Kind, Network: n.Network, Container: n.Container, ContainerID: n.Owner,
			RxFrames: p.Rx, RxBytes: p.RxBytes, TxFrames: p.Tx, TxBytes: p.TxBytes,
			KernelDrops: p.KernelDrops, CostNS: uint64(p.Cost), Drops: make(map[string]uint64),
		}
		if n.Kind == directory.KindContainer {
			v.Interface = n.Ifname
		}
		for r, count := range p.Drops {
			if count > 0 {
				v.Drops[dataplane.DropReason(r).String()] = count
			}
		}
		list = append(list, v)
	}
	slices.SortFunc(list, func(a, b api.PortStats) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Container, b.Container), cmp.Compare(a.ContainerID, b.ContainerID), cmp.Compare(a.Interface, b.Interface), cmp.Compare(a.Port, b.Port))
	})
	return list
}
