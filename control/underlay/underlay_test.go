package underlay

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/dataplane/frame"
)

func TestSourceOfARoute(t *testing.T) {
	var own []netip.Prefix
	for _, s := range []string{"fd12::5/64", "10.9.0.5/24", "2001:db8:1::5/64", "198.51.100.1/24", "2001:db8::1/64"} {
		own = append(own, netip.MustParsePrefix(s))
	}
	for _, tc := range []struct{ prefix, via, want string }{
		{"0.0.0.0/0", "198.51.100.9", "198.51.100.1"},
		{"0.0.0.0/0", "10.9.0.1", "10.9.0.5"},
		{"10.9.0.0/24", "", "10.9.0.5"},
		{"203.0.113.0/24", "192.0.2.1", "10.9.0.5"},
		{"::/0", "fe80::1", "2001:db8:1::5"}, // not the unique local one, though it is the first
		{"::/0", "2001:db8::9", "2001:db8::1"},
		{"2001:db8::/64", "", "2001:db8::1"},
		{"fd77::/48", "fe80::1", "fd12::5"},
		{"fd12::/64", "", "fd12::5"},
	} {
		r := host.Route{Prefix: netip.MustParsePrefix(tc.prefix)}
		if tc.via != "" {
			r.Via = netip.MustParseAddr(tc.via)
		}
		if got := sourceFor(own, r); got.String() != tc.want {
			t.Errorf("%s via %q: from %s, want %s", tc.prefix, tc.via, got, tc.want)
		}
	}
	if got := sourceFor(own[:1], host.Route{Prefix: netip.MustParsePrefix("::/0")}); got.String() != "fd12::5" {
		t.Errorf("with nothing else: from %s, want fd12::5", got)
	}
	if got := sourceFor(own[:1], host.Route{Prefix: netip.MustParsePrefix("0.0.0.0/0")}); got.IsValid() {
		t.Errorf("without an address of the family: from %s", got)
	}
}

// told is what the ports of uplinks are told.
type told struct{ list []string }

func (p *told) Open(l host.Link) (frame.PortID, error) { return 9, nil }
func (p *told) Close(id frame.PortID) error            { return nil }
func (p *told) Rename(id frame.PortID, name string) {
	p.list = append(p.list, fmt.Sprint(id, " is ", name))
}
func (p *told) Forget(id frame.PortID) { p.list = append(p.list, fmt.Sprint(id, " is nobody")) }

// Numbers follow names, also where two interfaces change theirs; a device that takes over
// another's name gets a number of its own.
func TestNumbersFollowNames(t *testing.T) {
	p := &told{}
	u := New(Config{Ports: p})
	old := []Uplink{{Link: host.Link{Index: 1, Name: "eth0"}, Port: 1}, {Link: host.Link{Index: 2, Name: "eth1"}, Port: 2}}
	gone := u.follow(old, []host.Link{{Index: 1, Name: "eth1"}, {Index: 2, Name: "eth0"}})
	if want := []string{"1 is eth1", "2 is eth0"}; len(gone) != 0 || !slices.Equal(p.list, want) {
		t.Errorf("gone %v, told %v, want %v", gone, p.list, want)
	}
	p.list = nil
	gone = u.follow(old, []host.Link{{Index: 1, Name: "eth0"}, {Index: 7, Name: "eth1"}})
	if want := []string{"2 is nobody"}; len(gone) != 1 || gone[0].Port != 2 || !slices.Equal(p.list, want) {
		t.Errorf("gone %v, told %v, want %v", gone, p.list, want)
	}
}
