package switchtest

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// second is the uplink that AddUplink adds: its station, and the addresses of the host, of the
// next hop and of its world, of both families, and its MTU.
const second = "up2"

var (
	secondMTU = 1400 // less than the containers'
	secondMAC = header.MAC{2, 0, 0, 0, 8, 1}
	secondHop = header.MAC{2, 0, 0, 0, 8, 9}

	secondAddrs = map[string]Family{
		Families[0].Name: {Host: "198.18.0.1", NextHop: "198.18.0.9", World: "198.18.9.9"},
		Families[1].Name: {Host: "2001:db8:18::1", NextHop: "2001:db8:18::9", World: "2001:db8:18:9::9"},
	}
)

// AddUplink gives the host a second uplink of both families, to some addresses of its own. It
// is for a Lab of both families whose next hops nobody has changed.
func (l *Lab) AddUplink() {
	l.T.Helper()
	id := frame.PortID(len(l.ids))
	l.ids[second], l.ports[second] = id, porttest.New(second)
	l.AddPort(id, l.ports[second])
	l.Config.Ports = append(l.Config.Ports, dataplane.PortConfig{ID: id, Kind: dataplane.PortUplink})
	up := dataplane.UplinkConfig{Port: id, MAC: secondMAC, MTU: secondMTU, Slots: make(map[netip.Addr]int)}
	neighbors := make(map[dataplane.NeighborKey]header.MAC)
	for i, f := range Families {
		a := secondAddrs[f.Name]
		host, hop, world := netip.MustParseAddr(a.Host), netip.MustParseAddr(a.NextHop), netip.MustParseAddr(a.World)
		up.Slots[host] = 3 + i
		l.Config.Routes = append(l.Config.Routes,
			dataplane.RouteConfig{Prefix: netip.PrefixFrom(host, host.BitLen()), Kind: dataplane.RouteLocal},
			dataplane.RouteConfig{Prefix: netip.PrefixFrom(world, world.BitLen()), Kind: dataplane.RouteUplink, Uplink: id, Via: hop, Source: host},
		)
		neighbors[l.NextHop(f.NextHop)] = NextHopMAC
		neighbors[dataplane.NeighborKey{Uplink: id, Addr: header.AddrFrom(hop)}] = secondHop
	}
	l.Config.Uplinks = append(l.Config.Uplinks, up)
	l.Install()
	l.Switch.SetNeighbors(neighbors)
}

// Ifindexes are the interfaces of all stations, with that of a second uplink.
func Ifindexes() map[string]int {
	all := make(map[string]int)
	for i, name := range append(slices.Sorted(maps.Keys(Stations)), second) {
		all[name] = int((*Lab)(nil).Ifindex(frame.PortID(i)))
	}
	return all
}

// isUplink says whether a station is an uplink.
func isUplink(station string) bool { return station == "up" || station == second }
