package kernel

import (
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"go.uber.org/goleak"

	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestMain(m *testing.M) {
	if os.Getenv(forbiddenEnv) != "" { // inside already, with fewer rights
		os.Exit(m.Run())
	}
	labtest.Enter()
	goleak.VerifyTestMain(m)
}

func open(t testing.TB) *Kernel { return openWith(t, Config{}) }

func openWith(t testing.TB, cfg Config) *Kernel {
	t.Helper()
	labtest.NeedBPF(t)
	k, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// Verdicts of a tc program (linux/pkt_cls.h). tcUnspec is TCX_NEXT as well: the
// next program, and in the end the stack, decides.
const (
	tcUnspec = -1
	tcShot   = 2
)

// verdict is what the programs do together with a frame.
type verdict string

const (
	ours    verdict = "ours"   // the switch gets it, the host does not
	both    verdict = "both"   // both get it
	theirs  verdict = "theirs" // the host gets it, the switch does not
	neither verdict = "neither"
)

const (
	host4, host6   = "198.51.100.1", "2001:db8::1"
	alias4, alias6 = "198.51.100.2", "2001:db8::2" // a second slot
	peer4, peer6   = "203.0.113.9", "2001:db8:9::9"
	other4, other6 = "198.51.100.77", "2001:db8::77" // no slot
)

// claim sets claims, the same for both families. Ports that are claimed for one
// protocol only end in its number.
func claim(t testing.TB, k *Kernel) {
	peers := openPeers(t, k)
	for _, addr := range []string{host4, host6} {
		slot := mustSlot(t, k, addr)
		k.Opened().Set(slot, header.ProtoTCP, 40906)
		k.Opened().Set(slot, header.ProtoUDP, 40917)
		remote := map[string]string{host4: peer4, host6: peer6}[addr]
		icmp := map[string]uint8{host4: header.ProtoICMP, host6: header.ProtoICMPv6}[addr]
		for _, p := range []flowmap.Peer{
			peerOf(t, k, remote, addr, header.ProtoTCP, 40006, 80), peerOf(t, k, remote, addr, header.ProtoUDP, 40017, 53),
			peerOf(t, k, remote, addr, icmp, 40001, 0), peerOf(t, k, remote, addr, header.ProtoUDP, 40019, 53),
			peerOf(t, k, remote, addr, header.ProtoTCP, 40019, 53),
		} {
			if err := peers.Claim(p); err != nil {
				t.Fatal(err)
			}
		}
		k.Opened().Set(slot, header.ProtoUDP, 40919)
		k.Published().Set(slot, header.ProtoTCP, 8006)
		k.Published().Set(slot, header.ProtoUDP, 8017)
		k.Published().Set(slot, header.ProtoTCP, 0)
		k.Published().Set(slot, header.ProtoTCP, 65535)
	}
	// What a reader takes for the port who believes in a header of 16 bytes.
	k.Published().Set(mustSlot(t, k, host4), header.ProtoTCP, 100<<8|1)
	mustSlot(t, k, alias4)
	mustSlot(t, k, alias6)
	k.Published().Set(flowmap.WildcardSlot, header.ProtoTCP, 9006)
	k.Published().Set(flowmap.WildcardSlot, header.ProtoUDP, 9017)
	k.Published().Set(flowmap.WildcardSlot6, header.ProtoTCP, 9006)
	// Every address of one family says nothing of the other.
	k.Published().Set(flowmap.WildcardSlot, header.ProtoTCP, 9406)
	k.Published().Set(flowmap.WildcardSlot6, header.ProtoTCP, 9606)
	// A mapping is always of an address: a bit here must have no effect.
	k.Opened().Set(flowmap.WildcardSlot, header.ProtoTCP, 40666)
	for s, routed := range map[string]bool{"10.9.0.0/24": true, "fd00:9::/64": true, "10.8.0.0/24": false, "fd00:8::/64": false} {
		if err := k.ClaimSubnet(netip.MustParsePrefix(s), routed); err != nil {
			t.Fatal(err)
		}
	}
	for _, port := range claimedBound {
		k.bound.sockets[0][port], k.bound.sockets[1][port] = 1, 1
	}
	k.bound.sockets[1][40017] = 1  // of IPv6 alone
	k.bound.sockets[0][40017] = -1 // a release came late
	claimPeers(t, k)
	loopback := mustSlot(t, k, "127.0.0.1")
	k.Published().Set(loopback, header.ProtoTCP, 8127)
	k.Published().Set(mustSlot(t, k, "::1"), header.ProtoTCP, 8127)
}

// claimedBound are UDP ports of flows, of a mapping that is open and of a published port that
// programs of the host have bound as well.
var claimedBound = []uint16{40019, 40919, 8017}

type packetTest struct {
	name  string
	frame []byte
	want  verdict
}

var packetTests = []packetTest{
	{"v4 tcp masquerade", eth(ip4(peer4, host4, tcp(80, 40006))), ours},
	{"v4 tcp masquerade, another port there", eth(ip4(peer4, host4, tcp(81, 40006))), theirs},
	{"v4 tcp masquerade, a stranger", eth(ip4(other4, host4, tcp(80, 40006))), theirs},
	{"v4 tcp masquerade, another address", eth(ip4(peer4, alias4, tcp(80, 40006))), theirs},
	{"v4 udp masquerade as tcp", eth(ip4(peer4, host4, tcp(53, 40017))), theirs},
	{"v4 udp masquerade, a stranger", eth(ip4(other4, host4, udp(53, 40017))), theirs},
	{"v4 udp masquerade, bound by the host", eth(ip4(peer4, host4, udp(53, 40019))), theirs},
	{"v6 udp masquerade, bound by the host", eth(ip6(peer6, host6, udp(53, 40019))), theirs},
	{"v4 tcp masquerade, its UDP port is bound", eth(ip4(peer4, host4, tcp(53, 40019))), ours},
	{"v4 udp open mapping, bound by the host", eth(ip4(other4, host4, udp(1, 40919))), theirs},
	{"v4 unreachable udp, bound by the host", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, udp(40019, 53))...))), theirs},
	{"v4 tcp open mapping", eth(ip4(other4, host4, tcp(1, 40906))), ours},
	{"v4 udp open mapping", eth(ip4(other4, host4, udp(1, 40917))), ours},
	{"v4 echo reply of a stranger", eth(ip4(other4, host4, icmp4(0, 0, 40001))), theirs},
	{"v6 tcp masquerade, a stranger", eth(ip6(other6, host6, tcp(80, 40006))), theirs},
	{"v6 udp open mapping", eth(ip6(other6, host6, udp(1, 40917))), ours},
	{"v4 tcp published", eth(ip4(peer4, host4, tcp(5555, 8006))), ours},
	{"v4 tcp first port", eth(ip4(peer4, host4, tcp(5555, 0))), ours},
	{"v4 tcp last port", eth(ip4(peer4, host4, tcp(5555, 65535))), ours},
	{"v4 tcp published everywhere", eth(ip4(peer4, host4, tcp(5555, 9006))), ours},
	{"v4 tcp published everywhere, alias", eth(ip4(peer4, alias4, tcp(5555, 9006))), ours},
	{"v4 tcp published on every IPv4 address", eth(ip4(peer4, host4, tcp(5555, 9406))), ours},
	{"v4 tcp published on every IPv6 address", eth(ip4(peer4, host4, tcp(5555, 9606))), theirs},
	{"v6 tcp published on every IPv4 address", eth(ip6(peer6, host6, tcp(5555, 9406))), theirs},
	{"v6 tcp published on every IPv6 address", eth(ip6(peer6, host6, tcp(5555, 9606))), ours},
	{"v4 tcp to a routed subnet", eth(ip4(peer4, "10.9.0.255", tcp(1, 2))), ours},
	{"v4 esp to a routed subnet", eth(ip4(peer4, "10.9.0.0", segment{50, []byte{1}})), ours},
	{"v4 later fragment to a routed subnet", eth(ip4(peer4, "10.9.0.7", udp(53, 8017), frag4(185, true))), ours},
	{"v4 beside a routed subnet", eth(ip4(peer4, "10.9.1.0", tcp(1, 2))), theirs},
	{"v4 from a routed subnet", eth(ip4("10.9.0.7", host4, tcp(1, 2))), theirs},
	{"v4 from a container to its gateway", eth(ip4("10.8.0.7", "10.8.0.1", tcp(1, 2))), ours},
	{"v4 from a container to another's gateway", eth(ip4("10.9.0.7", "10.8.0.1", udp(1, 2))), ours},
	{"v4 from the host to a gateway", eth(ip4(host4, "10.8.0.1", tcp(1, 2))), ours},
	{"v4 later fragment from a container to its gateway", eth(ip4("10.8.0.7", "10.8.0.1", udp(1, 2), frag4(185, false))), ours},
	{"v4 echo from a container to its gateway", eth(ip4("10.8.0.7", "10.8.0.1", icmp4(8, 0, 1))), ours},
	{"v4 from a stranger to a gateway", eth(ip4(peer4, "10.8.0.1", tcp(1, 2))), theirs},
	{"v4 from a container to the host", eth(ip4("10.8.0.7", host4, tcp(1, 2))), theirs},
	{"v4 from a container to a published port", eth(ip4("10.8.0.7", host4, tcp(1, 8006))), ours},
	{"v4 from a container to an address beyond", eth(ip4("10.8.0.7", other4, tcp(1, 8006))), theirs},
	{"v6 from a container to its gateway", eth(ip6("fd00:8::7", "fd00:8::1", tcp(1, 2))), ours},
	{"v6 from the host to a gateway", eth(ip6(host6, "fd00:8::1", tcp(1, 2))), ours},
	{"v6 from a stranger to a gateway", eth(ip6(peer6, "fd00:8::1", tcp(1, 2))), theirs},
	{"v6 from a container to the host", eth(ip6("fd00:9::7", host6, tcp(1, 2))), theirs},
	{"v6 tcp to a routed subnet", eth(ip6(peer6, "fd00:9::ffff:ffff:ffff:ffff", tcp(1, 2))), ours},
	{"v6 beside a routed subnet", eth(ip6(peer6, "fd00:9:0:1::", tcp(1, 2))), theirs},
	{"v4 tcp published everywhere, no slot", eth(ip4(peer4, other4, tcp(5555, 9006))), theirs},
	{"v4 tcp published on another address", eth(ip4(peer4, alias4, tcp(5555, 8006))), theirs},
	{"v4 tcp masquerade wildcard", eth(ip4(peer4, host4, tcp(5555, 40666))), theirs},
	{"v4 tcp neighbour bit", eth(ip4(peer4, host4, tcp(5555, 8007))), theirs},
	{"v4 tcp neighbour word", eth(ip4(peer4, host4, tcp(5555, 8006+64))), theirs},
	{"v4 tcp claimed source", eth(ip4(peer4, host4, tcp(8006, 5555))), theirs},
	{"v4 tcp of udp claim", eth(ip4(peer4, host4, tcp(5555, 8017))), theirs},
	{"v4 tcp of icmp claim", eth(ip4(peer4, host4, tcp(5555, 40001))), theirs},
	{"v4 udp masquerade", eth(ip4(peer4, host4, udp(53, 40017))), ours},
	{"v4 udp published", eth(ip4(peer4, host4, udp(53, 8017))), ours},
	{"v4 udp of tcp claim", eth(ip4(peer4, host4, udp(53, 8006))), theirs},
	{"v4 udp published everywhere is tcp", eth(ip4(peer4, host4, udp(53, 9006))), theirs},
	{"v4 esp of a tcp port", eth(ip4(other4, host4, segment{50, tcp(5555, 8006).bytes})), theirs},
	{"v4 icmpv6", eth(ip4(peer4, host4, icmp6(129, 0, 40001))), theirs},
	{"v4 options 4", eth(ip4(peer4, host4, tcp(5555, 8006), options4(4))), ours},
	{"v4 options 40", eth(ip4(peer4, host4, tcp(5555, 8006), options4(40))), ours},
	{"v4 options, not ours", eth(ip4(peer4, host4, tcp(5555, 8007), options4(40))), theirs},
	{"v4 IHL 4", patch(eth(ip4(peer4, host4, tcp(5555, 8006))), 14, 0x44), theirs},
	{"v4 IHL beyond the end", patch(eth(ip4(peer4, host4, udp(53, 8017))), 14, 0x4f), theirs},
	{"v4 version 6", patch(eth(ip4(peer4, host4, tcp(5555, 8006))), 14, 0x65), theirs},
	{"v4 first fragment", eth(ip4(peer4, host4, udp(53, 8017), frag4(0, true), id4(99))), ours},
	{"v4 first fragment, not ours", eth(ip4(peer4, host4, udp(53, 8018), frag4(0, true), id4(99))), theirs},
	{"v4 middle fragment", eth(ip4(peer4, host4, udp(53, 8017), frag4(185, true))), both},
	{"v4 last fragment", eth(ip4(peer4, host4, udp(53, 8017), frag4(8191, false))), both},
	{"v4 later fragment, alias", eth(ip4(peer4, alias4, segment{50, []byte{1}}, frag4(1, false))), both},
	{"v4 later fragment, no slot", eth(ip4(peer4, other4, udp(53, 8017), frag4(185, false))), theirs},
	{"v4 loopback from the wire", eth(ip4(peer4, "127.0.0.1", tcp(5555, 8127))), theirs},
	{"v4 loopback fragment from the wire", eth(ip4(peer4, "127.0.0.1", tcp(5555, 8127), frag4(1, true))), theirs},
	{"v4 broadcast", eth(ip4(peer4, "255.255.255.255", udp(53, 8017))), theirs},
	{"v4 echo reply", eth(ip4(peer4, host4, icmp4(0, 0, 40001))), both},
	{"v4 echo reply, another id", eth(ip4(peer4, host4, icmp4(0, 0, 40002))), theirs},
	{"v4 echo request", eth(ip4(peer4, host4, icmp4(8, 0, 40001))), theirs},
	{"v4 timestamp reply", eth(ip4(peer4, host4, icmp4(14, 0, 40001))), theirs},
	{"v4 unreachable tcp", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, tcp(40006, 80))...))), ours},
	{"v4 frag needed published", eth(ip4(peer4, host4, icmp4(3, 4, 0, ip4(host4, peer4, tcp(8006, 5555))...))), ours},
	{"v4 time exceeded udp", eth(ip4(peer4, host4, icmp4(11, 0, 0, ip4(host4, peer4, udp(40017, 53))...))), ours},
	{"v4 parameter problem", eth(ip4(peer4, host4, icmp4(12, 0, 0, ip4(host4, peer4, udp(40017, 53))...))), ours},
	{"v4 redirect", eth(ip4(peer4, host4, icmp4(5, 0, 0, ip4(host4, peer4, udp(40017, 53))...))), theirs},
	{"v4 unreachable echo", eth(ip4(peer4, host4, icmp4(3, 1, 0, ip4(host4, peer4, icmp4(8, 0, 40001))...))), both},
	{"v4 unreachable echo reply", eth(ip4(peer4, host4, icmp4(3, 1, 0, ip4(host4, peer4, icmp4(0, 0, 40001))...))), theirs},
	{"v4 unreachable, the host's", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, udp(33000, 53))...))), theirs},
	{"v4 unreachable, claimed destination", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, udp(33000, 40017))...))), theirs},
	{"v4 unreachable, other's packet", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(alias4, peer4, tcp(40006, 80))...))), theirs},
	{"v4 unreachable, quoted options", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, tcp(40006, 80), options4(8))...))), ours},
	{"v4 unreachable, outer options", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, tcp(40006, 80))...), options4(8))), ours},
	{"v4 unreachable, quoted later fragment", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip4(host4, peer4, tcp(40006, 80), frag4(8, false))...))), theirs},
	{"v4 unreachable, quoted IPv6", eth(ip4(peer4, host4, icmp4(3, 3, 0, ip6(host6, peer6, tcp(40006, 80))...))), theirs},

	{"v6 tcp masquerade", eth(ip6(peer6, host6, tcp(80, 40006))), ours},
	{"v6 tcp published", eth(ip6(peer6, host6, tcp(5555, 8006))), ours},
	{"v6 tcp last port", eth(ip6(peer6, host6, tcp(5555, 65535))), ours},
	{"v6 tcp published everywhere, alias", eth(ip6(peer6, alias6, tcp(5555, 9006))), ours},
	{"v6 tcp published everywhere, no slot", eth(ip6(peer6, other6, tcp(5555, 9006))), theirs},
	{"v6 tcp published on another address", eth(ip6(peer6, alias6, tcp(5555, 8006))), theirs},
	{"v6 tcp neighbour bit", eth(ip6(peer6, host6, tcp(5555, 8005))), theirs},
	{"v6 udp published", eth(ip6(peer6, host6, udp(53, 8017))), ours},
	{"v6 udp masquerade, bound by the host for IPv6", eth(ip6(peer6, host6, udp(53, 40017))), theirs},
	{"v6 icmpv4", eth(ip6(peer6, host6, icmp4(0, 0, 40001))), theirs},
	{"v6 version 4", patch(eth(ip6(peer6, host6, tcp(5555, 8006))), 14, 0x45), theirs},
	{"v6 hop-by-hop", eth(ip6(peer6, host6, ext(0, 0, tcp(5555, 8006)))), ours},
	{"v6 four extensions", eth(ip6(peer6, host6, ext(0, 1, ext(60, 4, ext(43, 2, ext(60, 0, tcp(5555, 8006))))))), ours},
	{"v6 five extensions", eth(ip6(peer6, host6, ext(0, 1, ext(60, 4, ext(43, 2, ext(60, 0, ext(60, 0, tcp(5555, 8006)))))))), theirs},
	{"v6 extension beyond the end", eth(ip6(peer6, host6, segment{60, patch(ext(60, 0, tcp(5555, 8006)).bytes, 1, 200)})), theirs},
	{"v6 authentication header", eth(ip6(peer6, host6, ext(51, 0, tcp(5555, 8006)))), theirs},
	{"v6 no next header", eth(ip6(peer6, host6, segment{59, nil})), theirs},
	{"v6 atomic fragment", eth(ip6(peer6, host6, frag6(0, false, tcp(5555, 8006)))), ours},
	{"v6 first fragment", eth(ip6(peer6, host6, frag6id(99, 0, true, udp(53, 8017)))), ours},
	{"v6 first fragment, not ours", eth(ip6(peer6, host6, frag6id(99, 0, true, udp(53, 8018)))), theirs},
	{"v6 later fragment", eth(ip6(peer6, host6, frag6(181, true, udp(53, 8017)))), both},
	{"v6 later fragment after hop-by-hop", eth(ip6(peer6, host6, ext(0, 0, frag6(8191, false, udp(53, 8017))))), both},
	{"v6 later fragment, no slot", eth(ip6(peer6, other6, frag6(181, true, udp(53, 8017)))), theirs},
	{"v6 loopback from the wire", eth(ip6(peer6, "::1", tcp(5555, 8127))), theirs},
	{"v6 mapped address of the host", eth(ip6(peer6, "::ffff:"+host4, tcp(5555, 8006))), theirs},
	{"v6 neighbour solicitation", eth(ip6(peer6, "ff02::1:ff00:1", icmp6(135, 0, 0))), theirs},
	{"v6 echo reply", eth(ip6(peer6, host6, icmp6(129, 0, 40001))), both},
	{"v6 echo reply, another id", eth(ip6(peer6, host6, icmp6(129, 0, 40000))), theirs},
	{"v6 echo request", eth(ip6(peer6, host6, icmp6(128, 0, 40001))), theirs},
	{"v6 unreachable", eth(ip6(peer6, host6, icmp6(1, 4, 0, ip6(host6, peer6, tcp(40006, 80))...))), ours},
	{"v6 packet too big", eth(ip6(peer6, host6, icmp6(2, 0, 0, ip6(host6, peer6, tcp(8006, 80))...))), ours},
	{"v6 time exceeded", eth(ip6(peer6, host6, icmp6(3, 0, 0, ip6(host6, peer6, tcp(40006, 80))...))), ours},
	{"v6 parameter problem echo", eth(ip6(peer6, host6, icmp6(4, 1, 0, ip6(host6, peer6, icmp6(128, 0, 40001))...))), both},
	{"v6 unreachable, the host's", eth(ip6(peer6, host6, icmp6(1, 4, 0, ip6(host6, peer6, tcp(33000, 80))...))), theirs},
	{"v6 unreachable, other's packet", eth(ip6(peer6, host6, icmp6(1, 4, 0, ip6(alias6, peer6, tcp(40006, 80))...))), theirs},
	{"v6 too big, quoted first fragment", eth(ip6(peer6, host6, icmp6(2, 0, 0, ip6(host6, peer6, frag6(0, true, tcp(40006, 80)))...))), ours},
	{"v6 too big, quoted later fragment", eth(ip6(peer6, host6, icmp6(2, 0, 0, ip6(host6, peer6, frag6(9, true, udp(40017, 53)))...))), theirs},

	{"another station's frame", frame([]byte{2, 0, 0, 0, 0, 9}, header.TypeIPv4, ip4(peer4, host4, tcp(5555, 8006))), theirs},
	{"multicast frame", frame([]byte{1, 0, 0x5e, 0, 0, 1}, header.TypeIPv4, ip4(peer4, host4, tcp(5555, 8006))), neither},
	{"broadcast frame", frame(header.Broadcast[:], header.TypeIPv4, ip4(peer4, host4, tcp(5555, 8006))), neither},
	{"broadcast frame of the host", frame(header.Broadcast[:], header.TypeIPv4, ip4(peer4, host4, tcp(5555, 33000))), theirs},
	{"broadcast to a port published at every address", frame(header.Broadcast[:], header.TypeIPv4, ip4(peer4, "255.255.255.255", udp(5555, 9017))), both},
	{"broadcast of the link", frame(header.Broadcast[:], header.TypeIPv4, ip4(peer4, "198.51.100.255", udp(5555, 9017))), both},
	{"broadcast of TCP", frame(header.Broadcast[:], header.TypeIPv4, ip4(peer4, "198.51.100.255", tcp(5555, 9006))), theirs},
	{"broadcast frame to a port published at every address", frame(header.Broadcast[:], header.TypeIPv4, ip4(peer4, host4, udp(5555, 9017))), neither},
	{"multicast to a port published at every address", frame([]byte{1, 0, 0x5e, 0, 0, 1}, header.TypeIPv4, ip4(peer4, "224.0.0.1", udp(5555, 9017))), theirs},
	{"broadcast to a loopback address", frame(header.Broadcast[:], header.TypeIPv4, ip4(peer4, "127.255.255.255", udp(5555, 9017))), theirs},
	{"broadcast packet", frame(header.Broadcast[:], header.TypeIPv4, ip4(peer4, "255.255.255.255", udp(5555, 8017))), theirs},
	{"vlan", frame(make([]byte, 6), header.TypeVLAN, append([]byte{0, 5, 8, 0}, ip4(peer4, host4, tcp(5555, 8006))...)), theirs},
	{"arp", frame(make([]byte, 6), header.TypeARP, make([]byte, 28)), theirs},
	{"IPv4 type, IPv6 packet", frame(make([]byte, 6), header.TypeIPv4, ip6(peer6, host6, tcp(5555, 8006))), theirs},
}

func TestClassify(t *testing.T) {
	k := open(t)
	claim(t, k)
	for _, tt := range packetTests {
		t.Run(tt.name, func(t *testing.T) {
			if got := judge(t, k, k.shield, tt.frame); got != tt.want {
				t.Errorf("got %s, want %s: % x", got, tt.want, tt.frame)
			}
		})
	}
}

// TestTruncated cuts every frame at every length: once what decides is cut off it
// is the host's, and the programs agree at each length.
func TestTruncated(t *testing.T) {
	k := open(t)
	claim(t, k)
	for _, tt := range slices.Concat(packetTests, peerTests) {
		t.Run(tt.name, func(t *testing.T) {
			seen := theirs
			// A test run wants the fixed IP header; TestShortFrames goes below.
			shortest := 34
			if tt.frame[12] == 0x86 {
				shortest = 54
			}
			for n := shortest; n <= len(tt.frame); n++ {
				got := judge(t, k, k.shield, tt.frame[:n])
				if got != theirs && got != tt.want || seen != theirs && got != seen {
					t.Fatalf("%d of %d bytes: got %s after %s, want %s in the end", n, len(tt.frame), got, seen, tt.want)
				}
				seen = got
			}
			if seen != tt.want {
				t.Errorf("whole: got %s, want %s", seen, tt.want)
			}
		})
	}
}

// judge runs filter and shield on a frame.
func judge(t testing.TB, k *Kernel, shield *ebpf.Program, frame []byte) verdict {
	t.Helper()
	// The shield believes what the filter said of the frame on the same CPU: the kernel
	// asks both in one softirq, so a test run must not be moved between them.
	defer labtest.OneCPU(t)()
	// A test run of a socket filter starts at the network header, the tap of an
	// uplink at the Ethernet header: the frame goes in with its header doubled.
	accepted, _, err := k.filter.Test(append(append([]byte(nil), frame[:14]...), frame...))
	if err != nil {
		t.Fatalf("filter: %v", err)
	}
	act, _, err := shield.Test(frame)
	if err != nil {
		t.Fatalf("shield: %v", err)
	}
	drop := int32(act) == tcShot
	if pass := int32(act) == tcUnspec; drop == pass || accepted != 0 && accepted != 1<<32-1 {
		t.Fatalf("filter %#x, shield %d: not a verdict of theirs", accepted, int32(act))
	}
	switch {
	case accepted != 0 && drop:
		return ours
	case accepted != 0:
		return both
	case !drop:
		return theirs
	}
	return neither
}

func BenchmarkClassify(b *testing.B) {
	k := open(b)
	claim(b, k)
	for _, p := range []struct {
		name  string
		frame []byte
	}{
		{"ours", eth(ip4(peer4, host4, tcp(80, 40006)))},
		{"everywhere", eth(ip4(peer4, host4, tcp(80, 9006)))},
		{"theirs", eth(ip4(peer4, host4, tcp(80, 33000)))},
		{"noslot", eth(ip4(peer4, other4, tcp(80, 33000)))},
		{"v6ours", eth(ip6(peer6, host6, tcp(80, 40006)))},
	} {
		b.Run(p.name, func(b *testing.B) {
			_, perRun, err := k.shield.Benchmark(p.frame, b.N, b.ResetTimer)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(perRun.Nanoseconds()), "ns/packet")
		})
	}
}
