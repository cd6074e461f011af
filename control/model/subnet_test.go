package model

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/state"
)

func TestFamiliesOfANetwork(t *testing.T) {
	six, four := "fd00:1::/64", "10.1.0.0/24"
	for _, tc := range []struct {
		in   api.NetworkCreate
		want [2]bool
		say  string // or an error that says so
	}{
		{api.NetworkCreate{}, [2]bool{true, false}, ""},
		{api.NetworkCreate{IPv6: new(true)}, [2]bool{true, true}, ""},
		{api.NetworkCreate{IPv6: new(false)}, [2]bool{true, false}, ""},
		{api.NetworkCreate{IPv4: new(false), IPv6: new(true)}, [2]bool{false, true}, ""},
		{api.NetworkCreate{Subnet: six}, [2]bool{false, true}, ""},
		{api.NetworkCreate{Subnet: six, IPv6: new(true)}, [2]bool{true, true}, ""},
		{api.NetworkCreate{Subnet: six, IPv4: new(true)}, [2]bool{true, true}, ""},
		{api.NetworkCreate{Subnet: six, IPv4: new(false)}, [2]bool{false, true}, ""},
		{api.NetworkCreate{Subnet: six, Subnets: []string{four}}, [2]bool{true, true}, ""},
		{api.NetworkCreate{Subnets: []string{four}, IPv6: new(true)}, [2]bool{true, true}, ""},
		{api.NetworkCreate{IPv4: new(false)}, [2]bool{}, "both off"},
		{api.NetworkCreate{IPv4: new(false), IPv6: new(false)}, [2]bool{}, "both off"},
		{api.NetworkCreate{Subnet: four, IPv4: new(false)}, [2]bool{}, "switched off"},
		{api.NetworkCreate{Subnet: six, IPv6: new(false)}, [2]bool{}, "switched off"},
	} {
		tc.in.Name = "blue"
		rec, err := CheckNetwork(tc.in)
		if tc.say != "" {
			if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), tc.say) {
				t.Errorf("%+v: %v, want ErrInvalid that says %q", tc.in, err, tc.say)
			}
			continue
		}
		if got := [2]bool{HasFamily(rec, IPv4), HasFamily(rec, IPv6)}; err != nil || got != tc.want {
			t.Errorf("%+v: %v, %v, want %v", tc.in, got, err, tc.want)
		}
		if !slices.IsSortedFunc(rec.Subnets, func(a, b state.Subnet) int {
			return int(FamilyOf(a.Prefix.Addr()) - FamilyOf(b.Prefix.Addr()))
		}) {
			t.Errorf("%+v: IPv4 does not come first: %+v", tc.in, rec.Subnets)
		}
	}
}

// TestListsAreMatchedByFamily: whatever the order in which they are given.
func TestListsAreMatchedByFamily(t *testing.T) {
	rec, err := CheckNetwork(api.NetworkCreate{
		Name: "blue", Subnets: []string{"fd00:1::7/64", "10.1.0.0/24"}, Gateways: []string{"10.1.0.254", "fd00:1::fe"},
		IPRanges: []string{"fd00:1::8000/113", "10.1.0.128/25"}, Reserved: map[string]string{"printer": "10.1.0.9", "nas": "fd00:1::9"},
		Mode: "isolated", ModeIPv4: "nat",
	})
	if err != nil {
		t.Fatal(err)
	}
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	want := []state.Subnet{
		{Prefix: p("10.1.0.0/24"), Gateway: a("10.1.0.254"), IPRange: p("10.1.0.128/25"), Reserved: map[string]netip.Addr{"printer": a("10.1.0.9")}},
		{Prefix: p("fd00:1::/64"), Gateway: a("fd00:1::fe"), IPRange: p("fd00:1::8000/113"), Reserved: map[string]netip.Addr{"nas": a("fd00:1::9")}, Mode: "isolated"},
	}
	eq := cmp.Options{cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })}
	if d := cmp.Diff(want, rec.Subnets, eq); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestBadSubnets(t *testing.T) {
	for _, tc := range []struct {
		in  api.NetworkCreate
		say []string
	}{
		{api.NetworkCreate{Subnets: []string{"10.1.0.0/24", "10.2.0.0/24"}}, []string{"IPv4", "10.1.0.0/24", "10.2.0.0/24", "one of each family"}},
		{api.NetworkCreate{Subnet: "fd00:1::/64", Subnets: []string{"fd00:2::/64"}}, []string{"IPv6", "one of each family"}},
		{api.NetworkCreate{Subnet: "fd00:1::/64", Gateways: []string{"fd00:1::1", "fd00:1::2"}}, []string{"gateway", "one of each family"}},
		{api.NetworkCreate{Subnet: "fd00:1::/64", Gateway: "fd00:2::1"}, []string{"gateway fd00:2::1 is outside subnet fd00:1::/64"}},
		{api.NetworkCreate{Subnet: "fd00:1::/64", Gateway: "fd00:1::"}, []string{"gateway fd00:1::", "subnet itself"}},
		{api.NetworkCreate{Subnet: "fd00:1::/64", Gateway: "fe80::1%eth0"}, []string{"fe80::1%eth0"}},
		{api.NetworkCreate{Subnet: "10.1.0.0/24", Gateway: "fd00:1::1"}, []string{"IPv6", "need a subnet", "--subnet"}},
		{api.NetworkCreate{Subnet: "10.1.0.0/24", IPv6: new(true), IPRange: "fd00::/96"}, []string{"IPv6", "need a subnet"}},
		{api.NetworkCreate{Subnet: "fd00:1::/64", IPRange: "fd00:2::/96"}, []string{"ip-range fd00:2::/96 is outside subnet fd00:1::/64"}},
		{api.NetworkCreate{Subnet: "fd00:1::/64", Reserved: map[string]string{"nas": "fd00:2::9"}}, []string{"fd00:2::9 (nas) is outside subnet"}},
		{api.NetworkCreate{Subnet: "fd00:1::/128"}, []string{"no room"}},
		{api.NetworkCreate{Subnet: "::1/64"}, []string{"reserved (RFC 4291)"}},
		{api.NetworkCreate{Subnet: "ff02::/64"}, []string{"multicast"}},
		{api.NetworkCreate{IPv6: new(true), MTU: 1279}, []string{"1279", "1280"}},
		{api.NetworkCreate{Mode: "macvlan"}, []string{`"macvlan"`, "nat, routed or isolated"}},
		{api.NetworkCreate{ModeIPv6: "routed"}, []string{"IPv6", "does not have"}},
	} {
		tc.in.Name = "blue"
		_, err := CheckNetwork(tc.in)
		if !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%+v: %v, want ErrInvalid", tc.in, err)
			continue
		}
		for _, s := range append(tc.say, "network blue: ") {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%+v: %q, want %q in it", tc.in, err, s)
			}
		}
	}
}

func TestUniqueLocalPool(t *testing.T) {
	a, b := UniqueLocal("one"), UniqueLocal("two")
	if a == b || a != UniqueLocal("one") {
		t.Errorf("%s and %s: want one that stays, and another for another", a, b)
	}
	if a.Bits() != 48 || a != a.Masked() || a.Addr().As16()[0] != 0xfd {
		t.Errorf("%s is no /48 of fd00::/8", a)
	}
}

func TestCheckJoin(t *testing.T) {
	four, six := netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00:1::5")
	for _, tc := range []struct {
		ip, ip6 string
		want    [2]netip.Addr
		bad     bool
	}{
		{"10.1.0.5", "", [2]netip.Addr{four}, false},
		{"", "fd00:1::5", [2]netip.Addr{{}, six}, false},
		{"fd00:1::5", "", [2]netip.Addr{{}, six}, false},
		{"10.1.0.5", "fd00:1::5", [2]netip.Addr{four, six}, false},
		{"fd00:1::5", "fd00:1::6", [2]netip.Addr{}, true},
		{"", "10.1.0.5", [2]netip.Addr{}, true},
		{"fd00:1::5", "10.1.0.5", [2]netip.Addr{}, true},
		{"", "x", [2]netip.Addr{}, true},
	} {
		got, err := CheckJoin(api.Connect{IP: tc.ip, IP6: tc.ip6})
		if (err != nil) != tc.bad || err == nil && got.IPs != tc.want {
			t.Errorf("--ip %q --ip6 %q: %v, %v, want %v", tc.ip, tc.ip6, got.IPs, err, tc.want)
		}
	}
}
