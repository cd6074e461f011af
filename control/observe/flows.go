package observe

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// pageSize is how many flows are read at once: 64 KiB of them.
const pageSize = 256

// sortedRows is up to how many flows are sorted before the first is shown. Of more, all in one
// piece, a list would be memory that each reader takes anew.
const sortedRows = 4096

// Flows lists the flows of all containers, or of one as it sees them, those with the highest
// rate first. Of more than sortedRows, with no limit below or one over
// server.MaxSorted, the order is that of the table.
func (o *Observer) Flows(_ context.Context, q api.FlowQuery) (server.Rows[api.Flow], error) {
	_, only, err := o.namesFor(q.Container)
	if err != nil {
		return nil, err
	}
	l := listing[api.Flow]{
		limit: q.Limit,
		order: func(a, b *conntrack.Info) int {
			return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Bytes[0]+b.Bytes[1], a.Bytes[0]+a.Bytes[1]), cmp.Compare(a.Age, b.Age))
		},
		wanted: func(names *directory.Directory, i *conntrack.Info) bool {
			if only == "" {
				return true
			}
			s := sidesOf(names, i)
			return s.near == only || s.far == only
		},
		view: func(names *directory.Directory, i *conntrack.Info) api.Flow {
			f := viewFlow(names, i, time.Now())
			if only != "" && f.Container != only {
				f = turned(f)
			}
			return f
		},
	}
	return l.rows(o.dir.Now, o.flowPages), nil
}

// pages calls fn for the flows of a table, page by page, until it returns false.
func pages(read func([]conntrack.Info, uint32) (int, uint32), fn func([]conntrack.Info) bool) bool {
	page := make([]conntrack.Info, pageSize)
	for n, place := read(page, 0); ; n, place = read(page, place) {
		if !fn(page[:n]) {
			return false
		}
		if place == 0 {
			return true
		}
	}
}

// connPages are the tracked flows, flowPages those and the bridged ones.
func (o *Observer) connPages(fn func([]conntrack.Info) bool) { pages(o.sw.ReadConns, fn) }

func (o *Observer) flowPages(fn func([]conntrack.Info) bool) {
	if !pages(o.sw.ReadConns, fn) {
		return
	}
	var parts []conntrack.Info // some thousands of a worker at most
	if !pages(o.sw.ReadBridged, func(page []conntrack.Info) bool {
		parts = append(parts, page...)
		return fn(nil)
	}) {
		return
	}
	for page := range slices.Chunk(conntrack.MergeParts(parts), pageSize) {
		if !fn(page) {
			return
		}
	}
}

// namesFor is the directory, and for a list of a container's flows its name.
func (o *Observer) namesFor(container string) (d *directory.Directory, only string, err error) {
	d = o.dir.Now()
	if container != "" {
		ct, err := d.Container(container)
		if err != nil {
			return nil, "", err
		}
		only = ct.Name
	}
	return d, only, nil
}

// viewFlow shows a flow from the side of the container that it counts for;
// when both sides are containers, from the one that began it.
func viewFlow(d *directory.Directory, i *conntrack.Info, now time.Time) api.Flow {
	f := api.Flow{
		Proto: model.ProtoName(i.Orig.Proto), Kind: i.Kind.String(), State: i.State, Rate: float64(i.Rate),
		Age: i.Age.Seconds(), Idle: i.Idle.Seconds(), Start: now.Add(-i.Age).UTC(),
		Direction: api.FlowOut, Address: Side(i.Orig.Src, i.Orig.SrcPort), PeerAddress: Side(i.Orig.Dst, i.Orig.DstPort),
		SentPackets: i.Packets[0], SentBytes: i.Bytes[0], ReceivedPackets: i.Packets[1], ReceivedBytes: i.Bytes[1],
	}
	switch i.Kind {
	case conntrack.KindMasquerade:
		f.Outside = Side(i.Reply.Dst, i.Reply.DstPort)
	case conntrack.KindHairpin, conntrack.KindPublish, conntrack.KindInbound:
		f.Outside, f.PeerAddress = Side(i.Orig.Dst, i.Orig.DstPort), Side(i.Reply.Src, i.Reply.SrcPort)
	}
	s := sidesOf(d, i)
	f.Container, f.Peer = s.near, s.far
	network, peerNetwork := s.network, s.farNetwork
	if f.Network = network; f.Network == "" {
		f.Network = peerNetwork
	}
	if (f.Container == "" || f.Container == directory.HostName) && f.Peer != "" && f.Peer != directory.HostName || i.Kind == conntrack.KindPublish && f.Container == directory.HostName {
		f = turned(f)
	}
	if f.Container == directory.HostName {
		f.Container = ""
	}
	return f
}

// sides are the names of a flow's ends, near that of who began it, and their networks.
type sides struct{ near, network, far, farNetwork string }

func sidesOf(d *directory.Directory, i *conntrack.Info) (s sides) {
	far := i.Orig.Dst
	switch i.Kind {
	case conntrack.KindHairpin, conntrack.KindPublish, conntrack.KindInbound:
		far = i.Reply.Src // the container is at the address behind the published one
	}
	s.near, s.network = d.Name(i.Orig.Src.NetIP())
	s.far, s.farNetwork = d.Name(far.NetIP())
	if i.Kind == conntrack.KindBridged { // an unguarded port may use any address
		s.near, s.network = behind(d, i.Port, s.near, s.network)
		s.far, s.farNetwork = behind(d, i.Other, s.far, s.farNetwork)
	}
	return s
}

// behind names the container or the host at a port, where the address has no
// name.
func behind(d *directory.Directory, id frame.PortID, name, network string) (string, string) {
	p, ok := d.Port(id)
	switch {
	case name != "" || !ok:
		return name, cmp.Or(network, p.Network)
	case p.Kind == directory.KindHost:
		return directory.HostName, p.Network
	}
	return p.Container, p.Network
}

// turned is the flow as the other side sees it.
func turned(f api.Flow) api.Flow {
	f.Container, f.Peer = f.Peer, f.Container
	f.Address, f.PeerAddress = f.PeerAddress, f.Address
	f.SentPackets, f.ReceivedPackets = f.ReceivedPackets, f.SentPackets
	f.SentBytes, f.ReceivedBytes = f.ReceivedBytes, f.SentBytes
	if f.Direction == api.FlowOut {
		f.Direction = api.FlowIn
	} else {
		f.Direction = api.FlowOut
	}
	return f
}
