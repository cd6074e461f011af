package dataplane_test

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// change is a step of the world. quiet: a flow about which the stages say the same
// before and after must stay with the kernel.
type change struct {
	name  string
	quiet bool
	do    func(w *carriedWorld, rng *rand.Rand)
}

var stations = []string{"c1", "c2", "c3"}

var changes = []change{
	{"nothing", true, func(w *carriedWorld, _ *rand.Rand) { w.Install() }},
	{"time", true, func(w *carriedWorld, _ *rand.Rand) { w.Advance(time.Second) }},
	{"a container isolated or not", true, func(w *carriedWorld, rng *rand.Rand) {
		w.Configure(pick(rng, stations), func(p *dataplane.PortConfig) { p.Groups = toggle(p.Groups, policy.Isolated) })
	}},
	{"a container guarded or not", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Configure(pick(rng, stations), func(p *dataplane.PortConfig) { p.Guarded = !p.Guarded })
	}},
	{"a queue at a cable or none", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Configure(pick(rng, stations), func(p *dataplane.PortConfig) { p.Queued = !p.Queued })
	}},
	{"a filter at a cable or none", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Configure(pick(rng, stations), func(p *dataplane.PortConfig) { p.Missed = !p.Missed })
	}},
	{"a VLAN", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Configure(pick(rng, stations), func(p *dataplane.PortConfig) { p.VLAN ^= 5 })
	}},
	{"the network isolated or not", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Policy[0].Isolated = !w.Policy[0].Isolated
		w.Install()
	}},
	{"internal or not", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Policy[0].Internal = !w.Policy[0].Internal
		w.Install()
	}},
	{"kept from the host or not", false, func(w *carriedWorld, _ *rand.Rand) {
		w.Policy[0].NoHostAccess = !w.Policy[0].NoHostAccess
		w.Install()
	}},
	{"another mode", true, func(w *carriedWorld, rng *rand.Rand) {
		w.Policy[0].Modes[rng.IntN(2)] = policy.GatewayMode(rng.IntN(3))
		w.Install()
	}},
	{"another MTU", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Config.Networks[0].MTU = 1400 + 100*rng.IntN(2)
		w.Config.Uplinks[0].MTU = 1400 + 100*rng.IntN(2)
		w.Install()
	}},
	{"another address of the gateway's", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Config.Networks[0].GatewayMAC[0] ^= 8
		w.Configure("host1", func(p *dataplane.PortConfig) { p.MAC[0] ^= 8 })
	}},
	{"exempt destinations", true, func(w *carriedWorld, rng *rand.Rand) {
		w.Policy[0].Exempt = toggle(w.Policy[0].Exempt, netip.MustParsePrefix("203.0.113.0/24"))
		w.Install()
	}},
	{"a route", true, func(w *carriedWorld, rng *rand.Rand) {
		i := rng.IntN(len(w.base.Routes))
		w.Config.Routes = toggle(w.Config.Routes, w.base.Routes[i])
		w.Install()
	}},
	{"an unrelated route", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Config.Routes = toggle(w.Config.Routes, dataplane.RouteConfig{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Kind: dataplane.RouteUnreachable})
		w.Install()
	}},
	{"an address of the host", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Config.Routes = toggle(w.Config.Routes, dataplane.RouteConfig{Prefix: netip.MustParsePrefix(World + "/32"), Kind: dataplane.RouteLocal})
		w.Install()
	}},
	{"a published port", true, func(w *carriedWorld, rng *rand.Rand) {
		p := w.base.Publish[rng.IntN(len(w.base.Publish))]
		for _, there := range w.Config.Publish { // its target may have been changed
			if there.HostFirst == p.HostFirst && there.Proto == p.Proto && there.ContainerAddr == p.ContainerAddr {
				p = there
			}
		}
		w.Config.Publish = toggle(w.Config.Publish, p)
		w.Install()
	}},
	{"another's published port", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Config.Publish = toggle(w.Config.Publish, dataplane.PublishConfig{Proto: header.ProtoTCP, HostFirst: 9000, HostLast: 9010, ContainerAddr: header.AddrFrom(netip.MustParseAddr("10.1.0.13")), ContainerFirst: 1})
		w.Install()
	}},
	{"a published port leads elsewhere", true, func(w *carriedWorld, _ *rand.Rand) {
		for i := range w.Config.Publish {
			if p := &w.Config.Publish[i]; p.HostFirst == 8080 {
				p.ContainerFirst ^= 1
			}
		}
		w.Install()
	}},
	{"a service of the host is published", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Config.Publish = toggle(w.Config.Publish, dataplane.PublishConfig{Proto: header.ProtoUDP, HostFirst: 7, HostLast: 7, ContainerAddr: header.AddrFrom(netip.MustParseAddr("10.1.0.13")), ContainerFirst: 7})
		w.Install()
	}},
	{"a container without an address", true, func(w *carriedWorld, rng *rand.Rand) {
		h := w.base.Stations[rng.IntN(len(w.base.Stations))]
		if slices.ContainsFunc(w.Config.Publish, func(p dataplane.PublishConfig) bool { return p.ContainerAddr.NetIP() == h.Addr }) {
			return
		}
		w.Config.Stations = toggle(w.Config.Stations, h)
		w.Install()
	}},
	{"next hops", true, func(w *carriedWorld, rng *rand.Rand) {
		switch rng.IntN(3) {
		case 0:
			w.reach(NextHopMAC)
		case 1:
			w.reach(NextHopMAC, "198.51.100.77")
		default:
			w.reach(header.MAC{2, 0, 0, 0, 9, 7})
		}
	}},
	{"a capture", false, func(w *carriedWorld, rng *rand.Rand) {
		if w.capture != nil {
			w.capture.Close()
			w.capture = nil
			return
		}
		c, err := dataplane.StartCapture(w.Switch, dataplane.CaptureConfig{Ports: []frame.PortID{w.Port(pick(rng, []string{"c1", "c3", "up"}))}})
		if err != nil {
			w.T.Fatal(err)
		}
		w.capture = c
	}},
	{"connections flushed", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Switch.FlushConns(conntrack.Selector{Ports: []frame.PortID{w.Port(pick(rng, stations))}})
	}},
	{"a container's MAC address", true, func(w *carriedWorld, rng *rand.Rand) {
		w.changeMAC(pick(rng, stations))
	}},
	{"another address of a container", true, func(w *carriedWorld, rng *rand.Rand) {
		at := pick(rng, stations)
		w.Config.Stations = toggle(w.Config.Stations, dataplane.StationConfig{Addr: netip.MustParseAddr("10.1.0.9" + at[1:]), Network: 1, MAC: MAC(at), Port: w.Port(at)})
		w.Install()
	}},
	{"an address moves to another container", true, func(w *carriedWorld, rng *rand.Rand) {
		h, to := &w.Config.Stations[rng.IntN(len(w.Config.Stations))], pick(rng, stations)
		if h.Network == 1 {
			h.Port, h.MAC = w.Port(to), MAC(to)
			w.Install()
		}
	}},
	{"a port that goes", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Unplug(pick(rng, []string{"c1", "c2", "c3", "c4", "host1", "up"}))
	}},
	{"ports that come back", true, func(w *carriedWorld, _ *rand.Rand) {
		for _, name := range w.Unplugged() {
			w.Plug(name)
		}
	}},
	{"another network is gone", true, func(w *carriedWorld, _ *rand.Rand) {
		w.drop(func(p *dataplane.PortConfig) bool { return p.Network == 3 })
		w.Config.Networks = slices.DeleteFunc(w.Config.Networks, func(n dataplane.NetworkConfig) bool { return n.ID == 3 })
		w.Install()
	}},
	{"a network without its TAP", true, func(w *carriedWorld, _ *rand.Rand) {
		w.drop(func(p *dataplane.PortConfig) bool { return p.ID == w.Port("host1") })
		w.Config.Networks[0].HostPort = frame.NoPort
		w.Install()
	}},
	{"a container is gone", true, func(w *carriedWorld, rng *rand.Rand) {
		id := w.Port(pick(rng, []string{"c2", "c3", "c4"}))
		w.drop(func(p *dataplane.PortConfig) bool { return p.ID == id })
		w.Install()
	}},
	{"by the other uplink", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Config.Routes = toggle(w.Config.Routes, dataplane.RouteConfig{
			Prefix: netip.MustParsePrefix("203.0.113.0/25"), Kind: dataplane.RouteUplink, Uplink: secondUplink,
			Via: netip.MustParseAddr(NextHop), Source: secondAddr,
		})
		w.Install()
	}},
	{"the uplink is gone", true, func(w *carriedWorld, _ *rand.Rand) {
		up := w.Port("up")
		w.Config.Routes = slices.DeleteFunc(slices.Clone(w.Config.Routes), func(r dataplane.RouteConfig) bool { return r.Kind == dataplane.RouteUplink && r.Uplink == up })
		w.Config.Uplinks = slices.DeleteFunc(w.Config.Uplinks, func(u dataplane.UplinkConfig) bool { return u.Port == up })
		w.drop(func(p *dataplane.PortConfig) bool { return p.ID == up })
		w.Install()
	}},
	{"the uplink's address", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Config.Uplinks[0].MAC[5] ^= 8
		w.Install()
	}},
	{"a claim slot", true, func(w *carriedWorld, _ *rand.Rand) {
		if slots := w.Config.Uplinks[0].Slots; slots[netip.MustParseAddr(HostAddr)] != 0 {
			slots[netip.MustParseAddr(HostAddr)] ^= 8
		}
		w.Install()
	}},
	{"ports for masquerade", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Config.MasqueradePorts = []conntrack.PortRange{{First: 40000, Last: uint16(50000 + w.Config.Revision%100)}}
		w.Install()
	}},
	{"timeouts", true, func(w *carriedWorld, rng *rand.Rand) {
		w.Config.Timeouts.UDP = time.Duration(200+rng.IntN(100)) * time.Second
		w.Install()
	}},
	{"filtering", true, func(w *carriedWorld, _ *rand.Rand) {
		w.Policy[0].Filter ^= policy.FilterEIF
		w.Install()
	}},
	{"segment sizes", true, func(w *carriedWorld, rng *rand.Rand) {
		w.Config.Networks[0].MSSClamp = dataplane.MSSClamp(1200 + rng.IntN(2))
		w.Config.Uplinks[0].MSSClamp = dataplane.MSSClamp(1200 + rng.IntN(2))
		w.Install()
	}},
	{"limits", true, func(w *carriedWorld, rng *rand.Rand) {
		w.Configure(pick(rng, stations), func(p *dataplane.PortConfig) {
			p.Quota.Flows, p.StormRate, p.MaxMACs, p.NoICMPErrors = 1000+rng.IntN(9), 100+rng.IntN(9), 1+rng.IntN(9), !p.NoICMPErrors
		})
	}},
	{"a trunk", false, func(w *carriedWorld, rng *rand.Rand) {
		w.Configure(pick(rng, stations), func(p *dataplane.PortConfig) {
			if p.Trunk == nil {
				p.Trunk = []dataplane.VLANRange{{First: 7, Last: 8}}
			} else {
				p.Trunk = nil
			}
		})
	}},
	{"subnets of a network", true, func(w *carriedWorld, rng *rand.Rand) {
		w.Config.Networks[0].Subnets = toggle(w.Config.Networks[0].Subnets, pick(rng, w.base.Networks[0].Subnets))
		w.Install()
	}},
	{"the gateway's address", true, func(w *carriedWorld, rng *rand.Rand) {
		w.Config.Networks[0].Gateways = toggle(w.Config.Networks[0].Gateways, pick(rng, w.base.Networks[0].Gateways))
		w.Install()
	}},
	{"ports that the host holds", true, func(w *carriedWorld, rng *rand.Rand) {
		var b conntrack.BusyPorts
		b.Set(header.ProtoTCP, uint16(rng.IntN(65536)))
		w.Switch.SetBusyPorts(&b)
	}},
	{"a capture of other ports", false, func(w *carriedWorld, rng *rand.Rand) {
		if w.capture != nil {
			w.capture.SetPorts([]frame.PortID{w.Port(pick(rng, []string{"c2", "c3", "host1"}))})
		}
	}},
	{"all connections flushed", false, func(w *carriedWorld, _ *rand.Rand) {
		w.Switch.FlushConns(conntrack.Selector{})
	}},
	{"another process", true, func(w *carriedWorld, _ *rand.Rand) { w.restart() }},
	{"all as it was", false, func(w *carriedWorld, _ *rand.Rand) { w.restore() }},
}

// Install is Lab's, but a change that contradicts one of before is none.
func (w *carriedWorld) Install() {
	w.T.Helper()
	cfg := w.Config
	cfg.Rules = policy.Compile(&cfg, w.Policy)
	if _, err := dataplane.NewSnapshot(cfg); err != nil {
		w.Config, w.Policy = cloneConfig(&w.installed), slices.Clone(w.installedPolicy)
		return
	}
	w.Lab.Install()
	w.installed, w.installedPolicy = cloneConfig(&w.Config), slices.Clone(w.Policy)
}

// restore puts everything back.
func (w *carriedWorld) restore() {
	for _, name := range w.Unplugged() {
		w.Plug(name)
	}
	revision := w.Config.Revision
	w.Config, w.Policy = cloneConfig(&w.base), slices.Clone(w.basePolicy)
	w.Config.Revision = revision
	w.Install()
	w.reach(NextHopMAC)
	w.Switch.SetBusyPorts(new(conntrack.BusyPorts))
	if w.capture != nil {
		w.capture.Close()
		w.capture = nil
	}
}

// cloneConfig shares nothing with c that a change writes to.
func cloneConfig(c *dataplane.SnapshotConfig) dataplane.SnapshotConfig {
	o := *c
	o.Ports, o.Networks, o.Stations = slices.Clone(c.Ports), slices.Clone(c.Networks), slices.Clone(c.Stations)
	o.Routes, o.Uplinks, o.Publish = slices.Clone(c.Routes), slices.Clone(c.Uplinks), slices.Clone(c.Publish)
	for i := range o.Uplinks {
		o.Uplinks[i].Slots = maps.Clone(o.Uplinks[i].Slots)
	}
	return o
}

// drop takes ports out of the configuration, with what leads to them.
func (w *carriedWorld) drop(match func(*dataplane.PortConfig) bool) {
	var gone []frame.PortID
	w.Config.Ports = slices.DeleteFunc(w.Config.Ports, func(p dataplane.PortConfig) bool {
		if !match(&p) {
			return false
		}
		gone = append(gone, p.ID)
		return true
	})
	var addrs []netip.Addr
	w.Config.Stations = slices.DeleteFunc(slices.Clone(w.Config.Stations), func(h dataplane.StationConfig) bool {
		if !slices.Contains(gone, h.Port) {
			return false
		}
		addrs = append(addrs, h.Addr)
		return true
	})
	w.Config.Publish = slices.DeleteFunc(slices.Clone(w.Config.Publish), func(p dataplane.PublishConfig) bool { return slices.Contains(addrs, p.ContainerAddr.NetIP()) })
}

// changeMAC gives a container another MAC address, or its own back.
func (w *carriedWorld) changeMAC(station string) {
	for i := range w.Config.Ports {
		if p := &w.Config.Ports[i]; p.ID == w.Port(station) {
			p.MAC[4] ^= 8
		}
	}
	for i := range w.Config.Stations {
		if h := &w.Config.Stations[i]; h.Port == w.Port(station) {
			h.MAC[4] ^= 8
		}
	}
	w.Install()
}
