package edgetest

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/port"
)

// cable is that of a container called web.
func cable() edge.Cable {
	return edge.Cable{
		Name: "veth0123456789a", Alias: "vswitch:" + owner + ":web/eth0", Ifname: "eth0", MAC: []byte{2, 0, 0, 0, 0, 5}, MTU: 1400,
		Addrs:      []netip.Prefix{netip.MustParsePrefix("10.88.0.5/24"), netip.MustParsePrefix("fd00:88::5/64")},
		Gateways:   []netip.Addr{netip.MustParseAddr("10.88.0.1"), netip.MustParseAddr("fd00:88::1")},
		GatewayMAC: []byte{2, 0, 0, 0, 0, 1},
		Routes:     []host.StaticRoute{{To: netip.MustParsePrefix("10.99.0.0/16"), Via: netip.MustParseAddr("10.88.0.9")}},
	}
}

func testNamespaces(c contract) {
	for what, path := range map[string]string{"nothing": "/run/netns/nosuch", "a file": "/proc/version"} {
		_, err := c.OpenNetns(path, 0)
		c.refused(what, err, host.ErrNoNetns)
	}
	_, err := c.OpenNetns("", 1<<22)
	c.refused("no process", err, host.ErrNoNetns)
	ns, path := c.netns("web")
	again, err := c.OpenNetns(path, 0)
	c.ok("open again", err)
	dev, ino := ns.ID()
	if d, i := again.ID(); d != dev || i != ino || ino == 0 {
		c.Errorf("the same namespace is %d:%d and %d:%d", dev, ino, d, i)
	}
	if c.IsHost(ns) {
		c.Error("the namespace of a container is taken for the host's")
	}
	c.ok("close", again.Close())
	c.ok("close again", again.Close())
	_, err = c.AddCable(again, cable())
	c.refused("a closed namespace", err, nil)
}

func testCables(c contract) {
	ns, _ := c.netns("web")
	before := c.names()
	w := cable()
	index, err := c.AddCable(ns, w)
	c.ok("add", err)
	l, err := c.Link(w.Name)
	c.ok("link", err)
	if l.Index != index || l.Alias != w.Alias || l.Kind != "veth" || l.MTU != w.MTU || !l.Up || !l.Ethernet {
		c.Errorf("the host's end is %+v", l)
	}
	peer, here, err := c.Peer(w.Name, index)
	c.ok("peer", err)
	if peer.Name != "eth0" || here || !slices.Equal(peer.MAC, w.MAC) {
		c.Errorf("the container's end is %+v, on the host: %v", peer, here)
	}
	c.ok("check", c.CheckCable(ns, index, w))
	c.ok("check from outside", c.CheckCable(nil, index, w))
	for what, change := range map[string]func(*edge.Cable){
		"address": func(w *edge.Cable) { w.Addrs = append(slices.Clone(w.Addrs), netip.MustParsePrefix("10.88.0.6/24")) },
		"gateway": func(w *edge.Cable) { w.Gateways = []netip.Addr{netip.MustParseAddr("10.88.0.2")} },
		"route":   func(w *edge.Cable) { w.Routes[0].Via = netip.MustParseAddr("10.88.0.8") },
		"MAC":     func(w *edge.Cable) { w.MAC = []byte{2, 0, 0, 0, 0, 6} },
		"alias":   func(w *edge.Cable) { w.Alias = "another" },
		"name":    func(w *edge.Cable) { w.Ifname = "eth1" },
	} {
		other := cable()
		change(&other)
		c.refused("check with another "+what, c.CheckCable(ns, index, other), nil)
	}
	c.ok("gateway", c.SetDefaultRoute(ns, "eth0", netip.MustParseAddr("10.88.0.2")))
	c.refused("check after another gateway", c.CheckCable(ns, index, w), nil)
	c.refused("gateway out of reach", c.SetDefaultRoute(ns, "eth0", netip.MustParseAddr("10.89.0.2")), nil)
	c.refused("gateway of no interface", c.SetDefaultRoute(ns, "eth7", netip.MustParseAddr("10.88.0.2")), host.ErrNotFound)

	k, err := c.OpenCable(edge.Port{Index: index, Name: w.Name, Number: 7})
	c.ok("open", err)
	p := c.port(k)
	c.ok("check the port", p.Check())
	c.ok("close the port", p.Close())
	c.ok("close", k.Close())
	k, err = c.OpenCable(edge.Port{Index: index, Name: w.Name, Number: 8})
	c.ok("open again, by another number", err)
	c.ok("close", k.Close())

	c.ok("remove another index", c.DelLink(w.Name, index+1000))
	if !slices.Contains(c.names(), w.Name) {
		c.Error("a cable was removed by another's index")
	}
	c.ok("remove", c.DelLink(w.Name, index))
	c.ok("remove again", c.DelLink(w.Name, index))
	if after := c.names(); !slices.Equal(before, after) {
		c.Errorf("links are %v, were %v", after, before)
	}
	_, err = c.Link(w.Name)
	c.refused("link", err, host.ErrNotFound)
	_, _, err = c.Peer(w.Name, index)
	c.refused("peer", err, host.ErrNotFound)
	c.refused("check", c.CheckCable(ns, index, w), nil)
	_, err = c.OpenCable(edge.Port{Index: index, Name: w.Name, Number: 7})
	c.refused("open a cable that has gone", err, nil)
}

func testRefusedCables(c contract) {
	ns, _ := c.netns("web")
	_, err := c.AddCable(ns, cable())
	c.ok("add", err)
	before := c.names()
	for what, tc := range map[string]struct {
		change func(*edge.Cable)
		kind   error
	}{
		"host's name":        {func(w *edge.Cable) { w.Ifname = "eth1" }, host.ErrExists},
		"container's name":   {func(w *edge.Cable) { w.Name = "veth2" }, host.ErrExists},
		"default route":      {func(w *edge.Cable) { w.Name, w.Ifname, w.Routes = "veth2", "eth1", nil }, host.ErrHasDefault},
		"route":              {func(w *edge.Cable) { w.Name, w.Ifname, w.Gateways = "veth2", "eth1", nil }, nil},
		"gateway off subnet": {func(w *edge.Cable) { w.Name, w.Ifname, w.Addrs, w.Routes = "veth2", "eth1", nil, nil }, nil},
		"name too long":      {func(w *edge.Cable) { w.Name, w.Ifname = "veth2", "eth1234567890123" }, nil},
		"slash in a name":    {func(w *edge.Cable) { w.Name, w.Ifname = "veth/2", "eth1" }, nil},
		"MAC of a group":     {func(w *edge.Cable) { w.Name, w.Ifname, w.MAC = "veth2", "eth1", []byte{1, 0, 0, 0, 0, 5} }, nil},
		"MTU":                {func(w *edge.Cable) { w.Name, w.Ifname, w.MTU = "veth2", "eth1", 60 }, nil},
		"alias":              {func(w *edge.Cable) { w.Name, w.Ifname, w.Alias = "veth2", "eth1", strings.Repeat("a", 256) }, nil},
	} {
		w := cable()
		tc.change(&w)
		_, err := c.AddCable(ns, w)
		c.refused(what, err, tc.kind)
		if after := c.names(); !slices.Equal(before, after) {
			c.Fatalf("%s left links %v, were %v", what, after, before)
		}
	}
	w := cable()
	w.Name, w.Ifname, w.Gateways, w.Routes = "veth2", "eth1", nil, nil
	_, err = c.AddCable(ns, w)
	c.ok("a second one", err)
}

func testWaiting(c contract) {
	before := c.names()
	w := cable()
	w.Ifname = "wait0123456789a"
	index, err := c.AddWaitingCable(w)
	c.ok("add", err)
	l, err := c.Link(w.Ifname)
	c.ok("the end that waits", err)
	if l.Up || l.Kind != "veth" || l.Alias != "" || !slices.Equal(l.MAC, w.MAC) {
		c.Errorf("the end that waits is %+v", l)
	}
	peer, here, err := c.Peer(w.Name, index)
	c.ok("peer", err)
	if peer.Name != w.Ifname || !here {
		c.Errorf("the container's end is %+v, on the host: %v", peer, here)
	}
	c.ok("check", c.CheckCable(nil, index, w))
	c.ok("remove", c.DelLink(w.Name, index))
	if after := c.names(); !slices.Equal(before, after) {
		c.Errorf("links are %v, were %v", after, before)
	}
}

func testVanished(c contract) {
	path := c.Machine.Netns("web")
	ns, err := c.OpenNetns(path, 0)
	c.ok("open", err)
	w := cable()
	index, err := c.AddCable(ns, w)
	c.ok("add", err)
	k, err := c.OpenCable(edge.Port{Index: index, Name: w.Name, Number: 7})
	c.ok("open", err)
	p := c.port(k)
	wait := c.follow()
	c.ok("close the namespace", ns.Close())
	c.DelNetns(path)
	wait("the cable's end", func(e host.Event) bool {
		return e.Kind == host.LinkGone && e.Link.Name == w.Name && e.Link.Index == index
	})
	for late := time.Now().Add(10 * time.Second); !errors.Is(p.Check(), port.ErrGone); {
		if time.Now().After(late) {
			c.Fatal("the port does not learn that its device is gone")
		}
		time.Sleep(time.Millisecond)
	}
	c.ok("close the port", p.Close())
	c.ok("close", k.Close())
	c.ok("remove what is gone", c.DelLink(w.Name, index))
}

func testAdopted(c contract) {
	ns, _ := c.netns("web")
	w := cable()
	index, err := c.AddCable(ns, w)
	c.ok("add", err)
	next := begin(c.T, c.Machine, nil)
	defer next.Close()
	c.ok("adopt", next.AdoptCable(index, w))
	c.ok("adopt again", next.AdoptCable(index, w))
	in, err := next.OpenNetns("/nosuch", 0)
	c.refused("open", err, host.ErrNoNetns)
	if in != nil {
		c.Error("a namespace that is not there was opened")
	}
	c.ok("check", next.CheckCable(nil, index, w))
	c.refused("adopt what is not there", next.AdoptCable(index+1000, w), nil)
	c.ok("remove", next.DelLink(w.Name, index))
}
