package dataplane_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// kinds are the names of the events so far.
func kinds(l *Lab) []string {
	var list []string
	for _, e := range l.Events {
		list = append(list, e.Kind.String())
	}
	return list
}

// Whatever guard refuses is told under a name of its own, with the port it came in at
// and the address it spoke for, once in ten seconds.
func TestS74EveryRefusalHasItsEvent(t *testing.T) {
	c1, c2, c3 := MAC("c1"), MAC("c2"), MAC("c3")
	ll, all := LinkLocal(c2), "ff02::1"
	udp := func(src string, dst header.MAC) []byte {
		return Bytes(Packet{EthSrc: c2, EthDst: dst, Src: src, Dst: "255.255.255.255:68", Proto: header.ProtoUDP, Payload: make([]byte, 240)})
	}
	refused := map[dataplane.DropReason]bool{}
	names := map[string]bool{}
	for _, tc := range []struct {
		at, want string
		why      dataplane.DropReason
		f        []byte
		addr     string
	}{
		{"c2", "mac-spoof", dataplane.DropSpoofedMAC, l2(header.Broadcast, c1, "x"), ""},
		{"c2", "bad-source", dataplane.DropBadSource, l2(c3, header.MAC{1, 2, 3, 4, 5, 6}, "x"), ""},
		{"c2", "reserved-group", dataplane.DropReservedGroup, l2(header.MAC{0x01, 0x80, 0xc2}, c2, "x"), ""},
		{"c4", "no-ipv6", dataplane.DropNoIPv6, ND(GroupMAC("ff02::2"), MAC("c4"), LinkLocal(MAC("c4")), "ff02::2", header.ICMP6RouterSolicit, "", 1, MAC("c4")), ""},
		{"host1", "not-from-host", dataplane.DropNotFromHost, Bytes(Packet{EthSrc: MAC("host1"), EthDst: c1, Src: World + ":53", Dst: "10.1.0.11:53", Proto: header.ProtoUDP, Payload: []byte("x")}), World},
		{"c2", "ip-spoof", dataplane.DropSpoofedIP, udp("10.1.0.11:53", header.Broadcast), "10.1.0.11"},
		{"up", "forged-source", dataplane.DropForgedSource, Inbound(header.ProtoUDP, "10.1.0.12:53", HostAddr+":8080", 0, "x"), "10.1.0.12"},
		{"c2", "arp-spoof", dataplane.DropSpoofedARP, ARP(c3, c2, 2, c2, "10.1.0.1", c3, "10.1.0.13"), "10.1.0.1"},
		{"c2", "nd-spoof", dataplane.DropSpoofedND, ND(GroupMAC(all), c2, ll, all, header.ICMP6NeighborAdvert, IPv6("c1"), 2, c2), IPv6("c1")},
		{"c2", "rogue-router", dataplane.DropRouterMessage, V6(GroupMAC(all), c2, ll, all, header.ProtoICMPv6, 255, ICMPv6(ll, all, header.ICMP6RouterAdvert, make([]byte, 12))), ""},
		{"c2", "rogue-dhcp", dataplane.DropDHCPServer, udp("10.1.0.12:67", header.Broadcast), ""},
		{"c2", "unreadable", dataplane.DropUnreadable, Ethernet(c3, c2, header.TypeARP, append([]byte{0, 6, 8, 0, 6, 4, 0, 2}, make([]byte, 20)...)), ""},
	} {
		t.Run(tc.want, func(t *testing.T) {
			l := guarded(t)
			if tc.why == dataplane.DropNoIPv6 {
				for i := range l.Config.Networks {
					n := &l.Config.Networks[i]
					n.Subnets = slices.DeleteFunc(slices.Clone(n.Subnets), func(p netip.Prefix) bool { return p.Addr().Is6() })
				}
				l.Config.Stations = slices.DeleteFunc(l.Config.Stations, func(h dataplane.StationConfig) bool { return h.Addr.Is6() })
				l.Install()
			}
			for range 100 {
				l.Send(tc.at, tc.f)
			}
			l.ExpectDrop(tc.at, tc.why, 100)
			l.Advance(time.Second)
			if got := kinds(l); !slices.Equal(got, []string{tc.want}) {
				t.Fatalf("events %q, want one %s", got, tc.want)
			}
			e := l.Events[0]
			if e.Port != l.Port(tc.at) {
				t.Errorf("the event is of port %d, want %d", e.Port, l.Port(tc.at))
			}
			if got := e.Addr.NetIP().String(); e.Addr != (header.Addr{}) && got != tc.addr || e.Addr == (header.Addr{}) && tc.addr != "" {
				t.Errorf("the event names address %s, want %q", got, tc.addr)
			}
		})
		refused[tc.why], names[tc.want] = true, true
	}
	for r := range dataplane.NumDropReasons {
		if strings.HasPrefix(r.String(), "guard-") && !refused[r] {
			t.Errorf("%s has no event", r)
		}
	}
	if len(names) != len(refused) {
		t.Errorf("%d reasons have %d names", len(refused), len(names))
	}
}

// A flood of source addresses is told as one, whether its frames can be parsed or not,
// and a flood of another's broadcasts is no loop.
func TestS75FloodsOfAddresses(t *testing.T) {
	random := func(i int) header.MAC { return header.MAC{byte(i*7) &^ 1, byte(i >> 8), byte(i), 9, byte(i * 13), 1} }
	malformed := []byte("\x45\x00\x00\x28") // IPv4 that ends after four bytes
	for _, tc := range []struct {
		name    string
		guarded bool
		frame   func(i int) []byte
		want    []string
	}{
		{"of random stations", true, func(i int) []byte { return l2(MAC("c1"), random(i), "x") }, []string{"mac-spoof", "mac-flood"}},
		{"broadcast", true, func(i int) []byte { return l2(header.Broadcast, random(i), "x") }, []string{"mac-spoof", "mac-flood"}},
		{"malformed", true, func(i int) []byte { return Ethernet(MAC("c1"), random(i), header.TypeIPv4, malformed) }, []string{"mac-spoof", "mac-flood"}},
		{"malformed, not guarded", false, func(i int) []byte { return Ethernet(MAC("c1"), random(i), header.TypeIPv4, malformed) }, []string{"mac-flood"}},
		{"multicast as source", true, func(i int) []byte {
			m := random(i)
			m[0] |= 1
			return l2(MAC("c1"), m, "x")
		}, []string{"bad-source", "mac-flood"}},
		{"not guarded", false, func(i int) []byte { return l2(MAC("c1"), random(i), "x") }, []string{"table-full", "mac-flood", "share-reached"}},
		{"of one neighbour", true, func(i int) []byte { return l2(header.Broadcast, MAC("c1"), "x") }, []string{"mac-spoof"}},
		{"malformed, with its own address", true, func(i int) []byte { return Ethernet(MAC("c1"), MAC("c2"), header.TypeIPv4, malformed) }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := New(t)
			if tc.guarded {
				l.Guard()
			}
			for i := range 5000 {
				l.Send("c2", tc.frame(i))
			}
			l.Got("c1")
			l.Advance(time.Second)
			if got := kinds(l); !slices.Equal(got, tc.want) {
				t.Errorf("events %q, want %q", got, tc.want)
			}
		})
	}
}

// Names are what programs look for: each kind has one of its own.
func TestEventNames(t *testing.T) {
	seen := map[string]bool{}
	for k := dataplane.EventSpoof; k <= dataplane.EventShare; k++ {
		if name := k.String(); name == "" || seen[name] {
			t.Errorf("kind %d is called %q", k, name)
		}
		seen[k.String()] = true
	}
}
