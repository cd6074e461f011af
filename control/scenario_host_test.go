package control

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// Scenarios of the host's network, on a model of the kernel: what the controller learns
// there, and what frames then do.

// uplinks are the interfaces through which containers go out, with their addresses.
func (m *machine) uplinks() (list []string) {
	m.t.Helper()
	info, err := m.Info(m.t.Context())
	m.ok(err)
	for _, u := range info.Uplinks {
		list = append(list, u.Interface+" "+strings.Join(u.Addresses, " ")+" via "+u.Gateway)
	}
	return list
}

func (m *machine) untilUplinks(what string, want ...string) {
	m.t.Helper()
	m.until(what, func() bool { return slices.Equal(m.uplinks(), want) })
}

// Interfaces become uplinks when they hold a default route, and are no more when they
// hold none.
func TestUplinkComesAndGoes(t *testing.T) {
	const eth0 = "eth0 198.51.100.2 2001:db8::2 via 198.51.100.1"
	m := newMachine(t).start()
	before := m.Facts()
	m.untilUplinks("eth0 is the uplink", eth0)
	m.AddNIC("eth1", netip.MustParsePrefix("203.0.113.5/24"))
	m.AddRoute("eth1", host.Route{Prefix: everything, Via: netip.MustParseAddr("203.0.113.1"), Metric: 100})
	m.untilUplinks("eth1 is another", eth0, "eth1 203.0.113.5 via ")
	if !m.shielded("eth1") {
		t.Error("eth1 has no shield")
	}
	m.SetLink("eth1", func(l *host.Link) { l.Name = "wan1" })
	m.untilUplinks("it has another name", eth0, "wan1 203.0.113.5 via ")
	m.SetLink("wan1", func(l *host.Link) { l.Up = false })
	m.untilUplinks("it is down", eth0)
	m.until("wan1 has no shield", func() bool { return !m.shielded("wan1") })
	m.SetLink("wan1", func(l *host.Link) { l.Up = true })
	m.untilUplinks("it is up again", eth0, "wan1 203.0.113.5 via ")
	m.RemoveLink("wan1")
	m.untilUplinks("it has gone", eth0)
	m.until("everything is given back", func() bool { return slices.Equal(before, m.Facts()) })
	m.RemoveLink("eth0")
	m.untilUplinks("none is left")
}

func (m *machine) shielded(name string) bool {
	return slices.ContainsFunc(m.Facts(), func(f string) bool {
		return strings.Contains(f, "link "+name+" ") && !strings.Contains(f, `shield ""`)
	})
}

// Named uplinks are waited for while they are away; one that never was is refused.
func TestNamedUplinks(t *testing.T) {
	m := newMachine(t)
	m.AddNIC("wan0", netip.MustParsePrefix("203.0.113.5/24"))
	m.cfg.Uplinks = []string{"wan0", "nosuch"}
	before := m.Facts()
	if err := m.tryStart(); err == nil || !strings.Contains(err.Error(), "uplink nosuch") {
		t.Fatalf("an uplink that is not there: %v", err)
	}
	m.same("the refused start", before, m.Facts())
	m.cfg.Uplinks = []string{"wan0"}
	m.start()
	m.untilUplinks("wan0 and not eth0", "wan0 203.0.113.5 via ")
	m.SetLink("wan0", func(l *host.Link) { l.Up = false })
	m.untilUplinks("it is waited for")
	m.SetLink("wan0", func(l *host.Link) { l.Up = true })
	m.untilUplinks("it is back", "wan0 203.0.113.5 via ")
}

// The addresses of uplinks have claim slots for as long as they are there; tentative and
// deprecated ones are no sources.
func TestAddressMoves(t *testing.T) {
	m := newMachine(t).start()
	second := netip.MustParsePrefix("198.51.100.9/24")
	slot := func(a string) bool {
		return slices.ContainsFunc(m.Facts(), func(f string) bool { return strings.HasPrefix(f, "slot ") && strings.HasSuffix(f, " of "+a) })
	}
	before := m.Facts()
	m.AddAddr("eth0", host.Addr{Prefix: second})
	m.until("it has a slot", func() bool { return slot("198.51.100.9") })
	m.container("web", publish("198.51.100.9:8080:80"))
	m.dials(tcp, "198.51.100.9:8080", "10.88.0.2:80")
	m.DelAddr("eth0", second)
	m.untilUplinks("the address is no source", "eth0 198.51.100.2 2001:db8::2 via 198.51.100.1")
	if !slot("198.51.100.9") {
		t.Error("the slot of a published address went with the address")
	}
	m.ok(m.Detach(t.Context(), "web"))
	m.DelNetns(netnsOf("web"))
	m.until("the slot is given back", func() bool { return !slot("198.51.100.9") })
	m.same("the address", before, m.Facts())

	m.AddAddr("eth0", host.Addr{Prefix: second, Tentative: true})
	m.AddAddr("eth0", host.Addr{Prefix: netip.MustParsePrefix("198.51.100.8/24"), Deprecated: true})
	m.until("a deprecated one has a slot", func() bool { return slot("198.51.100.8") })
	if slot("198.51.100.9") {
		t.Error("a tentative address has a slot")
	}
}

// carries sends a frame by one interface until it comes out by another.
func (m *machine) carries(what string, from, to *porttest.Port, data []byte) []byte {
	m.t.Helper()
	var got [][]byte
	m.until(what, func() bool {
		from.Inject(data, frame.Offload{})
		got = to.WaitSent(1, 50*time.Millisecond)
		return len(got) > 0
	})
	return got[len(got)-1]
}

func (m *machine) mac(s string) header.MAC {
	m.t.Helper()
	a, err := header.ParseMAC(s)
	m.ok(err)
	return a
}

// wayOut has the host know the next hop's MAC address, and is the gateway's of the default network.
func (m *machine) wayOut() header.MAC {
	m.t.Helper()
	eth0, err := m.edge.Link("eth0")
	m.ok(err)
	m.Learn(host.Neighbor{Ifindex: eth0.Index, Addr: outside, MAC: switchtest.NextHopMAC[:]})
	n, err := m.Network(m.t.Context(), "bridge")
	m.ok(err)
	return m.mac(n.GatewayMAC)
}

// TestAddressComesBack: a flow whose address goes and comes back, while nobody sends, is
// claimed again with its next packet.
func TestAddressComesBack(t *testing.T) {
	m := newMachine(t).start()
	web := m.container("web")
	gateway := m.wayOut()
	fact := func(prefix, suffix string) func() bool {
		return func() bool {
			return slices.ContainsFunc(m.Facts(), func(f string) bool { return strings.HasPrefix(f, prefix) && strings.HasSuffix(f, suffix) })
		}
	}
	own, slot := netip.MustParsePrefix("198.51.100.2/24"), fact("slot ", " of 198.51.100.2")
	out := switchtest.Bytes(switchtest.Packet{EthSrc: m.mac(web.Endpoints[0].MAC), EthDst: gateway, Src: "10.88.0.2:4000", Dst: "203.0.113.7:53", Proto: udp, Payload: []byte("hello")})
	for range 2 {
		got := switchtest.See(t, m.carries("web reaches the outside", m.Queue(web.Endpoints[0].HostInterface), m.Queue("eth0"), out))
		if got.Src.NetIP() != own.Addr() {
			t.Errorf("it leaves from %s", got.From())
		}
		m.until("its answers are claimed", fact("peers 1 ", ""))
		m.DelAddr("eth0", own)
		m.until("the slot goes", func() bool { return !slot() })
		m.until("with its flows", fact("peers 0 ", ""))
		m.AddAddr("eth0", host.Addr{Prefix: own})
		m.until("the slot comes back", slot)
	}
}

// A container's flow of a protocol without ports ends when the host takes its peer, as by a
// tunnel, and begins again when the host has let go.
func TestHostTakesAPeer(t *testing.T) {
	m := newMachine(t).start()
	web := m.container("web")
	gateway := m.wayOut()
	const esp, far = 50, "203.0.113.7"
	peers := func(count string) func() bool {
		return func() bool {
			return slices.ContainsFunc(m.Facts(), func(f string) bool { return strings.HasPrefix(f, "peers "+count+" ") })
		}
	}
	from, to := m.Queue(web.Endpoints[0].HostInterface), m.Queue("eth0")
	out := switchtest.Bytes(switchtest.Packet{EthSrc: m.mac(web.Endpoints[0].MAC), EthDst: gateway, Src: "10.88.0.2", Dst: far, Proto: esp, Payload: []byte("hello")})
	m.carries("web reaches its peer", from, to, out)
	m.until("the answers are claimed", peers("1"))
	m.Consume(host.Consumer{Proto: esp, Remote: netip.MustParseAddr(far)})
	m.until("they are the host's", peers("0"))
	to.Sent()
	from.Inject(out, frame.Offload{})
	if got := to.WaitSent(1, 50*time.Millisecond); len(got) > 0 {
		t.Errorf("sent to a peer of the host: %s", switchtest.Describe(got[0]))
	}
	m.Consume()
	m.carries("the host has let go", from, to, out)
	m.until("the answers are claimed again", peers("1"))
}

// Frames of a container reach others, and the outside by the uplink, once the host has
// learnt its gateway's MAC.
func TestFramesOfAContainer(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	web, db := m.container("web"), m.container("db", publish("8080:80"))
	webPort, dbPort := m.Queue(web.Endpoints[0].HostInterface), m.Queue(db.Endpoints[0].HostInterface)
	n, err := m.Network(ctx, "bridge")
	m.ok(err)
	webMAC, dbMAC, gateway := m.mac(web.Endpoints[0].MAC), m.mac(db.Endpoints[0].MAC), m.mac(n.GatewayMAC)

	toDB := switchtest.Bytes(switchtest.Packet{EthSrc: webMAC, EthDst: dbMAC, Src: "10.88.0.2:4000", Dst: "10.88.0.3:53", Proto: udp, Payload: []byte("hello")})
	if got := m.carries("web reaches db", webPort, dbPort, toDB); string(got) != string(toDB) {
		t.Errorf("db got %s, want %s", switchtest.Describe(got), switchtest.Describe(toDB))
	}

	out := switchtest.Bytes(switchtest.Packet{EthSrc: webMAC, EthDst: gateway, Src: "10.88.0.2:4000", Dst: "203.0.113.7:53", Proto: udp, Payload: []byte("hello")})
	eth0, err := m.edge.Link("eth0")
	m.ok(err)
	m.Learn(host.Neighbor{Ifindex: eth0.Index, Addr: outside, MAC: switchtest.NextHopMAC[:]})
	got := switchtest.See(t, m.carries("web reaches the outside", webPort, m.Queue("eth0"), out))
	if got.Src.String() != "198.51.100.2" || got.To() != "203.0.113.7:53" {
		t.Errorf("the uplink got a packet from %s to %s", got.From(), got.To())
	}
	m.Learn(host.Neighbor{Ifindex: eth0.Index, Addr: outside})
	m.until("the gateway is asked for", func() bool {
		webPort.Inject(out, frame.Offload{})
		return m.Asked(eth0.Index, outside)
	})

	for _, q := range []struct{ from, to, verdict string }{
		{"web", "db:53/udp", api.VerdictSent}, {"web", "203.0.113.7:53/udp", ""}, {"host", "web:80", ""},
		{"outside:203.0.113.7", "198.51.100.2:8080", api.VerdictSent}, {"web", "10.88.0.99", ""},
	} {
		why, err := m.Observer().Why(ctx, api.WhyQuery{From: q.from, To: q.to})
		if err != nil || q.verdict != "" && why.Verdict != q.verdict {
			t.Errorf("why %s %s: %+v, %v", q.from, q.to, why, err)
		}
	}
	if r := m.Observer().Reading(); r.Containers != 2 || r.Networks != 1 || len(r.Ports) != 4 {
		t.Errorf("reading %+v", r)
	}
	m.ok(m.Alive(time.Minute))
}

// What others shape at a cable holds: the switch hears of queues, and the container's
// own end is limited.
func TestShapingIsFollowed(t *testing.T) {
	m := newMachine(t).start()
	web := m.container("web")
	limit := host.Limit{Rate: 125000, Queue: 3000, Buffer: 2000}
	m.Shape(web.Endpoints[0].HostInterface, host.Shaping{Queued: true, Limit: limit})
	m.until("the limit is set", func() bool { return m.Interface(netnsOf("web"), "eth0").Limit == limit })
	m.Shape(web.Endpoints[0].HostInterface, host.Shaping{})
	m.until("it is taken away", func() bool { return m.Interface(netnsOf("web"), "eth0").Limit == host.Limit{} })
}

// What happens is told, in order, to whoever follows.
func TestEventsAreTold(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	since := uint64(0)
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue"})
	m.ok(err)
	m.container("web", publish("8080:80"))
	_, err = m.Connect(ctx, "web", api.Connect{Network: "blue"})
	m.ok(err)
	_, err = m.Publish(ctx, "web", []string{"9090:90"})
	m.ok(err)
	m.ok(m.Unpublish(ctx, "web", []string{"90"}))
	m.ok(m.Disconnect(ctx, "web", "blue"))
	m.ok(m.Detach(ctx, "web"))
	m.ok(m.RemoveNetwork(ctx, "blue"))
	stream, err := m.Events(ctx, api.EventQuery{Since: &since, Once: true})
	m.ok(err)
	defer stream.Close()
	var types []string
	for {
		list, err := stream.Next(ctx)
		m.ok(err)
		if len(list) == 0 {
			break
		}
		for _, e := range list {
			types = append(types, e.Type)
		}
	}
	i := slices.Index(types, api.EventAttach)
	want := []string{api.EventAttach, api.EventConnect, api.EventPublish, api.EventUnpublish, api.EventDisconnect, api.EventDetach, api.EventNetworkRemove}
	if i < 0 || !slices.Equal(types[i:], want) {
		t.Errorf("events %v, want them to end with %v", types, want)
	}
}
