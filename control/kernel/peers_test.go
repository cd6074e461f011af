package kernel

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
)

func sctp(src, dst uint16) segment { return segment{header.ProtoSCTP, tcp(src, dst).bytes} }
func esp() segment                 { return segment{50, []byte("esp payload")} }

func peerOf(t testing.TB, k *Kernel, addr, host string, proto uint8, port, other uint16) flowmap.Peer {
	return flowmap.Peer{
		Addr: header.AddrFrom(netip.MustParseAddr(addr)), Slot: uint8(mustSlot(t, k, host)),
		Proto: proto, Port: port, PeerPort: other,
	}
}

// claimPeers is the part of claim that peerTests want.
func claimPeers(t testing.TB, k *Kernel) {
	peers := openPeers(t, k)
	for _, p := range []flowmap.Peer{
		peerOf(t, k, peer4, host4, 50, 0, 0), peerOf(t, k, peer6, host6, 50, 0, 0),
		peerOf(t, k, peer4, host4, header.ProtoSCTP, 40132, 5000), peerOf(t, k, peer6, host6, header.ProtoSCTP, 40132, 5000),
	} {
		if err := peers.Claim(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, host := range []string{host4, host6} {
		k.Published().Set(mustSlot(t, k, host), header.ProtoSCTP, 8132)
	}
	k.Published().Set(flowmap.WildcardSlot, header.ProtoSCTP, 9132)
	k.Published().Set(flowmap.WildcardSlot6, header.ProtoSCTP, 9132)
}

var peerTests = []packetTest{
	{"v4 esp of a peer", eth(ip4(peer4, host4, esp())), ours},
	{"v4 esp of a peer, options", eth(ip4(peer4, host4, esp(), options4(8))), ours},
	{"v4 esp of a peer, empty", eth(ip4(peer4, host4, segment{50, nil})), ours},
	{"v4 esp of another", eth(ip4(other4, host4, esp())), theirs},
	{"v4 esp to another address", eth(ip4(peer4, alias4, esp())), theirs},
	{"v4 esp to no slot", eth(ip4(peer4, other4, esp())), theirs},
	{"v4 gre of an esp peer", eth(ip4(peer4, host4, segment{47, []byte("gre payload")})), theirs},
	{"v4 later fragment of a peer", eth(ip4(peer4, host4, esp(), frag4(1, false))), both},
	{"v4 unreachable esp", eth(ip4(peer4, host4, icmp4(3, 2, 0, ip4(host4, peer4, esp())...))), ours},
	{"v4 unreachable esp from a router", eth(ip4(other4, host4, icmp4(3, 2, 0, ip4(host4, peer4, esp())...))), ours},
	{"v4 unreachable esp of the host", eth(ip4(peer4, host4, icmp4(3, 2, 0, ip4(host4, other4, esp())...))), theirs},
	{"v4 sctp of a peer", eth(ip4(peer4, host4, sctp(5000, 40132))), ours},
	{"v4 sctp of a peer, another port there", eth(ip4(peer4, host4, sctp(5001, 40132))), theirs},
	{"v4 sctp of a peer, another port here", eth(ip4(peer4, host4, sctp(5000, 40133))), theirs},
	{"v4 sctp the other way about", eth(ip4(peer4, host4, sctp(40132, 5000))), theirs},
	{"v4 sctp of another", eth(ip4(other4, host4, sctp(5000, 40132))), theirs},
	{"v4 sctp published", eth(ip4(other4, host4, sctp(5555, 8132))), ours},
	{"v4 sctp published, neighbour", eth(ip4(other4, host4, sctp(5555, 8133))), theirs},
	{"v4 sctp published everywhere", eth(ip4(other4, alias4, sctp(5555, 9132))), ours},
	{"v4 sctp of a tcp port", eth(ip4(other4, host4, sctp(5555, 8006))), theirs},
	{"v4 tcp of an sctp port", eth(ip4(peer4, host4, tcp(5000, 8132))), theirs},
	{"v4 sctp cut short", eth(ip4(peer4, host4, segment{header.ProtoSCTP, []byte{0x13, 0x88, 0x9c}})), theirs},
	{"v4 unreachable sctp", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, sctp(40132, 5000))...))), ours},
	{"v4 unreachable sctp published", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, sctp(8132, 5555))...))), ours},
	{"v4 unreachable sctp of the host", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, sctp(40133, 5000))...))), theirs},
	{"v6 esp of a peer", eth(ip6(peer6, host6, esp())), ours},
	{"v6 esp of a peer behind options", eth(ip6(peer6, host6, ext(60, 0, esp()))), ours},
	{"v6 esp of another", eth(ip6(other6, host6, esp())), theirs},
	{"v6 sctp of a peer", eth(ip6(peer6, host6, sctp(5000, 40132))), ours},
	{"v6 sctp published", eth(ip6(other6, host6, sctp(5555, 8132))), ours},
	{"v6 sctp, neither", eth(ip6(other6, host6, sctp(5000, 40132))), theirs},
	{"v6 too big esp", eth(ip6(other6, host6, icmp6(2, 0, 0, ip6(host6, peer6, esp())...))), ours},
	{"v6 unreachable sctp", eth(ip6(peer6, host6, icmp6(1, 4, 0, ip6(host6, peer6, sctp(40132, 5000))...))), ours},
}

func TestN84ClassifyPeers(t *testing.T) {
	k := open(t)
	claim(t, k)
	for _, tc := range peerTests {
		if got := judge(t, k, k.shield, tc.frame); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
		}
	}
	for range 2 { // a second time is no error
		peers := openPeers(t, k)
		peers.Drop(peerOf(t, k, peer4, host4, 50, 0, 0))
		peers.Settle()
	}
	if got := judge(t, k, k.shield, peerTests[0].frame); got != theirs {
		t.Errorf("a peer that was dropped: %s", got)
	}
}

// TestStrangers: only packets whose peer a container could claim are remembered, so that
// nothing else pushes them out.
func TestStrangers(t *testing.T) {
	k := open(t)
	claim(t, k)
	strange := func() (n int) {
		var key [24]byte
		var at uint64
		for it := k.planes.strangers.Iterate(); it.Next(&key, &at); {
			n++
		}
		return n
	}
	for _, tc := range []struct {
		name  string
		frame []byte
		want  int
	}{
		{"tcp", eth(ip4(other4, host4, tcp(1, 2))), 0},
		{"udp of the host", eth(ip4(other4, host4, udp(1, 2))), 0},
		{"echo reply of the host", eth(ip4(other4, host4, icmp4(0, 0, 7))), 0},
		{"v6 echo reply of the host", eth(ip6(other6, host6, icmp6(129, 0, 7))), 0},
		{"sctp published", eth(ip4(other4, host4, sctp(5555, 8132))), 0},
		{"sctp published everywhere", eth(ip6(other6, alias6, sctp(5555, 9132))), 0},
		{"sctp of a claimed peer", eth(ip4(peer4, host4, sctp(5000, 40132))), 0},
		{"esp of a claimed peer", eth(ip4(peer4, host4, esp())), 0},
		{"sctp quoted", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, sctp(40133, 5000))...))), 0},
		{"esp", eth(ip4(other4, host4, esp())), 1},
		{"the same again", eth(ip4(other4, host4, esp())), 1},
		{"v6 esp", eth(ip6(other6, host6, esp())), 2},
		{"sctp", eth(ip4(other4, host4, sctp(5000, 40132))), 3},
	} {
		judge(t, k, k.shield, tc.frame)
		if n := strange(); n != tc.want {
			t.Errorf("%s: %d strangers, want %d", tc.name, n, tc.want)
		}
	}
	for i := range flowmap.MaxStrangers + 500 {
		judge(t, k, k.shield, eth(ip4(fmt.Sprintf("203.0.%d.%d", i>>8, i&255), host4, esp())))
	}
	if n := strange(); n > flowmap.MaxStrangers {
		t.Errorf("%d strangers", n)
	}
	if _, ok := openPeers(t, k).Strange(peerOf(t, k, fmt.Sprintf("203.0.%d.%d", (flowmap.MaxStrangers+499)>>8, (flowmap.MaxStrangers+499)&255), host4, 50, 0, 0)); !ok {
		t.Error("the last one is not among them")
	}
}
