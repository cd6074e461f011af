package inventory

import (
	"slices"
	"strconv"
	"strings"

	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Join gives a container a place in a network: addresses, a MAC address and names.
// Nothing is taken after an error.
func (v *Inventory) Join(ct *Container, j model.JoinPlan) (*Endpoint, error) {
	n, err := v.Network(j.Network)
	if err != nil {
		return nil, err
	}
	if ct.EndpointIn(n) != nil && j.Ifname == "" {
		return nil, model.Conflictf("it is in network %s already: name each network once, or give each interface a name", n.Called())
	}
	e := &Endpoint{Network: n, Container: ct, Ifname: j.Ifname, RuntimeNet: j.RuntimeNet, MAC: j.MAC, Layer2: j.Layer2, Quota: j.Quota, Egress: j.Egress, Routes: j.Routes, Aliases: j.Aliases}
	if e.Ifname == "" && !ct.Rec.Handover {
		e.Ifname = ct.freeIfname()
	}
	for _, o := range ct.Endpoints {
		if o.Ifname == e.Ifname {
			return nil, model.Conflictf("interface %s is its port in network %s: choose another name with --ifname", e.Ifname, o.Network.Called())
		}
	}
	if len(e.Routes) > 0 && ct.Rec.Handover {
		return nil, model.Invalidf("its runtime gives its interfaces their routes: name them there")
	}
	if e.Egress != "" && !e.LeadsOut(model.IPv4) && !e.LeadsOut(model.IPv6) {
		return nil, model.Invalidf("network %s has no way out: leave egress %s out, or take another network", n.Called(), e.Egress)
	}
	if err := model.FitRoutes(e.Routes, n.Rec); err != nil {
		return nil, err
	}
	if who := n.MACs[e.MAC]; who != "" {
		return nil, model.Conflictf("MAC address %s is that of %s in network %s: choose another", e.MAC, who, n.Called())
	}
	if e.Addrs, err = n.Addrs.Take(j.IPs, ct.Rec.Name, ct.Rec.Runtime); err != nil {
		return nil, err
	}
	of := e.Addrs[0]
	if j.IPs[model.IPv6].IsValid() && !j.IPs[model.IPv4].IsValid() {
		of = j.IPs[model.IPv6] // the one that the container's successor will ask for too
	}
	for try := 0; e.MAC.IsZero() || j.MAC.IsZero() && n.MACs[e.MAC] != ""; try++ {
		e.MAC = model.DeriveMAC(n.Rec.ID, of, try)
	}
	for e.Veth == "" || v.Endpoints[e.Veth] != nil {
		e.Veth = v.Marks.Veth() + model.NewID()[:6]
	}
	if ct.Rec.Handover {
		e.Ifname = e.WaitsAs()
	}
	e.Alias = v.Marks.OfEndpoint(e)
	v.enterEndpoint(e)
	ct.order()
	return e, nil
}

// order puts eth0 before eth1, others where they are: a container that leaves a network and comes
// back has the way out that it had (Gateway).
func (ct *Container) order() {
	last := len(ct.Endpoints) - 1
	n, ok := numberOf(ct.Endpoints[last].Ifname)
	if !ok {
		return
	}
	at := slices.IndexFunc(ct.Endpoints, func(o *Endpoint) bool {
		m, ok := numberOf(o.Ifname)
		return ok && m > n
	})
	if at >= 0 { // a view may still range over the old list
		e := ct.Endpoints[last]
		ct.Endpoints = slices.Insert(slices.Clone(ct.Endpoints[:last]), at, e)
	}
}

// numberOf is the number of an interface that is called as freeIfname calls them.
func numberOf(ifname string) (n int, ok bool) {
	text, ok := strings.CutPrefix(ifname, "eth")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil
}

// Rejoin gives an endpoint that is on record its old place.
func (v *Inventory) Rejoin(ct *Container, er state.Endpoint, n *Network) (*Endpoint, error) {
	mac, err := header.ParseMAC(er.MAC)
	if err != nil {
		return nil, err
	}
	l2, err := model.ParseLayer2(er.Guard, er.VLAN, er.Trunk)
	if err != nil {
		return nil, err
	}
	way, err := model.ParseEgress(er.Egress)
	if err != nil {
		return nil, err
	}
	e := &Endpoint{Network: n, Container: ct, Ifname: er.Ifname, RuntimeNet: er.RuntimeNetwork, Veth: er.Veth, Index: er.Ifindex, Alias: er.Alias, MAC: mac, Layer2: l2, Quota: model.QuotaOf(&er), Egress: way.String(), Routes: er.Routes, Aliases: er.Aliases}
	if e.Addrs, err = n.Addrs.Take(model.ByFamilyOf(er.Addrs), ct.Rec.Name, ct.Rec.Runtime); err != nil {
		return nil, err
	}
	v.enterEndpoint(e)
	return e, nil
}

// enterEndpoint enters an endpoint that has its addresses.
func (v *Inventory) enterEndpoint(e *Endpoint) {
	e.Network.MACs[e.MAC] = "container " + e.Container.Rec.Name
	e.Network.Members[e] = true
	v.Endpoints[e.Veth] = e
	e.Container.Endpoints = append(e.Container.Endpoints, e)
	v.Changed(e.Container)
}

// Leave takes the place of an endpoint away.
func (v *Inventory) Leave(e *Endpoint) {
	e.Network.Addrs.Release(e.Addrs)
	e.Network.left(e)
	delete(e.Network.MACs, e.MAC)
	delete(e.Network.Members, e)
	delete(v.Endpoints, e.Veth)
	e.Container.Endpoints = Without(e.Container.Endpoints, []*Endpoint{e})
	v.Changed(e.Container)
}

// Without returns a new list: a view may still range over the old one.
func Without[T comparable](list, gone []T) []T {
	return slices.DeleteFunc(slices.Clone(list), func(e T) bool { return slices.Contains(gone, e) })
}
