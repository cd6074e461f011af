package control

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Scenarios of containers, on a model of the kernel: what a request makes there, and that
// nothing of it is left.

const tcp, udp, sctp = header.ProtoTCP, header.ProtoUDP, header.ProtoSCTP

// A container gets a sealed cable with its addresses and routes, its port is the
// switch's, and all of it goes with the container.
func TestAttachMakesACableAndDetachRemovesIt(t *testing.T) {
	m := newMachine(t).start()
	before := m.Facts()
	web := m.container("web", publish("8080:80"))
	eth0 := m.Interface(netnsOf("web"), "eth0")
	if got := strings.Join(eth0.Addrs, " "); got != "10.88.0.2/24" || eth0.Gateway != "10.88.0.1" || !eth0.Sealed {
		t.Errorf("eth0 of web has %s, gateway %s, sealed %v: %+v", got, eth0.Gateway, eth0.Sealed, web)
	}
	if m.Queue(eth0.Host) == nil {
		t.Error("nobody reads the cable")
	}
	m.dials(tcp, "127.0.0.1:8080", "10.88.0.2:80")
	m.ok(m.Check(t.Context(), "web"))
	again := m.container("web", publish("8080:80"))
	if again.ID != web.ID {
		t.Error("the same request again made another container")
	}
	if _, err := m.attach("web"); !errors.Is(err, api.ErrConflict) {
		t.Errorf("another request by that name: %v", err)
	}
	m.ok(m.Detach(t.Context(), "web"))
	m.ok(m.Detach(t.Context(), "web"))
	m.DelNetns(netnsOf("web"))
	m.same("web", before, m.Facts())
}

// A container joins a second network and leaves the first, whose default route the
// second then gives.
func TestConnectAndDisconnect(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", IPv6: yes()})
	m.ok(err)
	m.container("web", publish("8080:80"))
	before := m.Facts()
	out, err := m.Connect(ctx, "web", api.Connect{Network: "blue", Routes: []api.Route{{To: "10.99.0.0/16", Via: "10.7.0.9"}}})
	m.ok(err)
	if len(out.Endpoints) != 2 || out.Endpoints[1].Interface != "eth1" {
		t.Fatalf("web has %+v", out.Endpoints)
	}
	eth1 := m.Interface(netnsOf("web"), "eth1")
	if len(eth1.Addrs) != 2 || eth1.Gateway != "" || eth1.Gateway6 == "" {
		t.Errorf("eth1 has %v and gateways %q, %q: eth0 gives that of IPv4", eth1.Addrs, eth1.Gateway, eth1.Gateway6)
	}
	m.ok(m.Check(ctx, "web"))
	m.dials(tcp, "[::1]:8080", "["+strings.TrimSuffix(out.Endpoints[1].Addresses[1], "/64")+"]:80")
	m.ok(m.Disconnect(ctx, "web", "blue"))
	m.same("blue", before, m.Facts())

	_, err = m.Connect(ctx, "web", api.Connect{Network: "blue"})
	m.ok(err)
	m.ok(m.Disconnect(ctx, "web", "bridge"))
	if eth1 = m.Interface(netnsOf("web"), "eth1"); eth1.Gateway != "10.7.0.1" {
		t.Errorf("eth1 has gateway %q after eth0 went", eth1.Gateway)
	}
	m.dials(tcp, "127.0.0.1:8080", "10.7.0.3:80") // the addresses go round
	if err := m.Disconnect(ctx, "web", "blue"); !errors.Is(err, api.ErrConflict) {
		t.Errorf("the last network: %v", err)
	}
	m.ok(m.Detach(ctx, "web"))
	m.ok(m.RemoveNetwork(ctx, "blue"))
}

// Published ports lead to the container, are nobody else's, and are given back.
func TestPublishAndUnpublish(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	closeSocket := m.Bind(tcp, netip.IPv4Unspecified(), 9000, "nginx (pid 123)")
	m.container("web")
	m.container("db")
	before := m.Facts()
	rules := []string{"8080:80", "53/udp", "127.0.0.1:9090:90", "198.51.100.2:7000-7001:70-71", "20000-20999:20000-20999", "8000-8010:81", "9899:9899/sctp"}
	ports, err := m.Publish(ctx, "web", rules)
	m.ok(err)
	m.dials(tcp, "127.0.0.1:8080", "10.88.0.2:80")
	m.dials(tcp, "198.51.100.2:8080", "10.88.0.2:80")
	m.dials(tcp, "[::1]:8080", "10.88.0.2:80")
	m.dials(tcp, "198.51.100.2:9090", "")
	m.dials(tcp, "127.0.0.1:9090", "10.88.0.2:90")
	m.dials(tcp, "198.51.100.2:7001", "10.88.0.2:71")
	m.dials(tcp, "127.0.0.1:20500", "10.88.0.2:20500")
	m.dials(udp, "127.0.0.1:8080", "")
	for rule, who := range map[string]string{"8080:80": "container web", "9000:90": "nginx (pid 123)", "20999:1": "container web"} {
		if _, err := m.Publish(ctx, "db", []string{rule}); !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), who) {
			t.Errorf("%s: %v, want that %s has the port", rule, err, who)
		}
	}
	m.Bind(tcp, netip.IPv4Unspecified(), 20500, "intruder (pid 9)")
	m.until("an intruder is told of", func() bool { return strings.Contains(m.log.String(), "intruder (pid 9)") })
	if listed, err := m.Ports(ctx, "web"); err != nil || len(listed) != len(rules) || len(ports) != len(rules) {
		t.Errorf("ports %+v, %v", listed, err)
	}
	if err := m.Unpublish(ctx, "web", []string{"82"}); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("what is not published: %v", err)
	}
	m.ok(m.Unpublish(ctx, "web", []string{"80", "53/udp", "127.0.0.1:9090:90", "70-71", "20000-20999:20000-20999", "81", "9899/sctp"}))
	m.same("the ports", before, m.Facts())
	closeSocket()
	_, err = m.Publish(ctx, "db", []string{"9000:90"})
	m.ok(err)
}

// A daemon that ends leaves the containers their cables; the next adopts them, under the
// same numbers, and drops what has vanished meanwhile.
func TestRestartAdopts(t *testing.T) {
	for name, end := range map[string]func(*machine){"SIGTERM": (*machine).stop, "SIGKILL": (*machine).kill} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t).start()
			ctx := t.Context()
			_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", IPv6: yes()})
			m.ok(err)
			m.container("web", networks("bridge", "blue"), publish("8080:80", "20000-20999:20000-20999"))
			m.container("gone", networks("bridge"))
			m.container("half", networks("bridge", "blue"), publish("9090:90"))
			half, err := m.Container(ctx, "half")
			m.ok(err)
			before, numbers := m.Facts(), numbersIn(t, copied(t, m.Controller))
			end(m)
			m.DelNetns(netnsOf("gone"))
			m.RemoveLink(half.Endpoints[0].HostInterface)
			m.Kernel.Shape("eth0", host.Shaping{Queued: true})
			m.Bind(tcp, netip.IPv4Unspecified(), 9090, "nginx (pid 5)")
			m.start()
			if got := m.names(); got != "half web" {
				t.Errorf("containers %q, want half and web", got)
			}
			m.ok(m.Check(ctx, "web"))
			m.dials(tcp, "127.0.0.1:8080", "10.88.0.2:80")
			m.dials(tcp, "127.0.0.1:9090", "")
			for what, n := range numbersIn(t, copied(t, m.Controller)) {
				if numbers[what] != n {
					t.Errorf("%s has number %d, had %d", what, n, numbers[what])
				}
			}
			for _, f := range m.Facts() {
				if !slices.Contains(before, f) && !strings.Contains(f, "half") && !strings.Contains(f, "bits") && !strings.Contains(f, "ports") && !strings.Contains(f, "neighbour") {
					t.Errorf("new: %s", f)
				}
			}
			m.ok(m.Detach(ctx, "web"))
			m.ok(m.Detach(ctx, "half"))
			m.ok(m.RemoveNetwork(ctx, "blue"))
			m.stop()
			for _, f := range m.Facts() {
				if strings.Contains(f, "veth") || strings.Contains(f, "vs-") || strings.HasPrefix(f, "reserved [{") {
					t.Errorf("left with nothing attached: %s", f)
				}
			}
		})
	}
}

// A daemon that was killed while it worked leaves things that no state knows.
func TestRestartRemovesLeftovers(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	m.container("web", publish("20000-20999:20000-20999"))
	dir := copied(t, m.Controller)
	m.ok(m.Detach(ctx, "web"))
	want := m.Facts()
	m.container("late", publish("8080:80"))
	m.kill()
	m.cfg.StateDir = dir // in which web is attached and late is not
	m.start()
	if got := m.names(); got != "" {
		t.Errorf("containers %q: web has no cable", got)
	}
	m.DelNetns(netnsOf("late"))
	// Nobody knows its addresses any more: the kernel forgets them by itself.
	got := slices.DeleteFunc(m.Facts(), func(f string) bool { return strings.Contains(f, "neighbour 10.88.0.") })
	m.same("late", want, got)
	if log := m.log.String(); !strings.Contains(log, "leftover interface removed") || !strings.Contains(log, "container not restored") {
		t.Error("nobody was told")
	}
}

// What vanishes by itself is released: all of a container with its namespace, or one of
// its endpoints with its cable.
func TestLinkVanishes(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"})
	m.ok(err)
	before := m.Facts()
	web := m.container("web", networks("bridge", "blue"), publish("8080:80"))
	m.RemoveLink(web.Endpoints[0].HostInterface)
	m.until("the endpoint is released", func() bool {
		ct, err := m.Container(ctx, "web")
		return err == nil && len(ct.Endpoints) == 1
	})
	m.until("its ports follow", func() bool {
		to, ok := m.Dial(tcp, netip.MustParseAddrPort("127.0.0.1:8080"))
		return ok && strings.HasPrefix(to.String(), "10.88.1.")
	})
	m.DelNetns(netnsOf("web"))
	m.until("the container is released", func() bool { return m.names() == "" })
	m.until("everything is given back", func() bool { return slices.Equal(before, m.Facts()) })
	m.container("db")
	m.Overrun() // the end of its cable is among the events that are lost
	m.DelNetns(netnsOf("db"))
	m.Overrun()
	m.until("the container is released", func() bool { return m.names() == "" })
}

// A runtime moves the end of a cable by itself.
func TestHandOverOnModel(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	before := m.Facts()
	in := api.Attach{Name: "web", Runtime: api.RuntimeDocker, RuntimeID: "0123456789ab", Handover: true, Networks: []api.Connect{{Network: "bridge"}}, Publish: []string{"8080:80"}}
	out, err := m.Attach(ctx, in)
	m.ok(err)
	waiting := out.Endpoints[0].Interface
	if l := m.Interface(netnsOf("web"), "eth0"); l.Host != "" {
		t.Errorf("the end is there already: %+v", l)
	}
	m.AddNetns(netnsOf("web"))
	m.ok(m.HandOver(waiting, netnsOf("web"), "eth0"))
	known := func() bool {
		ct, err := m.Container(ctx, "web")
		return err == nil && ct.Endpoints[0].Interface == "eth0"
	}
	m.until("the new name is known", known)
	m.mu.Lock() // as before the event, which is then lost
	ct := m.inv.Containers["web"]
	ct.Endpoints[0].Ifname = waiting
	m.inv.Changed(ct)
	m.mu.Unlock()
	m.Overrun()
	m.until("the name is read again", known)
	m.ok(m.Check(ctx, "web"))
	if _, err := m.Connect(ctx, "web", api.Connect{Network: "bridge"}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("connect behind the runtime's back: %v", err)
	}
	m.ok(m.Release(ctx, api.Release{Runtime: api.RuntimeDocker, RuntimeID: "0123456789ab"}))
	m.DelNetns(netnsOf("web"))
	m.until("everything is given back", func() bool { return slices.Equal(before, m.Facts()) })
}

// A runtime attaches in two steps, releases in two, and has what it forgot collected.
func TestRuntimeAddsReleasesAndCollects(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"})
	m.ok(err)
	m.AddNetns(netnsOf("web"))
	before := m.Facts()
	in := api.Attach{Name: "web", Runtime: api.RuntimeCNI, RuntimeID: "abc", Netns: netnsOf("web"), Networks: []api.Connect{{Network: "bridge", Ifname: "eth0"}}, Publish: []string{"8080:80"}}
	_, err = m.Attach(ctx, in)
	m.ok(err)
	second := api.Connect{Network: "blue", Ifname: "net1", RuntimeNetwork: "second"}
	in.Networks, in.Publish = []api.Connect{second, second}, []string{"9090:90", "9090:90"} // twice is once
	out, err := m.Attach(ctx, in)
	m.ok(err)
	if len(out.Endpoints) != 2 || len(out.Ports) != 2 {
		t.Fatalf("web has %+v", out)
	}
	m.ok(m.Release(ctx, api.Release{Runtime: api.RuntimeCNI, RuntimeID: "abc", Ifname: "net1"}))
	got, err := m.GC(ctx, api.GC{Runtime: api.RuntimeCNI, Valid: []api.Attachment{}})
	m.ok(err)
	if len(got.Released) != 1 {
		t.Errorf("collected %+v", got)
	}
	m.same("web", before, m.Facts())
}

// A container without ports of its own is known by its process.
func TestBoundContainer(t *testing.T) {
	m := newMachine(t).start()
	m.Run(os.Getpid(), "")
	_, err := m.Attach(t.Context(), api.Attach{Name: "hosted", Mode: api.ModeHost, PID: os.Getpid()})
	m.ok(err)
	if _, err := m.Publish(t.Context(), "hosted", []string{"80"}); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("publish: %v", err)
	}
	m.stop()
	m.start()
	if got := m.names(); got != "hosted" {
		t.Errorf("containers %q", got)
	}
	m.ok(m.Detach(t.Context(), "hosted"))
}

// Names, labels and rules change while all runs on.
func TestUpdates(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	m.container("web", publish("8080:80"))
	before := m.Facts()
	out, err := m.UpdateContainer(ctx, "web", api.ContainerUpdate{Name: "www", Labels: map[string]string{"a": "b"}})
	m.ok(err)
	if out.Name != "www" || out.Labels["a"] != "b" {
		t.Errorf("%+v", out)
	}
	no, filter := false, api.FilterEIF
	n, err := m.UpdateNetwork(ctx, "bridge", api.NetworkUpdate{ICC: &no, HostAccess: &no, Filter: &filter, Exempt: &[]string{"10.0.0.0/8"}, Labels: map[string]string{"x": "y"}})
	m.ok(err)
	if n.ICC || n.HostAccess || n.Filter != api.FilterEIF || n.Labels["x"] != "y" {
		t.Errorf("%+v", n)
	}
	// The device says what it is of, for who has lost the state.
	n, err = m.UpdateNetwork(ctx, "bridge", api.NetworkUpdate{ICC: yes(), HostAccess: yes(), Filter: new(string)})
	m.ok(err)
	m.same("the updates", before, m.Facts())
	_, err = m.UpdateNetwork(ctx, "bridge", api.NetworkUpdate{ICC: &no})
	m.ok(err)
	m.stop()
	m.start()
	if got := m.names(); got != "www" {
		t.Errorf("containers %q", got)
	}
	if n, err = m.Network(ctx, "bridge"); err != nil || n.ICC {
		t.Errorf("network %+v, %v", n, err)
	}
}

// Networks come with what the host has free, go when nobody needs them, and lend
// addresses.
func TestNetworksOnModel(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	before := m.Facts()
	m.AddRoute("eth0", host.Route{Prefix: netip.MustParsePrefix("10.88.1.0/24"), Via: outside})
	free, err := m.FreeSubnet(ctx, api.SubnetRequest{})
	m.ok(err)
	if free.Subnet != "10.88.2.0/24" {
		t.Errorf("free subnet %+v: 10.88.1.0/24 is routed elsewhere", free)
	}
	if _, err := m.FreeSubnet(ctx, api.SubnetRequest{Subnet: "10.88.1.0/24"}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a subnet that is routed elsewhere: %v", err)
	}
	n, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", IPv6: yes(), Mode: api.GatewayRouted})
	m.ok(err)
	if n.Subnet != "10.88.2.0/24" {
		t.Errorf("subnet %s", n.Subnet)
	}
	if d := m.Interface("", n.Interface); d.MTU != 1500 || !d.Up || len(d.Addrs) != 2 {
		t.Errorf("device %+v", d)
	}
	if _, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "red", Subnet: "198.51.100.0/25"}); !errors.Is(err, api.ErrConflict) {
		t.Errorf("the subnet of the uplink: %v", err)
	}
	lease, err := m.LeaseAddress(ctx, "blue", api.LeaseRequest{Runtime: api.RuntimeDocker})
	m.ok(err)
	if _, err := m.attach("web", func(in *api.Attach) {
		in.Networks = []api.Connect{{Network: "blue", IP: strings.TrimSuffix(lease.Address, "/24")}}
	}); err == nil {
		t.Error("a leased address was given to another")
	}
	m.ok(m.EndLease(ctx, "blue", strings.TrimSuffix(lease.Address, "/24")))
	_, err = m.CreateNetwork(ctx, api.NetworkCreate{Name: "short", Ephemeral: true})
	m.ok(err)
	m.container("web", networks("short"))
	if err := m.RemoveNetwork(ctx, "short"); !errors.Is(err, api.ErrConflict) {
		t.Errorf("a network in use: %v", err)
	}
	m.ok(m.Detach(ctx, "web"))
	if all, err := m.Networks(ctx); err != nil || len(all) != 2 {
		t.Errorf("networks %+v, %v: the short one was to go with its last container", all, err)
	}
	pruned, err := m.PruneNetworks(ctx)
	m.ok(err)
	if strings.Join(pruned.Networks, " ") != "blue" {
		t.Errorf("pruned %v", pruned.Networks)
	}
	m.DelRoute(netip.MustParsePrefix("10.88.1.0/24"))
	m.DelNetns(netnsOf("web"))
	m.same("the networks", before, m.Facts())
}
