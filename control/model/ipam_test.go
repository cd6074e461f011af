package model

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

func pool(subnet, rng string, reserved map[string]netip.Addr) *addressPool {
	s := netip.MustParsePrefix(subnet)
	var r netip.Prefix
	if rng != "" {
		r = netip.MustParsePrefix(rng)
	}
	return newAddressPool("blue", s, r, FirstHost(s), reserved)
}

func TestF28PoolGoesRound(t *testing.T) {
	p := pool("10.1.0.0/29", "", map[string]netip.Addr{"printer": netip.MustParseAddr("10.1.0.4")})
	take := func() string {
		t.Helper()
		a, err := p.next("c")
		if err != nil {
			t.Fatal(err)
		}
		return a.String()
	}
	// .0 is the subnet, .1 the gateway, .4 reserved, .7 the broadcast address.
	for _, want := range []string{"10.1.0.2", "10.1.0.3"} {
		if got := take(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	delete(p.taken, netip.MustParseAddr("10.1.0.2"))
	// A freed address is not used again at once.
	for _, want := range []string{"10.1.0.5", "10.1.0.6", "10.1.0.2"} {
		if got := take(); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	_, err := p.next("c")
	if !errors.Is(err, api.ErrFull) || !strings.Contains(err.Error(), "network blue is full") {
		t.Errorf("full: %v, want ErrFull that names the network", err)
	}
	delete(p.taken, netip.MustParseAddr("10.1.0.5"))
	if got := take(); got != "10.1.0.5" {
		t.Errorf("after a release: %s, want 10.1.0.5", got)
	}
}

// Of a pool that somebody else gives out from its beginning, the end is taken.
func TestSharedPool(t *testing.T) {
	for subnet, want := range map[string]string{"10.1.0.0/29": "10.1.0.6 10.1.0.5", "fd00::/64": "fd00::ffff:ffff:ffff:ffff fd00::ffff:ffff:ffff:fffe", "0.0.0.0/30": "0.0.0.2"} {
		p := pool(subnet, "", nil)
		p.shared = true
		for i, w := range strings.Fields(want) {
			for range 2 { // what was freed is the first again
				a, err := p.next("c")
				if err != nil || a.String() != w {
					t.Fatalf("%s, %d: %v, %v, want %s", subnet, i, a, err, w)
				}
				delete(p.taken, a)
			}
			p.taken[netip.MustParseAddr(w)] = "c"
		}
	}
	p := pool("10.1.0.0/29", "", nil)
	p.shared = true
	for range 5 {
		if _, err := p.next("c"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.next("c"); !errors.Is(err, api.ErrFull) {
		t.Errorf("full: %v", err)
	}
}

func TestPoolSizes(t *testing.T) {
	for _, tc := range []struct {
		subnet, rng string
		want        int
	}{
		{"10.1.0.0/24", "", 253},
		{"10.1.0.0/24", "10.1.0.128/25", 127}, // less the broadcast address
		{"10.1.0.0/24", "10.1.0.0/30", 2},     // .2 and .3
		{"10.1.0.0/30", "", 1},
		{"10.1.0.0/31", "", 1}, // RFC 3021
		{"10.1.0.0/16", "10.1.7.0/28", 16},
		{"fd00:1::/124", "", 14},
		{"fd00:1::/127", "", 1},
	} {
		p := pool(tc.subnet, tc.rng, nil)
		n := 0
		seen := make(map[netip.Addr]bool)
		for ; n <= tc.want; n++ {
			a, err := p.next(fmt.Sprint(n))
			if err != nil {
				break
			}
			if seen[a] || !p.rng.Contains(a) || a == p.gateway {
				t.Fatalf("%s %s: handed out %s", tc.subnet, tc.rng, a)
			}
			seen[a] = true
		}
		if n != tc.want {
			t.Errorf("%s in %q: %d addresses, want %d", tc.subnet, tc.rng, n, tc.want)
		}
	}
}

func TestPoolTake(t *testing.T) {
	p := pool("10.1.0.0/24", "10.1.0.128/25", map[string]netip.Addr{"printer": netip.MustParseAddr("10.1.0.4")})
	if err := p.take(netip.MustParseAddr("10.1.0.9"), "web", ""); err != nil {
		t.Errorf("outside the range, inside the subnet: %v", err)
	}
	for _, tc := range []struct {
		addr, say string
		kind      error
	}{
		{"10.1.0.9", "in use by container web", api.ErrConflict},
		{"10.2.0.9", "outside subnet 10.1.0.0/24", api.ErrInvalid},
		{"fd00::9", "outside subnet", api.ErrInvalid},
		{"10.1.0.1", "is the gateway", api.ErrInvalid},
		{"10.1.0.4", "reserved for printer", api.ErrInvalid},
		{"10.1.0.0", "subnet itself", api.ErrInvalid},
		{"10.1.0.255", "broadcast", api.ErrInvalid},
	} {
		err := p.take(netip.MustParseAddr(tc.addr), "db", "")
		if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("take %s: %v, want %v that says %q", tc.addr, err, tc.kind, tc.say)
		}
	}
}

func TestNextSubnet(t *testing.T) {
	space := netip.MustParsePrefix("10.88.0.0/13")
	used := map[netip.Prefix]bool{}
	free := func(p netip.Prefix) bool { return !used[p] }
	for i := range 2048 {
		p, ok := NextSubnet(space, 24, free)
		want := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(88 + i>>8), byte(i), 0}), 24)
		if !ok || p != want {
			t.Fatalf("subnet %d = %v, %v, want %v", i, p, ok, want)
		}
		used[p] = true
	}
	if p, ok := NextSubnet(space, 24, free); ok {
		t.Errorf("a full space gave %v", p)
	}
	if p, ok := NextSubnet(netip.MustParsePrefix("255.255.255.0/24"), 26, func(p netip.Prefix) bool { return false }); ok {
		t.Errorf("the end of the address space gave %v", p)
	}
}

func TestMACs(t *testing.T) {
	seen := make(map[string]bool)
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		m := DeriveMAC("net", a, i%3)
		if m != DeriveMAC("net", a, i%3) {
			t.Fatalf("the MAC of %s is not always the same", a)
		}
		if m.IsMulticast() || m[0]&2 == 0 || m.IsZero() {
			t.Fatalf("%s is not a locally administered unicast address", m)
		}
		seen[m.String()] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different addresses of 1000", len(seen))
	}
	for _, s := range []string{"10.88.0.1", "fd00::1"} {
		if m := GatewayMAC(netip.MustParseAddr(s)); m.IsMulticast() || m[0]&2 == 0 || m != GatewayMAC(netip.MustParseAddr(s)) {
			t.Errorf("gatewayMAC(%s) = %s", s, m)
		}
	}
}

func TestLeaseExpires(t *testing.T) {
	p := newAddressPool("net", netip.MustParsePrefix("10.1.0.0/30"), netip.Prefix{}, netip.MustParseAddr("10.1.0.1"), nil)
	now := time.Now()
	if _, err := p.lease(netip.Addr{}, netip.Prefix{}, "docker", now.Add(-2*leaseTime)); err != nil {
		t.Fatal(err)
	}
	if a, err := p.lease(netip.Addr{}, netip.Prefix{}, "docker", now); err != nil || a != netip.MustParseAddr("10.1.0.2") {
		t.Errorf("%s, %v", a, err)
	}
	if _, err := p.next("web"); err == nil {
		t.Error("the only address is leased and was given")
	}
}
