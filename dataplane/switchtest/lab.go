// Package switchtest is a switch on in-memory ports with a manual clock, and
// words to write scenarios that read like the protocol. It needs no rights and
// opens no socket. It is for tests only.
package switchtest

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// The stations of a Lab:
//
//	network 1, 10.1.0.0/24        c1 .11, c2 .12, c3 .13, host's TAP "host1" .1
//	network 2, 10.2.0.0/24        c4 .11, host's TAP "host2" .1
//	network 3, 10.3.0.0/24        c5 .11, internal, host's TAP "host3" .1
//	uplink "up"                   host address 198.51.100.1, next hop 198.51.100.9,
//	                              which leads to everywhere else
const (
	HostAddr = "198.51.100.1"
	NextHop  = "198.51.100.9"
	World    = "203.0.113.9"
)

// Stations maps a port's name to its address, and MACs to its MAC address.
var (
	Stations = map[string]string{
		"c1": "10.1.0.11", "c2": "10.1.0.12", "c3": "10.1.0.13", "c4": "10.2.0.11", "c5": "10.3.0.11",
		"host1": "10.1.0.1", "host2": "10.2.0.1", "host3": "10.3.0.1", "up": HostAddr,
	}
	networkOf = map[string]frame.NetworkID{
		"c1": 1, "c2": 1, "c3": 1, "c4": 2, "c5": 3, "host1": 1, "host2": 2, "host3": 3,
	}
)

// NextHopMAC is the MAC address of the router behind the uplink.
var NextHopMAC = header.MAC{2, 0, 0, 0, 9, 9}

// MAC is the MAC address of a station: 02:00:00:00:network:number.
func MAC(station string) header.MAC {
	if station == second {
		return secondMAC
	}
	if station == "up" {
		return header.MAC{2, 0, 0, 0, 9, 1}
	}
	a := netip.MustParseAddr(Stations[station]).As4()
	return header.MAC{2, 0, 0, 0, a[1], a[3]}
}

// Lab is one switch with its ports.
type Lab struct {
	T      testing.TB
	Switch *dataplane.Switch
	Config dataplane.SnapshotConfig // change, then Install
	Policy []policy.Network         // of the networks, in the order of Config
	// Written are the rows that Install adds to the networks' own.
	Written []dataplane.Rule
	Claims  flowmap.ClaimPlane
	Peers   *PeerSet
	// Events and Refused are the notices that Advance has read.
	Events  []dataplane.Event
	Refused []conntrack.Pressure
	ports   map[string]*porttest.Port
	ids     map[string]frame.PortID
	clock   atomic.Int64                        // ns
	tally   func(ifindex uint32) *flowmap.Tally // nil: nobody counts
	made    dataplane.Config                    // of the switch
	// Stations whose port was removed.
	unplugged []string
}

// New builds the stations above.
func New(t testing.TB) *Lab {
	t.Helper()
	return NewSized(t, 4096, nil)
}

// NewSized is New with room for so many flows. change, unless nil, may alter
// what the switch is made with.
func NewSized(t testing.TB, conns int, change func(*dataplane.Config)) *Lab {
	t.Helper()
	return NewCarried(t, conns, func(cfg *dataplane.Config) func(uint32) *flowmap.Tally {
		if change != nil {
			change(cfg)
		}
		return nil
	})
}

// NewCarried is NewSized where change also says which tally an interface has, by its
// index: that of a kernel's side.
func NewCarried(t testing.TB, conns int, change func(*dataplane.Config) (tally func(ifindex uint32) *flowmap.Tally)) *Lab {
	t.Helper()
	l := &Lab{T: t, ports: map[string]*porttest.Port{}, ids: map[string]frame.PortID{}}
	l.clock.Store(int64(time.Hour))
	l.Claims = make(flowmap.ClaimPlane, flowmap.ClaimWords)
	l.Peers = new(PeerSet)
	cfg := dataplane.Config{
		Workers: 1, Clock: &l.clock, Masquerade: l.Claims, Peers: flowtest.DescribePeers(l.Peers), MaxConns: conns, MaxFDB: 64,
	}
	l.tally = change(&cfg)
	l.made = cfg
	l.make(cfg)
	for i, name := range slices.Sorted(maps.Keys(Stations)) {
		l.ports[name], l.ids[name] = porttest.New(name), frame.PortID(i)
		l.AddPort(l.ids[name], l.ports[name])
	}
	l.describe()
	l.Install()
	l.Neighbor(NextHop, NextHopMAC)
	return l
}

func (l *Lab) make(cfg dataplane.Config) {
	l.T.Helper()
	sw, err := dataplane.New(cfg)
	if err != nil {
		l.T.Fatal(err)
	}
	l.Switch = sw
	l.T.Cleanup(func() { _ = sw.Close() })
}

// Restart ends the switch and makes another of the same Config on what it has left at the
// kernel's side. It has the ports of the stations, and knows no next hop yet.
func (l *Lab) Restart(k *flowtest.Kernel) {
	l.T.Helper()
	if err := l.Switch.Close(); err != nil {
		l.T.Fatal(err)
	}
	l.Peers.Leave()
	l.Claims = make(flowmap.ClaimPlane, flowmap.ClaimWords)
	cfg := l.made
	cfg.Masquerade, cfg.Peers, cfg.Flows = l.Claims, flowtest.DescribePeers(l.Peers), flowtest.DescribeFlows(k, k.Rows, k.Ends)
	l.make(cfg)
	for name, id := range l.ids {
		if !slices.Contains(l.unplugged, name) {
			l.ports[name] = porttest.New(name)
			l.AddPort(id, l.ports[name])
		}
	}
	l.Install()
}

// describe fills Config.
func (l *Lab) describe() {
	up := l.ids["up"]
	for id := frame.NetworkID(1); id <= 3; id++ {
		host := fmt.Sprintf("host%d", id)
		l.Config.Networks = append(l.Config.Networks, dataplane.NetworkConfig{
			ID: id, HostPort: l.ids[host], GatewayMAC: MAC(host), MTU: 1500,
			Gateways: []netip.Addr{netip.MustParseAddr(Stations[host])},
			Subnets:  []netip.Prefix{netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/24", id))},
		})
		l.Policy = append(l.Policy, policy.Network{ID: id, Internal: id == 3})
		l.Config.Ports = append(l.Config.Ports, dataplane.PortConfig{ID: l.ids[host], Kind: dataplane.PortHost, Network: id, MAC: MAC(host)})
	}
	for _, c := range []string{"c1", "c2", "c3", "c4", "c5"} {
		l.Config.Ports = append(l.Config.Ports, dataplane.PortConfig{ID: l.ids[c], Network: networkOf[c], MAC: MAC(c)})
		l.Config.Stations = append(l.Config.Stations, dataplane.StationConfig{
			Addr: netip.MustParseAddr(Stations[c]), Network: networkOf[c], MAC: MAC(c), Port: l.ids[c],
		})
	}
	l.Config.Ports = append(l.Config.Ports, dataplane.PortConfig{ID: up, Kind: dataplane.PortUplink})
	e := netip.MustParseAddr(HostAddr)
	l.Config.Uplinks = []dataplane.UplinkConfig{{Port: up, MAC: MAC("up"), MTU: 1500, Slots: map[netip.Addr]int{e: 1}}}
	l.Config.Routes = []dataplane.RouteConfig{
		{Prefix: netip.MustParsePrefix(HostAddr + "/32"), Kind: dataplane.RouteLocal},
		{Prefix: netip.MustParsePrefix("198.51.100.0/24"), Kind: dataplane.RouteUplink, Uplink: up, Source: e},
		{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Kind: dataplane.RouteUplink, Uplink: up, Via: netip.MustParseAddr(NextHop), Source: e},
	}
	l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 65535}, {First: 16384, Last: 32767}}
}

// Install makes Config the switch's snapshot.
func (l *Lab) Install() {
	l.T.Helper()
	l.Config.Revision++
	l.Config.Rules = append(policy.Compile(&l.Config, l.Policy), l.Written...)
	if err := l.Switch.Install(l.Config); err != nil {
		l.T.Fatal(err)
	}
}

// Publish publishes tcp and udp port host, of every address, to a container's
// port.
func (l *Lab) Publish(host uint16, container string, port uint16) {
	l.T.Helper()
	for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
		l.Config.Publish = append(l.Config.Publish, dataplane.PublishConfig{
			Proto: proto, HostFirst: host, HostLast: host, ContainerAddr: header.AddrFrom(netip.MustParseAddr(Stations[container])), ContainerFirst: port,
		})
	}
	l.Install()
}

// Neighbor tells the switch the MAC address of a next hop behind the uplink; no
// other is known any more.
func (l *Lab) Neighbor(addr string, mac header.MAC) {
	l.Switch.SetNeighbors(map[dataplane.NeighborKey]header.MAC{l.NextHop(addr): mac})
}

// NextHop is the key of a next hop behind the uplink.
func (l *Lab) NextHop(addr string) dataplane.NeighborKey {
	return dataplane.NeighborKey{Uplink: l.ids["up"], Addr: header.AddrFrom(netip.MustParseAddr(addr))}
}

// Port is the ID of a station's port.
func (l *Lab) Port(name string) frame.PortID { return l.ids[name] }

// Tock moves the clock and lets the tables age.
func (l *Lab) Tock(d time.Duration) {
	l.clock.Add(int64(d))
	l.Switch.Tick()
}

// Advance is Tock, and reads the notices.
func (l *Lab) Advance(d time.Duration) {
	l.Tock(d)
	for {
		switch n := l.Switch.Next(0); n.Kind {
		case dataplane.NoticeNone, dataplane.NoticeClosed:
			return
		case dataplane.NoticeEvent:
			l.Events = append(l.Events, n.Event)
		case dataplane.NoticePressure:
			l.Refused = append(l.Refused, n.Pressure)
		}
	}
}

// Send puts a frame in at a station's port and runs the switch until it is
// quiet.
func (l *Lab) Send(from string, f []byte) {
	l.T.Helper()
	l.SendOffload(from, f, frame.Offload{})
}

// SendOffload is Send with offload facts.
func (l *Lab) SendOffload(from string, f []byte, o frame.Offload) {
	l.T.Helper()
	l.ports[from].Inject(f, o)
	for l.Switch.Step() > 0 {
	}
}

// Got takes what the switch sent to a station since the last call.
func (l *Lab) Got(at string) [][]byte { return l.ports[at].Sent() }

// Expect takes the one frame that the switch sent to a station, checks that its
// checksums are right, and that nobody else got one.
func (l *Lab) Expect(at string) []byte {
	l.T.Helper()
	got := l.Got(at)
	if len(got) != 1 {
		l.T.Fatalf("%s got %d frames, want 1; drops: %s", at, len(got), l.Drops())
	}
	l.ExpectNothing()
	CheckSums(l.T, got[0])
	return got[0]
}

// ExpectNothing checks that no station got anything since the last call.
func (l *Lab) ExpectNothing() {
	l.T.Helper()
	for _, name := range slices.Sorted(maps.Keys(l.ports)) {
		if got := l.Got(name); len(got) > 0 {
			l.T.Errorf("%s got %d frames, want none: %s", name, len(got), Describe(got[0]))
		}
	}
}

// ExpectDrop checks that nothing was sent and that frames from a station were
// dropped n times for a reason.
func (l *Lab) ExpectDrop(from string, why dataplane.DropReason, n uint64) {
	l.T.Helper()
	l.ExpectNothing()
	if got := l.Dropped(from, why); got != n {
		l.T.Errorf("%s dropped %d times from %s, want %d; drops: %s", why, got, from, n, l.Drops())
	}
}

// Dropped is the counter of one reason on a station's port.
func (l *Lab) Dropped(at string, why dataplane.DropReason) uint64 {
	for _, p := range l.Switch.Stats().Ports {
		if p.ID == l.ids[at] {
			return p.Drops[why]
		}
	}
	return 0
}

// Drops lists all counters of drops that are not zero.
func (l *Lab) Drops() string {
	var all []string
	for _, p := range l.Switch.Stats().Ports {
		for r, n := range p.Drops {
			if n > 0 {
				all = append(all, fmt.Sprintf("port %d: %s %d", p.ID, dataplane.DropReason(r), n))
			}
		}
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// Describe prints a frame in one line.
func Describe(f []byte) string {
	p := gopacket.NewPacket(f, layers.LayerTypeEthernet, gopacket.Default)
	var parts []string
	for _, l := range p.Layers() {
		parts = append(parts, gopacket.LayerString(l))
	}
	return strings.Join(parts, " / ")
}

// Memory is the in-memory port of a station.
func (l *Lab) Memory(name string) *porttest.Port { return l.ports[name] }
