package edgetest

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane/header"
)

func testReservations(c contract) {
	all, one := netip.Addr{}, netip.MustParseAddr("198.51.100.2")
	take := func(addr netip.Addr, first, last uint16) (edge.Hold, error) {
		return c.TakePorts(header.ProtoTCP, addr, first, last, reserve.Keeper{})
	}
	h, err := take(all, 8080, 8082)
	c.ok("take", err)
	_, err = take(all, 8082, 8090)
	c.refused("what overlaps", err, reserve.ErrTaken)
	_, err = take(netip.IPv4Unspecified(), 8080, 8080)
	c.refused("every address of a family", err, reserve.ErrTaken)
	narrow, err := take(one, 8080, 8080)
	c.ok("one address beside all", err)
	_, err = take(one, 8080, 8080)
	c.refused("that again", err, reserve.ErrTaken)
	udp, err := c.TakePorts(header.ProtoUDP, all, 8080, 8080, reserve.Keeper{})
	c.ok("another protocol", err)
	busy, err := c.BusyPorts()
	c.ok("busy ports", err)
	if !slices.ContainsFunc(busy, func(s host.Socket) bool { return s.Proto == header.ProtoTCP && s.Port == 8081 }) {
		c.Error("a held port is not busy")
	}
	for _, h := range []edge.Hold{h, h, narrow, udp} {
		c.ok("release", h.Release())
	}
	closeSocket := c.Bind(9000)
	_, err = take(all, 8999, 9001)
	c.refused("a program's port", err, reserve.ErrTaken)
	if err != nil && !strings.Contains(err.Error(), "port 9000/tcp is held by") {
		c.Errorf("a program's port: %v", err)
	}
	_, err = take(one, 9000, 9000)
	c.refused("a program's port, on one address", err, reserve.ErrTaken)
	closeSocket()
	h, err = take(all, 8999, 9001)
	c.ok("once it is free", err)
	c.ok("release", h.Release())
	h, err = take(netip.MustParseAddr("203.0.113.7"), 9000, 9000)
	c.ok("an address that is away", err)
	c.ok("release", h.Release())
	_, err = take(all, 0, 0)
	c.refused("no port", err, nil)
	first, err := c.FreePort(header.ProtoTCP, all, 3)
	c.ok("free port", err)
	if low, high := c.LocalPorts(); first < low || first+2 > high {
		c.Errorf("free ports from %d, out of the range of local ports", first)
	}
	h, err = take(all, first, first+2)
	c.ok("take the free ports", err)
	if next, err := c.FreePort(header.ProtoTCP, all, 1); err != nil || first <= next && next <= first+2 {
		c.Errorf("free port %d, %v: that one is taken", next, err)
	}
	c.ok("release", h.Release())
}

// testLarge: a large range is reserved in place of being held, and stored before.
func testLarge(c contract) {
	var stored []reserve.Range
	e := begin(c.T, c.Machine, func(list []reserve.Range) error { stored = list; return nil })
	defer e.Close()
	h, err := e.TakePorts(header.ProtoTCP, netip.Addr{}, 20000, 20999, reserve.Keeper{})
	c.ok("take", err)
	if want := []reserve.Range{{First: 20000, Last: 20999}}; !slices.Equal(stored, want) {
		c.Errorf("stored %v, want %v", stored, want)
	}
	if list, err := e.Intruders(); err != nil || len(list) != 0 {
		c.Errorf("intruders %v, %v", list, err)
	}
	closeSocket := c.Bind(20500)
	list, err := e.Intruders()
	c.ok("intruders", err)
	if len(list) != 1 || list[0].Port != 20500 || e.SocketOwner(list[0].Inode) == "" {
		c.Errorf("intruders %+v", list)
	}
	closeSocket()
	c.ok("release", h.Release())
	if len(stored) != 0 {
		c.Errorf("stored %v after the release", stored)
	}
	refuse := begin(c.T, c.Machine, func([]reserve.Range) error { return errFull })
	defer refuse.Close()
	_, err = refuse.TakePorts(header.ProtoTCP, netip.Addr{}, 20000, 20999, reserve.Keeper{})
	c.refused("take what cannot be stored", err, errFull)
}

var errFull = &takenError{"no space left on device"}

func testNeighbors(c contract) {
	d, err := c.OpenDevice(edge.DeviceSpec{
		Name: "vs-0123456789", MAC: []byte{2, 0, 0, 0, 0, 1}, MTU: 1500, Addrs: []netip.Prefix{netip.MustParsePrefix("10.88.0.1/24")},
	})
	c.ok("device", err)
	defer d.Close()
	wait := c.follow()
	web := host.Neighbor{Ifindex: d.Index(), Addr: netip.MustParseAddr("10.88.0.5"), MAC: []byte{2, 0, 0, 0, 0, 5}}
	known := func() bool {
		all, err := c.Edge.Neighbors()
		c.ok("neighbours", err)
		return slices.ContainsFunc(all, func(n host.Neighbor) bool {
			return n.Ifindex == web.Ifindex && n.Addr == web.Addr && slices.Equal(n.MAC, web.MAC)
		})
	}
	c.ok("set", c.SetNeighbor(web))
	if !known() {
		c.Error("a neighbour that was set is not there")
	}
	wait("the neighbour", func(e host.Event) bool {
		return e.Kind == host.NeighborChanged && e.Neighbor.Addr == web.Addr && slices.Equal(e.Neighbor.MAC, web.MAC)
	})
	c.ok("forget", c.DelNeighbor(web.Ifindex, web.Addr))
	c.ok("forget again", c.DelNeighbor(web.Ifindex, web.Addr))
	if known() {
		c.Error("a neighbour that was forgotten is there")
	}
	wait("its end", func(e host.Event) bool {
		return e.Kind == host.NeighborChanged && e.Neighbor.Addr == web.Addr && e.Neighbor.MAC == nil
	})
	c.ok("ask", c.Resolve(d.Index(), netip.MustParseAddr("10.88.0.6")))
	web.Ifindex = 1 << 20
	c.refused("a neighbour by no interface", c.SetNeighbor(web), nil)
	c.refused("ask by no interface", c.Resolve(1<<20, web.Addr), nil)
	c.ok("forget by no interface", c.DelNeighbor(1<<20, web.Addr))
}

func testRoutes(c contract) {
	eth0, err := c.Link("eth0")
	c.ok("eth0", err)
	find := func(prefix string) host.Route {
		c.Helper()
		routes, err := c.Routes()
		c.ok("routes", err)
		i := slices.IndexFunc(routes, func(r host.Route) bool { return r.Prefix.String() == prefix })
		if i < 0 {
			return host.Route{}
		}
		return routes[i]
	}
	if r := find("0.0.0.0/0"); r.Via.String() != "198.51.100.1" || r.Ifindex != eth0.Index || r.Kind != host.Unicast {
		c.Errorf("default route %+v", r)
	}
	if r := find("198.51.100.2/32"); r.Kind != host.Local || r.Ifindex != eth0.Index {
		c.Errorf("the host's own address %+v", r)
	}
	if r := find("198.51.100.0/24"); r.Kind != host.Unicast || r.Via.IsValid() || r.Source.String() != "198.51.100.2" {
		c.Errorf("the subnet %+v", r)
	}
	for p, want := range map[string]string{"198.51.100.128/25": "198.51.100.0/24 dev eth0", "10.77.0.0/16": ""} {
		if got, yes := c.Overlaps(netip.MustParsePrefix(p)); got != want || yes != (want != "") {
			c.Errorf("%s overlaps %q, %v, want %q", p, got, yes, want)
		}
	}
	c.AddAddr("eth0", "203.0.113.5/24")
	if r := find("203.0.113.0/24"); !r.Prefix.IsValid() || r.Ifindex != eth0.Index {
		c.Errorf("the new subnet %+v", r)
	}
	c.DelAddr("eth0", "203.0.113.5/24")
	if r := find("203.0.113.0/24"); r.Prefix.IsValid() {
		c.Errorf("the subnet that has gone %+v", r)
	}
	c.SetDown("eth0")
	for _, p := range []string{"0.0.0.0/0", "198.51.100.0/24"} {
		if r := find(p); r.Prefix.IsValid() {
			c.Errorf("by an interface that is down %+v", r)
		}
	}
}

func testEvents(c contract) {
	wait := c.follow()
	at := func(kind host.EventKind, addr string) func(host.Event) bool {
		return func(e host.Event) bool { return e.Kind == kind && e.Addr.Prefix.String() == addr }
	}
	c.AddAddr("eth0", "203.0.113.5/24")
	wait("an address", at(host.AddrAdded, "203.0.113.5/24"))
	wait("its route", func(e host.Event) bool { return e.Kind == host.RouteChanged })
	c.DelAddr("eth0", "203.0.113.5/24")
	wait("the address's end", at(host.AddrGone, "203.0.113.5/24"))
	ns, _ := c.netns("web")
	w := cable()
	index, err := c.AddCable(ns, w)
	c.ok("add", err)
	wait("a cable", func(e host.Event) bool { return e.Kind == host.LinkChanged && e.Link.Name == w.Name && e.Link.Up })
	c.ok("remove", c.DelLink(w.Name, index))
	wait("its end", func(e host.Event) bool { return e.Kind == host.LinkGone && e.Link.Name == w.Name })
	c.SetDown("eth0")
	wait("eth0 down", func(e host.Event) bool { return e.Kind == host.LinkChanged && e.Link.Name == "eth0" && !e.Link.Up })
}

func testRelay(c contract) {
	r, err := c.Steer(nil)
	c.ok("steer", err)
	if s := r.Stats(); s.TCP != 0 || s.UDP != 0 {
		c.Errorf("%+v", s)
	}
	c.ok("close", r.Close())
}
