package header

import (
	"net/netip"
	"testing"
)

func TestAddr(t *testing.T) {
	for _, c := range []struct {
		addr                              string
		is4, unspecified, multicast, link bool
	}{
		{"10.1.0.2", true, false, false, false},
		{"0.0.0.0", true, true, false, false},
		{"224.0.0.1", true, false, true, false},
		{"239.255.255.255", true, false, true, false},
		{"240.0.0.1", true, false, false, false},
		{"169.254.1.1", true, false, false, true},
		{"fd00::2", false, false, false, false},
		{"ff02::1", false, false, true, false},
		{"fe80::1", false, false, false, true},
		{"febf::1", false, false, false, true},
		{"fec0::1", false, false, false, false},
		{"::1", false, false, false, false},
	} {
		n := netip.MustParseAddr(c.addr)
		a := AddrFrom(n)
		if a.NetIP() != n || a.String() != c.addr {
			t.Errorf("%s there and back is %v", c.addr, a)
		}
		if n.Is4() && AddrFrom4(n.As4()) != a {
			t.Errorf("AddrFrom4(%s) = %v", c.addr, AddrFrom4(n.As4()))
		}
		if a.Is4() != c.is4 || a.IsUnspecified() != c.unspecified || a.IsMulticast() != c.multicast || a.IsLinkLocal() != c.link {
			t.Errorf("%s: is4 %v unspecified %v multicast %v link-local %v", c.addr, a.Is4(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocal())
		}
	}
	if a := AddrFrom(netip.Addr{}); a != (Addr{}) || a.NetIP().IsValid() {
		t.Errorf("the invalid address is %v", a)
	}
	if a := AddrFrom(netip.MustParseAddr("fe80::1%eth0")); a.String() != "fe80::1" {
		t.Errorf("zone kept: %v", a)
	}
}

func TestTupleReverse(t *testing.T) {
	a := Tuple{Src: AddrFrom(c4), Dst: AddrFrom(w4), SrcPort: 1, DstPort: 2, Proto: ProtoUDP}
	want := Tuple{Src: AddrFrom(w4), Dst: AddrFrom(c4), SrcPort: 2, DstPort: 1, Proto: ProtoUDP}
	if got := a.Reverse(); got != want || got.Reverse() != a {
		t.Errorf("Reverse() = %+v, want %+v", got, want)
	}
	var request, reply Layers
	Parse(shapeNamed(t, "echo4"), &request)
	Parse(shapeNamed(t, "echo4-reply"), &reply)
	back := request.Tuple.Reverse()
	back.Src, back.Dst = reply.Tuple.Src, reply.Tuple.Dst
	if back != reply.Tuple {
		t.Errorf("a request reversed is %+v, its reply %+v", back, reply.Tuple)
	}
}

func TestPayloadOffset(t *testing.T) {
	for name, want := range map[string]int{"tcp4": 54, "tcp4-syn": 58, "tcp6-hop-by-hop": 82, "udp4": 42, "udp6-vlan": 66,
		"echo4": 34, "sctp": 34, "udp4-fragment-last": 14} {
		b := shapeNamed(t, name)
		var l Layers
		if !Parse(b, &l) {
			t.Fatalf("%s: malformed", name)
		}
		if got := PayloadOffset(b, &l); got != want {
			t.Errorf("%s: payload at %d, want %d", name, got, want)
		}
	}
}
