package observe

import (
	"cmp"
	"context"
	"net/netip"
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

// Flows lists the flows that q selects, as its container sees them, the highest
// rate first. Flows that both ends have closed are not among them. Of more than sortedRows, with no limit below or one over
// server.MaxSorted, the order is that of the table.
func (o *Observer) Flows(_ context.Context, q api.FlowQuery) (server.Rows[api.Flow], error) {
	f, err := o.flowFilter(q)
	if err != nil {
		return nil, err
	}
	l := listing[api.Flow]{
		limit: q.Limit,
		order: func(a, b *conntrack.Info) int {
			return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(b.Bytes[0]+b.Bytes[1], a.Bytes[0]+a.Bytes[1]), cmp.Compare(a.Age, b.Age))
		},
		wanted: func(names *directory.Directory, i *conntrack.Info) bool {
			if f.all() || i.Closed && !q.Closed {
				return !i.Closed || q.Closed // what is closed is remembered for late packets only
			}
			_, ok := f.seen(viewFlow(names, i, time.Now()))
			return ok
		},
		view: func(names *directory.Directory, i *conntrack.Info) api.Flow {
			now := time.Now()
			v, _ := f.seen(viewFlow(names, i, now))
			v.Carrier = api.CarrierSwitch
			if i.Carried > 0 {
				since := now.Add(-i.Carried).UTC()
				v.Carrier, v.CarriedSince = api.CarrierKernel, &since
			}
			return v
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

// chosen are the containers, or interfaces of theirs, that a table is asked for; nil: all.
type chosen struct{ directory.Word }

// only reads the word of a request, as directory.Select does.
func (o *Observer) only(word string) (*chosen, error) {
	if word == "" {
		return nil, nil
	}
	s, err := o.dir.Now().Select(word)
	if err != nil {
		return nil, err
	}
	return &chosen{s.Word}, nil
}

// has reports whether an end of a flow is of what was asked for.
func (c *chosen) has(e end) bool {
	return c == nil || e.of != nil && (c.Ifname == "" || c.Ifname == e.ifname) && c.Fits(e.of)
}

// port is the same of a port.
func (c *chosen) port(names *directory.Directory, id frame.PortID) bool {
	p, _ := names.Port(id)
	return c == nil || c.FitsPort(names.Behind(id), p)
}

// viewed is a flow as it is shown, and its ends: near is that of Container.
type viewed struct {
	api.Flow
	near, far end
}

// end is one end of a flow: a name, and the container that has it.
type end struct {
	name, network, ifname string
	of                    *directory.Container
}

// viewFlow shows a flow from the side of the container that it counts for;
// when both sides are containers, from the one that began it.
func viewFlow(d *directory.Directory, i *conntrack.Info, now time.Time) viewed {
	f := viewed{Flow: api.Flow{
		Proto: model.ProtoName(i.Orig.Proto), Kind: i.Kind.String(), State: i.State, Rate: float64(i.Rate),
		Age: i.Age.Seconds(), Idle: i.Idle.Seconds(), Start: now.Add(-i.Age).UTC(),
		Direction: api.FlowOut, Address: Side(i.Orig.Src, i.Orig.SrcPort), PeerAddress: Side(i.Orig.Dst, i.Orig.DstPort),
		SentPackets: i.Packets[0], SentBytes: i.Bytes[0], ReceivedPackets: i.Packets[1], ReceivedBytes: i.Bytes[1],
	}}
	switch i.Kind {
	case conntrack.KindMasquerade:
		f.Outside = Side(i.Reply.Dst, i.Reply.DstPort)
	case conntrack.KindHairpin, conntrack.KindPublish, conntrack.KindInbound:
		f.Outside, f.PeerAddress = Side(i.Orig.Dst, i.Orig.DstPort), Side(i.Reply.Src, i.Reply.SrcPort)
	}
	s := sidesOf(d, i)
	f.near, f.far = s.near, s.far
	f.Container, f.Peer = s.near.name, s.far.name
	f.Network = cmp.Or(s.near.network, s.far.network)
	if (f.Container == "" || f.Container == directory.HostName) && f.Peer != "" && f.Peer != directory.HostName || i.Kind == conntrack.KindPublish && f.Container == directory.HostName {
		f = f.turned()
	}
	if f.Container == directory.HostName {
		f.Container = ""
	}
	return f
}

// sides are a flow's ends, near that of who began it.
type sides struct{ near, far end }

func sidesOf(d *directory.Directory, i *conntrack.Info) (s sides) {
	far := i.Orig.Dst
	switch i.Kind {
	case conntrack.KindHairpin, conntrack.KindPublish, conntrack.KindInbound:
		far = i.Reply.Src // the container is at the address behind the published one
	}
	s.near, s.far = endAt(d, i.Orig.Src.NetIP()), endAt(d, far.NetIP())
	if i.Kind == conntrack.KindBridged { // an unguarded port may use any address
		s.near, s.far = behind(d, i.Port, s.near), behind(d, i.Other, s.far)
	}
	return s
}

func endAt(d *directory.Directory, a netip.Addr) (e end) {
	if p := d.Place(a); p.Owner != "" {
		return end{p.Container, p.Network, p.Ifname, d.ByID(p.Owner)}
	}
	e.name, e.network = d.Name(a)
	return e
}

// behind is the container or the host at a port, where the address has no name.
func behind(d *directory.Directory, id frame.PortID, e end) end {
	p, ok := d.Port(id)
	switch {
	case e.name != "" || !ok:
		e.network = cmp.Or(e.network, p.Network)
		return e
	case p.Kind == directory.KindHost:
		return end{name: directory.HostName, network: p.Network}
	}
	return end{p.Container, p.Network, p.Ifname, d.ByID(p.Owner)}
}

// turned is the flow as the other side sees it.
func (f viewed) turned() viewed {
	f.near, f.far = f.far, f.near
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
