package edgetest

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port"
)

// Machine is one that Contract looks at, the model or a real one: its interface eth0
// is up with the address 198.51.100.2/24 and the default route via 198.51.100.1, and lo
// is up with 127.0.0.1.
type Machine interface {
	// Open opens the edge of a process, which the test closes.
	Open() edge.Edge
	// Next is Open for a process that gets what the one before has left, one at a time.
	Next() edge.Edge
	// Netns makes a namespace and returns its path; DelNetns ends it.
	Netns(name string) (path string)
	DelNetns(path string)
	// Bind is a program that binds a TCP port of all IPv4 addresses.
	Bind(port uint16) (closeSocket func())
	AddAddr(dev, prefix string)
	DelAddr(dev, prefix string)
	SetDown(dev string)
}

// contract is one Machine with an edge on it.
type contract struct {
	Machine
	edge.Edge
	*testing.T
}

// Contract is what every edge that works on a kernel of its own keeps, the model as well
// as the real one. open makes a Machine for one test.
func Contract(t *testing.T, open func(t *testing.T) Machine) {
	for _, part := range []struct {
		name string
		run  func(contract)
	}{
		{"namespaces", testNamespaces}, {"cables", testCables}, {"refused cables", testRefusedCables}, {"waiting cables", testWaiting},
		{"vanished cables", testVanished}, {"adopted cables", testAdopted}, {"devices", testDevices}, {"kept", testKept}, {"uplinks", testUplinks},
		{"claims", testClaims}, {"claims of before", testLeft}, {"reservations", testReservations}, {"large ranges", testLarge}, {"neighbours", testNeighbors},
		{"routes", testRoutes}, {"events", testEvents}, {"relay", testRelay},
	} {
		t.Run(part.name, func(t *testing.T) {
			w := open(t)
			c := contract{w, begin(t, w, nil), t}
			defer func() {
				if err := c.Edge.Close(); err != nil {
					t.Error(err)
				}
			}()
			part.run(c)
		})
	}
}

const owner = "0123456789abcdef"

func begin(t *testing.T, w Machine, put func([]reserve.Range) error) edge.Edge {
	t.Helper()
	e := w.Open()
	if put == nil {
		put = func([]reserve.Range) error { return nil }
	}
	if err := e.Begin(edge.Owner{Identity: owner, PutReserved: put}); err != nil {
		t.Fatal(err)
	}
	return e
}

func (c contract) ok(what string, err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

func (c contract) refused(what string, err, kind error) {
	c.Helper()
	if err == nil || kind != nil && !errors.Is(err, kind) {
		c.Errorf("%s: %v, want it refused with %v", what, err, kind)
	}
}

// port makes a port of a socket, as the data path does.
func (c *contract) port(k edge.Socket) port.Port {
	c.Helper()
	p, err := port.Open(k.Descriptor())
	c.ok("make a port", err)
	return p
}

// netns opens a new namespace until the test ends.
func (c contract) netns(name string) (ns edge.Netns, path string) {
	c.Helper()
	path = c.Machine.Netns(name)
	ns, err := c.OpenNetns(path, 0)
	c.ok("open "+path, err)
	c.Cleanup(func() { ns.Close() })
	return ns, path
}

func (c contract) names() (list []string) {
	c.Helper()
	links, err := c.Links()
	c.ok("links", err)
	for _, l := range links {
		list = append(list, l.Name)
	}
	return list
}

// follow watches until the test ends; wait returns once an event has come that fits.
func (c contract) follow() (wait func(what string, fits func(host.Event) bool)) {
	c.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	events, done := make(chan host.Event, 1000), make(chan error, 1)
	go func() { done <- c.Watch(ctx, func(e host.Event) { events <- e }) }()
	c.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			c.Errorf("watch: %v", err)
		}
	})
	wait = func(what string, fits func(host.Event) bool) {
		c.Helper()
		for late := time.After(10 * time.Second); ; {
			select {
			case e := <-events:
				if fits(e) {
					return
				}
			case <-late:
				c.Fatalf("no event of %s", what)
			}
		}
	}
	wait("the beginning", func(e host.Event) bool { return e.Kind == host.Resync })
	return wait
}

func (c contract) addrsOf(index int) (list []string) {
	c.Helper()
	addrs, err := c.Addrs()
	c.ok("addresses", err)
	for _, a := range addrs {
		if a.Ifindex == index && !a.Prefix.Addr().IsLinkLocalUnicast() {
			list = append(list, a.Prefix.String())
		}
	}
	slices.Sort(list)
	return list
}

func testDevices(c contract) {
	spec := edge.DeviceSpec{
		Name: "vs-0123456789", Alias: "vswitch:" + owner + ":network blue", MAC: []byte{2, 0, 0, 0, 0, 1}, MTU: 1400,
		Addrs: []netip.Prefix{netip.MustParsePrefix("10.88.0.1/24")},
	}
	d, err := c.OpenDevice(spec)
	c.ok("open", err)
	l, err := c.Link(spec.Name)
	c.ok("link", err)
	if l.Index != d.Index() || l.Alias != spec.Alias || !slices.Equal(l.MAC, spec.MAC) || l.MTU != 1400 || !l.Up || l.Kind != "tun" {
		c.Errorf("the device is %+v", l)
	}
	if got := c.addrsOf(d.Index()); !slices.Equal(got, []string{"10.88.0.1/24"}) {
		c.Errorf("addresses %v", got)
	}
	if ruled, err := c.Ruled(); err != nil || ruled != [2]bool{} {
		c.Errorf("ruled %v, %v: nobody has made a rule", ruled, err)
	}
	way, err := c.WayOut(host.WayQuery{Src: netip.MustParseAddr("10.88.0.5"), Dst: netip.MustParseAddr("203.0.113.77"), In: d.Index()})
	if up, err2 := c.Uplinks([]string{"eth0"}); err != nil || err2 != nil || way.Kind != host.Unicast || way.Ifindex != up[0].Index || !way.Via.IsValid() {
		c.Errorf("the way out is %+v, %v, %v", way, err, err2)
	}
	if route, yes := c.Overlaps(netip.MustParsePrefix("10.88.0.0/16")); !yes || route != "10.88.0.0/24 dev "+spec.Name {
		c.Errorf("the subnet overlaps %q, %v", route, yes)
	}
	c.DelAddr(spec.Name, "10.88.0.1/24")
	for _, want := range []int{1, 0} {
		if lost, err := d.Readdress(); err != nil || len(lost) != want || len(c.addrsOf(d.Index())) != 1 {
			c.Errorf("after its address was taken %v is given back, %v, want %d", lost, err, want)
		}
	}
	c.ok("carry", d.Carry(3))
	p := c.port(d)
	c.ok("check", p.Check())
	c.ok("close the port", p.Close())
	_, err = c.OpenDevice(spec)
	c.refused("open what is open", err, nil)
	c.ok("close", d.Close())
	if slices.Contains(c.names(), spec.Name) {
		c.Error("the device is still there")
	}

	d, err = c.OpenDevice(spec)
	c.ok("open", err)
	c.ok("remove", c.DelLink(spec.Name, d.Index()))
	c.ok("close", d.Close())
	if slices.Contains(c.names(), spec.Name) {
		c.Error("the device is still there")
	}
	spec.Name = "eth0"
	_, err = c.OpenDevice(spec)
	c.refused("open an interface of the host", err, nil)
	spec.Name = "a234567890123456"
	_, err = c.OpenDevice(spec)
	c.refused("name too long", err, nil)
}

func testUplinks(c contract) {
	ups, err := c.Uplinks([]string{"auto"})
	c.ok("uplinks", err)
	if len(ups) != 1 || ups[0].Name != "eth0" {
		c.Fatalf("uplinks %+v", ups)
	}
	if low, high := c.LocalPorts(); low < 1024 || high < low {
		c.Errorf("local ports %d-%d", low, high)
	}
	for range 2 { // the tally goes with the port
		k, err := c.OpenUplink(edge.Port{Index: ups[0].Index, Name: "eth0", Number: 1})
		c.ok("open", err)
		p := c.port(k)
		c.ok("check", p.Check())
		c.ok("close the port", p.Close())
		c.ok("close", k.Close())
	}
	// The shield does not, nor with the process: who keeps other uplinks removes it.
	again := begin(c.T, c.Machine, nil)
	defer again.Close()
	for _, want := range []struct {
		keep, others []string
	}{{[]string{"eth0"}, nil}, {nil, []string{"eth0"}}, {nil, nil}} {
		var indexes []int
		if want.keep != nil {
			indexes = append(indexes, ups[0].Index)
		}
		others, err := again.KeepUplinks(indexes...)
		if err != nil || !slices.Equal(others, want.others) {
			c.Errorf("beside %v shields are removed from %v, %v, want %v", want.keep, others, err, want.others)
		}
	}
	_, err = c.OpenUplink(edge.Port{Index: 1 << 20, Name: "eth9", Number: 1})
	c.refused("no interface", err, nil)
	_, err = c.Uplinks([]string{"eth9"})
	c.refused("a name of nothing", err, host.ErrNotFound)
	_, err = c.Uplinks([]string{"lo"})
	c.refused("no Ethernet", err, host.ErrUplink)
	c.SetDown("eth0")
	_, err = c.Uplinks([]string{"eth0"})
	c.refused("down", err, host.ErrUplink)
	if ups, err = c.Uplinks(nil); err != nil || len(ups) != 0 {
		c.Errorf("uplinks %+v, %v, want none", ups, err)
	}
}

func testClaims(c contract) {
	a, b := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8::2")
	c.ok("claim", c.ClaimSlot(a, 1))
	c.ok("claim again", c.ClaimSlot(a, 1))
	c.refused("another slot", c.ClaimSlot(a, 2), nil)
	c.refused("another's slot", c.ClaimSlot(b, 1), nil)
	c.refused("the wildcard's slot", c.ClaimSlot(b, flowmap.WildcardSlot), nil)
	c.refused("the other wildcard's slot", c.ClaimSlot(b, flowmap.WildcardSlot6), nil)
	c.refused("no address", c.ClaimSlot(netip.IPv4Unspecified(), 3), nil)
	c.ok("claim", c.ClaimSlot(b, 2))
	for _, slot := range []int{1, 2} {
		c.Published().Set(slot, header.ProtoTCP, 80)
		c.Opened().Set(slot, header.ProtoUDP, 1024)
	}
	c.ok("drop", c.DropSlot(a))
	c.ok("drop again", c.DropSlot(a))
	if c.Published().Test(1, header.ProtoTCP, 80) || c.Opened().Test(1, header.ProtoUDP, 1024) {
		c.Error("claims in a slot that was dropped")
	}
	if !c.Published().Test(2, header.ProtoTCP, 80) || !c.Opened().Test(2, header.ProtoUDP, 1024) {
		c.Error("the claims of another slot went")
	}
	c.ok("claim it anew", c.ClaimSlot(a, 3))
	p := netip.MustParsePrefix("10.88.0.0/24")
	c.ok("claim a subnet", c.ClaimSubnet(p, false))
	c.ok("claim it again", c.ClaimSubnet(p, true))
	c.ok("drop it", c.DropSubnet(p))
	c.ok("drop it again", c.DropSubnet(p))
	for i := range flowmap.MaxSubnets {
		c.ok("claim a subnet", c.ClaimSubnet(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24), false))
	}
	c.refused("one too many", c.ClaimSubnet(netip.MustParsePrefix("172.16.0.0/24"), false), nil)
}

// testLeft: a process goes on with the claims of the one before of the same owner, as long as
// there is a cable of theirs.
func testLeft(c contract) {
	a, b, net := netip.MustParseAddr("198.51.100.2"), netip.MustParseAddr("2001:db8::2"), netip.MustParsePrefix("10.88.0.0/24")
	claimed := func(e edge.Edge) bool { return e.Published().Test(1, header.ProtoTCP, 80) }
	first := begin(c.T, c.Machine, nil)
	c.ok("claim", first.ClaimSlot(a, 1))
	c.ok("claim", first.ClaimSlot(b, 2))
	c.ok("claim a subnet", first.ClaimSubnet(net, true))
	first.Published().Set(1, header.ProtoTCP, 80)
	first.Opened().Set(2, header.ProtoUDP, 1024)
	c.ok("end", first.Close())
	second := begin(c.T, c.Machine, nil)
	if claimed(second) {
		c.Error("claims outlive the process without a cable")
	}
	ns, _ := c.netns("web")
	w := cable()
	w.Alias = "vswitch:" + owner + ":web"
	_, err := second.AddCable(ns, w)
	c.ok("add a cable", err)
	c.ok("claim", second.ClaimSlot(a, 1))
	c.ok("claim", second.ClaimSlot(b, 2))
	second.Published().Set(1, header.ProtoTCP, 80)
	second.Opened().Set(2, header.ProtoUDP, 1024)
	c.ok("end", second.Close())
	other := c.Machine.Open()
	c.ok("begin", other.Begin(edge.Owner{Identity: "another", PutReserved: func([]reserve.Range) error { return nil }}))
	if claimed(other) {
		c.Error("another owner goes on with the claims")
	}
	c.ok("end", other.Close())
	third := begin(c.T, c.Machine, nil)
	defer third.Close()
	if !claimed(third) || !third.Opened().Test(2, header.ProtoUDP, 1024) {
		c.Error("the claims are lost")
	}
	c.ok("claim again", third.ClaimSlot(a, 1))
	c.ok("settle", third.Settle())
	if !claimed(third) || third.Opened().Test(2, header.ProtoUDP, 1024) {
		c.Error("claims were dropped that somebody has claimed again, or others were not")
	}
	c.ok("another address in a slot that is free", third.ClaimSlot(netip.MustParseAddr("198.51.100.3"), 2))
	c.ok("remove the cable", third.DelLink(w.Name, 0))
}
