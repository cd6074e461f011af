package control

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
)

func TestTargets(t *testing.T) {
	web := portName{name: "veth1", kind: "container", network: "bridge", container: "web", ifname: "eth0"}
	up := portName{name: "eth0", kind: "uplink", ifname: "eth0"}
	tap := portName{name: "vs-1", kind: "host", network: "bridge", ifname: "vs-1"}
	odd := portName{name: "veth2", kind: "container", network: "blue", container: "uplink", ifname: "eth0"}
	for word, want := range map[string][]portName{
		"web": {web}, "container:web": {web}, "container:uplink": {odd}, "uplink": {up}, "uplink:eth0": {up}, "uplink:eth1": nil,
		"network:bridge": {web, tap}, "network:blue": {odd}, "all": {web, up, tap, odd}, "db": nil,
	} {
		list, err := targetsOf([]string{word})
		if err != nil {
			t.Fatal(err)
		}
		var got []portName
		for _, n := range []portName{web, up, tap, odd} {
			if wanted(list, n) {
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

func TestComments(t *testing.T) {
	names := &captureNames{
		ports: map[frame.PortID]portName{
			1: {name: "veth1", kind: "container", container: "web", ifname: "eth0", network: "bridge"},
			2: {name: "eth0", kind: "uplink", ifname: "eth0"}, 3: {name: "vs-1", kind: "host", network: "bridge", ifname: "vs-1"},
		},
		hosts: map[netip.Addr]string{netip.MustParseAddr("10.88.0.2"): "web", netip.MustParseAddr("fd00::2"): "web"},
	}
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
		if got := names.comment(&r); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
