package kernel

import "testing"

// TestFragmentsFollow: a later fragment goes where its first one went, and to both while
// that has not come.
func TestFragmentsFollow(t *testing.T) {
	k := open(t)
	claim(t, k)
	later6 := func(id byte, s segment) segment { return frag6id(id, 185, true, s) }
	first6 := func(id byte, s segment) segment { return frag6id(id, 0, true, s) }
	for _, tc := range []packetTest{
		{"the first has not come", eth(ip4(peer4, host4, udp(1, 1), frag4(185, true), id4(7))), both},
		{"the first is ours", eth(ip4(peer4, host4, udp(53, 8017), frag4(0, true), id4(7))), ours},
		{"then the next is", eth(ip4(peer4, host4, udp(1, 1), frag4(185, true), id4(7))), ours},
		{"and the last", eth(ip4(peer4, host4, udp(1, 1), frag4(370, false), id4(7))), ours},
		{"of another datagram", eth(ip4(peer4, host4, udp(1, 1), frag4(185, true), id4(8))), both},
		{"of another sender", eth(ip4(other4, host4, udp(1, 1), frag4(185, true), id4(7))), both},
		{"of another protocol", eth(ip4(peer4, host4, tcp(1, 1), frag4(185, true), id4(7))), both},
		{"the first is the host's", eth(ip4(peer4, host4, udp(53, 8018), frag4(0, true), id4(9))), theirs},
		{"then the next is the host's", eth(ip4(peer4, host4, udp(53, 8017), frag4(185, true), id4(9))), theirs},
		{"the number comes round", eth(ip4(peer4, host4, udp(53, 8018), frag4(0, true), id4(7))), theirs},
		{"and counts anew", eth(ip4(peer4, host4, udp(1, 1), frag4(185, true), id4(7))), theirs},
		{"v6: the first has not come", eth(ip6(peer6, host6, later6(7, udp(1, 1)))), both},
		{"v6: the first is ours", eth(ip6(peer6, host6, first6(7, udp(53, 8017)))), ours},
		{"v6: then the next is", eth(ip6(peer6, host6, later6(7, udp(1, 1)))), ours},
		{"v6: whatever protocol the next names", eth(ip6(peer6, host6, later6(7, tcp(1, 1)))), ours},
		{"v6: the first is the host's", eth(ip6(peer6, host6, first6(9, udp(53, 8018)))), theirs},
		{"v6: then the next is the host's", eth(ip6(peer6, host6, later6(9, udp(1, 1)))), theirs},
	} {
		if got := judge(t, k, k.shield, tc.frame); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
}
