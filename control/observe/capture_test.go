package observe

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

func TestTargets(t *testing.T) {
	var dir directory.Live
	at := func(name, network string, port frame.PortID) directory.Port {
		dir.PutContainer(directory.Container{ID: "id-" + name, Name: name, Ready: true, Endpoints: []directory.Endpoint{{Network: network, Ifname: "eth0", Port: port, Plugged: true}}})
		p, _ := dir.Now().Port(port)
		return p
	}
	web, odd := at("web", "bridge", 1), at("uplink", "blue", 4)
	up := directory.Port{Name: "eth0", Kind: "uplink", Ifname: "eth0"}
	tap := directory.Port{Name: "vs-1", Kind: "host", Network: "bridge", Ifname: "vs-1"}
	for word, want := range map[string][]directory.Port{
		"web": {web}, "container:web": {web}, "container:uplink": {odd}, "uplink": {up}, "uplink:eth0": {up}, "uplink:eth1": nil,
		"network:bridge": {web, tap}, "network:blue": {odd}, "all": {web, up, tap, odd}, "db": nil,
	} {
		list, err := targetsOf([]string{word})
		if err != nil {
			t.Fatal(err)
		}
		var got []directory.Port
		for _, n := range []directory.Port{web, up, tap, odd} {
			if wanted(list, dir.Now().ByID(n.Owner), n) {
				got = append(got, n)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %v, want %v", word, got, want)
		}
	}
	for _, word := range []string{"", "network:", "host:web", ":", "uplink:"} {
		if list, err := targetsOf([]string{word}); err == nil {
			t.Errorf("%q is accepted as %v", word, list)
		}
	}
	if _, err := pointsOf([]string{"rx", "postnet"}); err == nil {
		t.Error("an unknown point is accepted")
	}
}

// A target is whatever finds a container or a network, and the capture is of all their ports.
func TestTargetsAreFound(t *testing.T) {
	var dir directory.Live
	at := func(id, name, called, runtime, ifname string, port frame.PortID) {
		dir.PutContainer(directory.Container{ID: id, Name: name, Called: called, Runtime: runtime, RuntimeID: "run-" + id, Ready: true,
			Keys: []string{directory.KeyOfRuntime + called + runtime}, Endpoints: []directory.Endpoint{{
				Network: "shop_back", Ifname: ifname, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 88, 0, byte(port)})}, Port: port, Plugged: true,
			}}})
	}
	at("aaaaaa", "shop", "shop", "docker", "eth0", 1)
	at("bbbbbb", "shop.back", "shop", "docker", "eth1", 2)
	at("cccccc", "web", "web", "docker", "eth0", 3)
	at("dddddd", "web1", "web", "podman", "eth0", 4)
	dir.PutNetwork(directory.Network{ID: "0123456789", Name: "shop_back", Made: "docker-4515", RuntimeIDs: []string{"45150034c4f3"}, Ready: true, TAP: "vs-1", Port: 5, Plugged: true})
	for word, want := range map[string][]frame.PortID{
		"shop": {1, 2}, "shop/eth1": {2}, "docker:shop": {1, 2}, "shop.back": {1, 2}, "10.88.0.2": {1, 2}, "shopdocker": {1, 2},
		"docker:web": {3}, "podman:web": {4}, "docker:web/eth0": {3}, "dddddd": {4}, "web": nil, "shop/eth2": nil, "cni:web": nil,
		"network:shop_back": {1, 2, 3, 4, 5}, "network:docker-4515": {1, 2, 3, 4, 5}, "network:45150034": {1, 2, 3, 4, 5}, "network:none": nil,
	} {
		list, err := targetsOf([]string{word})
		if err != nil {
			t.Fatal(err)
		}
		if err := list[0].check(dir.Now()); (err == nil) != (want != nil) {
			t.Errorf("%s: %v", word, err)
		} else if err == nil {
			s := sight{targets: list}
			s.update(dir.Now(), dir.Now().Ports(false))
			if got := s.list(); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %v, want %v", word, got, want)
			}
		}
	}
}

func TestComments(t *testing.T) {
	var dir directory.Live
	dir.PutContainer(directory.Container{ID: "1", Name: "web", Endpoints: []directory.Endpoint{{
		Network: "bridge", Ifname: "eth0", Veth: "veth1", Addrs: []netip.Addr{netip.MustParseAddr("10.88.0.2"), netip.MustParseAddr("fd00::2")}, Port: 1, Plugged: true,
	}}})
	dir.PutUplink(2, "eth0")
	dir.PutNetwork(directory.Network{ID: "2", Name: "bridge", TAP: "vs-1", Port: 3, Plugged: true})
	tuple := func(src, dst string, proto uint8) header.Tuple {
		s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
		return header.Tuple{Src: header.AddrFrom(s.Addr()), Dst: header.AddrFrom(d.Addr()), SrcPort: s.Port(), DstPort: d.Port(), Proto: proto}
	}
	for want, r := range map[string]dataplane.CaptureRecord{
		"DNAT 198.51.100.1:8080 -> web:80, out veth1 (web)": {Verdict: dataplane.Verdict{In: 2, Out: 1, Copies: 1, Translated: true,
			From: tuple("203.0.113.9:4000", "198.51.100.1:8080", 6), To: tuple("203.0.113.9:4000", "10.88.0.2:80", 6)}},
		"DNAT [2001:db8::1]:8080 -> web:80, in eth0": {Point: dataplane.PointTx, Verdict: dataplane.Verdict{In: 2, Out: 1, Copies: 1, Translated: true,
			From: tuple("[2001:db8::9]:4000", "[2001:db8::1]:8080", 17), To: tuple("[2001:db8::9]:4000", "[fd00::2]:80", 17)}},
		"SNAT web id 7 -> 198.51.100.1 id 61000, out eth0": {Verdict: dataplane.Verdict{In: 1, Out: 2, Copies: 1, Translated: true,
			From: tuple("10.88.0.2:7", "203.0.113.9:0", 1), To: tuple("198.51.100.1:61000", "203.0.113.9:0", 1)}},
		"dropped: guard-spoofed-ip":                          {Verdict: dataplane.Verdict{In: 1, Out: frame.NoPort, Fate: dataplane.FateDropped, Reason: dataplane.DropSpoofedIP}},
		"flooded to 3 ports":                                 {Verdict: dataplane.Verdict{In: 1, Out: 3, Copies: 3}},
		"out vs-1 (host)":                                    {Verdict: dataplane.Verdict{In: 1, Out: 3, Copies: 1}},
		"made by the switch":                                 {Point: dataplane.PointTx, Verdict: dataplane.Verdict{In: frame.NoPort, Fate: dataplane.FateOwn}},
		"answered by the switch":                             {Verdict: dataplane.Verdict{In: 1, Out: frame.NoPort, Fate: dataplane.FateAnswered}},
		"held until its next hop or first fragment is known": {Verdict: dataplane.Verdict{In: 1, Out: frame.NoPort, Fate: dataplane.FateHeld}},
		"in a port that has gone":                            {Point: dataplane.PointTx, Verdict: dataplane.Verdict{In: 9, Out: 1, Copies: 1}},
	} {
		if got := comment(dir.Now(), &r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
