package dataplane

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

// everything is a configuration in which each field says something.
func everything() SnapshotConfig {
	up := netip.MustParseAddr("198.51.100.1")
	return SnapshotConfig{
		Revision: 1,
		Ports: []PortConfig{
			{ID: 1, Kind: PortHost, Network: 7, MAC: header.MAC{2, 1}, Ifindex: 11, StormRate: 5},
			{
				ID: 2, Network: 7, MAC: header.MAC{2, 2}, Ifindex: 12, Queued: true, Missed: true, Guarded: true, MaxMACs: 3, Groups: []GroupID{1, 9}, VLAN: 4,
				Trunk: []VLANRange{{First: 5, Last: 6}, {First: 8, Last: 8}}, StormRate: 9, NoICMPErrors: true,
				Quota: conntrack.Quota{Flows: 900, TCP: 800, UDP: 700, ICMP: 600, Rate: 500, Burst: 400},
			},
			{ID: 3, Kind: PortUplink, Ifindex: 13},
			{ID: 4, Network: 7, MAC: header.MAC{2, 4}, Ifindex: 14},
		},
		Networks: []NetworkConfig{{
			ID: 7, HostPort: 1, GatewayMAC: header.MAC{2, 1}, Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.1")},
			Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, MTU: 1500, MSSClamp: 1200,
		}},
		Stations: []StationConfig{
			{Addr: netip.MustParseAddr("10.1.0.2"), Network: 7, MAC: header.MAC{2, 2}, Port: 2},
			{Addr: netip.MustParseAddr("10.1.0.4"), Network: 7, MAC: header.MAC{2, 4}, Port: 4},
		},
		Routes: []RouteConfig{
			{Prefix: netip.MustParsePrefix("198.51.100.1/32"), Kind: RouteLocal},
			{Prefix: netip.MustParsePrefix("0.0.0.0/0"), Kind: RouteUplink, Uplink: 3, Via: netip.MustParseAddr("198.51.100.9"), Source: up},
		},
		Uplinks:         []UplinkConfig{{Port: 3, MAC: header.MAC{2, 3}, MTU: 1400, Slots: map[netip.Addr]int{up: 2}, MSSClamp: 1100}},
		Publish:         []PublishConfig{{Proto: header.ProtoTCP, HostAddr: header.AddrFrom(up), HostFirst: 80, HostLast: 81, ContainerAddr: header.AddrFrom(netip.MustParseAddr("10.1.0.2")), ContainerFirst: 8080}},
		MasqueradePorts: []conntrack.PortRange{{First: 500, Last: 600}, {First: 61000, Last: 62000}},
		Timeouts:        conntrack.Timeouts{},
		Rules: []Rule{
			{ID: 5, Tier: TierUser, Direction: In, From: Selector{Network: 7, Group: 9}, To: Selector{OfPort: true, Port: 2}, Via: ViaAddress, OtherVLAN: true},
			{
				ID: 6, Tier: TierUser, Direction: Out, Deny: true, Reason: DropInternal, From: Selector{Sides: SideContainer, Network: 7},
				To: Selector{Prefix: netip.MustParsePrefix("192.0.2.0/24"), List: 3}, Family: 4, Proto: header.ProtoTCP, Ports: conntrack.PortRange{First: 80, Last: 90},
			},
		},
	}
}

// TestEqualSnapshots: in another order it is the same; after a change of any field it
// is another, or none.
func TestEqualSnapshots(t *testing.T) {
	compile := func(cfg SnapshotConfig) *Snapshot {
		s, err := NewSnapshot(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	base, again := compile(everything()), everything()
	again.Revision = 2
	slices.Reverse(again.Ports)
	slices.Reverse(again.Stations)
	slices.Reverse(again.Rules)
	slices.Reverse(again.Routes)
	if !base.equal(compile(again)) {
		t.Error("the same in another order is another")
	}
	again.Ports = again.Ports[1:]
	again.Stations = again.Stations[1:]
	if s := compile(again); base.equal(s) || s.equal(base) {
		t.Error("with a port less it is the same")
	}
	changed := 0
	var walk func(v reflect.Value, path string, at func(*SnapshotConfig) reflect.Value)
	walk = func(v reflect.Value, path string, at func(*SnapshotConfig) reflect.Value) {
		if change := other(v); change.IsValid() {
			cfg := everything()
			at(&cfg).Set(change)
			s, err := NewSnapshot(cfg)
			if err != nil {
				return // no configuration at all
			}
			if changed++; base.equal(s) || s.equal(base) {
				t.Errorf("%s: %v says the same as %v", path, change, v)
			}
			return
		}
		switch v.Kind() {
		case reflect.Struct:
			for i := range v.NumField() {
				if name := v.Type().Field(i).Name; path != "" || name != "Revision" {
					walk(v.Field(i), path+"."+name, func(c *SnapshotConfig) reflect.Value { return at(c).Field(i) })
				}
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i), path, func(c *SnapshotConfig) reflect.Value { return at(c).Index(i) })
			}
		}
	}
	cfg := everything()
	walk(reflect.ValueOf(&cfg).Elem(), "", func(c *SnapshotConfig) reflect.Value { return reflect.ValueOf(c).Elem() })
	if changed < 45 {
		t.Errorf("only %d fields were changed", changed)
	}
}

// other is another value of a field's type, invalid for what is made of parts.
func other(v reflect.Value) reflect.Value {
	switch x := v.Interface().(type) {
	case netip.Addr:
		return reflect.ValueOf(x.Next())
	case netip.Prefix:
		if !x.IsValid() {
			return reflect.ValueOf(netip.MustParsePrefix("192.0.2.0/24"))
		}
		return reflect.ValueOf(netip.PrefixFrom(x.Addr(), x.Bits()-1))
	case header.MAC:
		x[5]++
		return reflect.ValueOf(x)
	case map[netip.Addr]int:
		m := map[netip.Addr]int{netip.MustParseAddr("198.51.100.7"): 9}
		for a, slot := range x {
			m[a] = slot
		}
		return reflect.ValueOf(m)
	case frame.PortID:
		return reflect.ValueOf(x ^ 6) // another port that is there
	case time.Duration:
		return reflect.ValueOf(x + 90*time.Minute)
	}
	n := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.Bool:
		n.SetBool(!v.Bool())
	case reflect.Int, reflect.Int64:
		n.SetInt(v.Int() + 1)
	case reflect.Uint8:
		n.SetUint(v.Uint() ^ 1)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n.SetUint(v.Uint() + 1)
	default:
		return reflect.Value{}
	}
	return n
}
