package dataplane_test

import (
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
)

// Port 53 that is published at every address is not published at a gateway that answers names, unless it is
// published there by itself.
func TestPublishedPortOfNames(t *testing.T) {
	gateway, host, web := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("10.0.0.2")
	published := func(names bool, at header.Addr, proto uint8, addr netip.Addr, port uint16) bool {
		t.Helper()
		s, err := dataplane.NewSnapshot(dataplane.SnapshotConfig{
			Ports: []dataplane.PortConfig{{ID: 1, Kind: dataplane.PortHost, Network: 1, MAC: header.MAC{2, 1}}, {ID: 2, Network: 1, MAC: header.MAC{2, 2}}},
			Networks: []dataplane.NetworkConfig{{
				ID: 1, HostPort: 1, GatewayMAC: header.MAC{2, 1}, Gateways: []netip.Addr{gateway}, Subnets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}, Names: names,
			}},
			Stations: []dataplane.StationConfig{{Addr: web, Network: 1, MAC: header.MAC{2, 2}, Port: 2}},
			Publish:  []dataplane.PublishConfig{{Proto: proto, HostAddr: at, HostFirst: 50, HostLast: 60, ContainerAddr: header.AddrFrom(web), ContainerFirst: 50}},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, ok := s.Published(proto, addr, port)
		return ok
	}
	every := header.Addr{}
	for _, tc := range []struct {
		names bool
		at    header.Addr
		proto uint8
		addr  netip.Addr
		port  uint16
		want  bool
	}{
		{true, every, header.ProtoUDP, gateway, dataplane.PortOfNames, false},
		{true, every, header.ProtoTCP, gateway, dataplane.PortOfNames, false},
		{true, every, header.ProtoSCTP, gateway, dataplane.PortOfNames, true},
		{true, every, header.ProtoUDP, gateway, 54, true},
		{true, every, header.ProtoUDP, host, dataplane.PortOfNames, true},
		{true, header.AddrFrom(gateway), header.ProtoUDP, gateway, dataplane.PortOfNames, true},
		{false, every, header.ProtoUDP, gateway, dataplane.PortOfNames, true},
	} {
		if got := published(tc.names, tc.at, tc.proto, tc.addr, tc.port); got != tc.want {
			t.Errorf("%+v: published %v", tc, got)
		}
	}
}
