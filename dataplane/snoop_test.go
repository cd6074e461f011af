package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// igmp is an IGMP message in a frame: type, group and what follows.
func igmp(from, dst string, typ byte, body []byte) []byte {
	m := append([]byte{typ, 0, 0, 0}, body...)
	sum := uint32(0)
	for i := range m {
		sum += uint32(m[i]) << (8 * (1 - i%2))
	}
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum>>16+sum&0xffff))
	return Bytes(Packet{EthSrc: MAC(from), EthDst: GroupMAC(dst), Src: Stations[from], Dst: dst, Proto: header.ProtoIGMP, TTL: 1, Payload: m})
}

func ip4(a string) []byte { return netip.MustParseAddr(a).AsSlice() }

// v3 is an IGMPv3 report of one record.
func v3(from, group string, kind byte, sources ...string) []byte {
	body := []byte{0, 0, 0, 1, kind, 0, 0, byte(len(sources))}
	body = append(body, ip4(group)...)
	for _, s := range sources {
		body = append(body, ip4(s)...)
	}
	return igmp(from, "224.0.0.22", 0x22, body)
}

// query is a general query of the host.
func query() []byte { return igmp("host1", "224.0.0.1", 0x11, []byte{0, 0, 0, 0}) }

func stream(from, group string) []byte {
	return Bytes(Packet{EthSrc: MAC(from), EthDst: GroupMAC(group), Src: Stations[from] + ":1000", Dst: group + ":2000", Proto: header.ProtoUDP, Payload: []byte("video")})
}

// reaches sends a frame and returns which of c1, c2, c3 and the host got it.
func reaches(l *Lab, from string, f []byte) string {
	l.T.Helper()
	l.Send(from, f)
	s := ""
	for _, at := range []string{"c1", "c2", "c3", "host1"} {
		if n := len(l.Got(at)); n == 1 {
			s += at + " "
		} else if n > 1 {
			l.T.Errorf("%s got it %d times", at, n)
		}
	}
	return s
}

func wantReach(l *Lab, what, from string, f []byte, want string) {
	l.T.Helper()
	if got := reaches(l, from, f); got != want {
		l.T.Errorf("%s: got to %q, want %q; %s", what, got, want, l.Drops())
	}
}

// Under a querier a group goes to the ports that reported it, and to the
// querier's; without one to all.
func TestL18IGMPSnooping(t *testing.T) {
	const group = "239.1.2.3"
	l := guarded(t)
	wantReach(l, "no querier", "c1", stream("c1", group), "c2 c3 host1 ")
	wantReach(l, "report without a querier", "c2", v3("c2", group, 4), "c1 c3 host1 ")
	wantReach(l, "a member, no querier", "c1", stream("c1", group), "c2 c3 host1 ")
	wantReach(l, "query", "host1", query(), "c1 c2 c3 ")
	wantReach(l, "member and querier", "c1", stream("c1", group), "c2 host1 ")
	wantReach(l, "report goes to the querier", "c3", igmp("c3", group, 0x16, ip4(group)), "host1 ")
	wantReach(l, "two members", "c1", stream("c1", group), "c2 c3 host1 ")
	wantReach(l, "another group", "c1", stream("c1", "239.9.9.9"), "c2 c3 host1 ")
	wantReach(l, "the other group of that MAC", "c1", stream("c1", "239.129.2.3"), "c2 c3 host1 ")
	for _, link := range []string{"224.0.0.1", "224.0.0.5", "224.0.0.251"} {
		wantReach(l, link, "c1", stream("c1", link), "c2 c3 host1 ")
	}
	wantReach(l, "report of a link-local group", "c2", v3("c2", "224.0.0.251", 4), "host1 ")
	wantReach(l, "a link-local group with a member", "c1", stream("c1", "224.0.0.251"), "c2 c3 host1 ")
	wantReach(l, "leave", "c2", igmp("c2", "224.0.0.2", 0x17, ip4(group)), "host1 ")
	wantReach(l, "just left", "c1", stream("c1", group), "c2 c3 host1 ")
	l.Advance(2 * time.Second)
	wantReach(l, "left", "c1", stream("c1", group), "c3 host1 ")
	wantReach(l, "leave that is taken back", "c3", v3("c3", group, 3), "host1 ")
	wantReach(l, "joined again", "c3", v3("c3", group, 4), "host1 ")
	l.Advance(2 * time.Second)
	wantReach(l, "stayed", "c1", stream("c1", group), "c3 host1 ")
	wantReach(l, "of some sources", "c2", v3("c2", group, 3, "10.1.0.11"), "host1 ")
	wantReach(l, "blocks one", "c2", v3("c2", group, 6, "10.1.0.13"), "host1 ")
	wantReach(l, "of some sources", "c1", stream("c1", group), "c2 c3 host1 ")
	l.Advance(253 * time.Second)
	wantReach(l, "the querier is silent for 257 s", "c1", stream("c1", group), "c2 c3 host1 ")
	wantReach(l, "query", "host1", query(), "c1 c2 c3 ")
	wantReach(l, "fresh membership", "c2", v3("c2", group, 2), "host1 ")
	l.Advance(5 * time.Second)
	wantReach(l, "c3 did not repeat itself for 260 s", "c1", stream("c1", group), "c2 host1 ")
	// A port that is removed is no member any more.
	if err := l.Switch.RemovePort(l.Port("c2")); err != nil {
		t.Fatal(err)
	}
	wantReach(l, "no member", "c1", stream("c1", group), "c3 host1 ")
}

// mld is an MLD message in a frame, behind a hop-by-hop header with the router
// alert option.
func mld(from, dst string, typ byte, body []byte) []byte {
	src := LinkLocal(MAC(from))
	p := append([]byte{header.ProtoICMPv6, 0, 5, 2, 0, 0, 1, 0}, ICMPv6(src, dst, typ, body)...)
	return V6(GroupMAC(dst), MAC(from), src, dst, 0, 1, p)
}

func mldv2(from, group string, kind byte) []byte {
	return mld(from, "ff02::16", header.MLDv2Report, append([]byte{0, 0, 0, 1, kind, 0, 0, 0}, netip.MustParseAddr(group).AsSlice()...))
}

func stream6(from, group string) []byte {
	return V6(GroupMAC(group), MAC(from), IPv6(from), group, header.ProtoUDP, 5, []byte{1, 1, 1, 2, 0, 8, 0, 0})
}

func TestL18MLDSnooping(t *testing.T) {
	const group = "ff0e::1234"
	l := guarded(t)
	general := make([]byte, 20)
	wantReach(l, "no querier", "c1", stream6("c1", group), "c2 c3 host1 ")
	wantReach(l, "query", "host1", mld("host1", "ff02::1", header.MLDQuery, general), "c1 c2 c3 ")
	wantReach(l, "MLDv2 report", "c2", mldv2("c2", group, 4), "host1 ")
	wantReach(l, "member and querier", "c1", stream6("c1", group), "c2 host1 ")
	wantReach(l, "MLDv1 report", "c3", mld("c3", group, header.MLDReport, append(make([]byte, 4), netip.MustParseAddr(group).AsSlice()...)), "host1 ")
	wantReach(l, "two members", "c1", stream6("c1", group), "c2 c3 host1 ")
	for _, link := range []string{"ff02::1", "ff02::fb", "ff02::1:ff00:9", "ff01::1"} {
		wantReach(l, link, "c1", stream6("c1", link), "c2 c3 host1 ")
	}
	wantReach(l, "done", "c2", mld("c2", "ff02::2", header.MLDDone, append(make([]byte, 4), netip.MustParseAddr(group).AsSlice()...)), "host1 ")
	l.Advance(2 * time.Second)
	wantReach(l, "left", "c1", stream6("c1", group), "c3 host1 ")
	wantReach(l, "IPv4 has no querier", "c1", stream("c1", "239.1.2.3"), "c2 c3 host1 ")
}

// Lengths that contradict each other are found before anything is read (OVS
// 0d5eece55).
func TestL18MalformedReports(t *testing.T) {
	group6 := netip.MustParseAddr("ff0e::1").AsSlice()
	for name, f := range map[string][]byte{
		"IGMPv3 without its record":       igmp("c2", "224.0.0.22", 0x22, []byte{0, 0, 0, 1}),
		"IGMPv3 with fewer records":       igmp("c2", "224.0.0.22", 0x22, append([]byte{0, 0, 0, 2, 4, 0, 0, 0}, ip4("239.1.1.1")...)),
		"IGMPv3 with fewer sources":       igmp("c2", "224.0.0.22", 0x22, append([]byte{0, 0, 0, 1, 1, 0, 0xff, 0xff}, ip4("239.1.1.1")...)),
		"IGMPv3 with less auxiliary data": igmp("c2", "224.0.0.22", 0x22, append([]byte{0, 0, 0, 1, 4, 255, 0, 0}, ip4("239.1.1.1")...)),
		"IGMPv2 of no group":              igmp("c2", "239.1.1.1", 0x16, ip4("10.1.0.13")),
		"IGMP of four bytes":              igmp("c2", "239.1.1.1", 0x16, nil),
		"query with fewer sources":        igmp("c2", "224.0.0.1", 0x11, append(ip4("239.1.1.1"), 0, 0, 0xff, 0xff)),
		"MLDv2 without its record":        mld("c2", "ff02::16", header.MLDv2Report, []byte{0, 0, 0, 1}),
		"MLDv2 with fewer sources":        mld("c2", "ff02::16", header.MLDv2Report, append([]byte{0, 0, 0, 1, 1, 0, 0, 200}, group6...)),
		"MLDv1 cut":                       mld("c2", "ff0e::1", header.MLDReport, append(make([]byte, 4), group6[:12]...)),
		"MLD query cut":                   mld("c2", "ff02::1", header.MLDQuery, make([]byte, 10)),
	} {
		t.Run(name, func(t *testing.T) {
			l := guarded(t)
			l.Send("c2", f)
			l.ExpectDrop("c2", dataplane.DropMalformedGroup, 1)
		})
	}
}

// There are 8192 memberships; the group of one that gave way is flooded. A report costs
// credit, so that the table cannot be kept busy.
func TestL18GroupTableIsBounded(t *testing.T) {
	l := guarded(t)
	wantReach(l, "query", "host1", query(), "c1 c2 c3 ")
	group := func(i int) string { return fmt.Sprintf("239.2.%d.%d", i>>8, i&0xff) }
	for i := range 8193 {
		l.Send("c2", v3("c2", group(i), 4))
		if len(l.Got("host1")) != 1 {
			t.Fatalf("report %d: %s", i, l.Drops())
		}
		l.Advance(time.Millisecond)
	}
	l.Advance(3 * time.Second)
	wantReach(l, "the first", "c1", stream("c1", group(0)), "c2 c3 host1 ")
	wantReach(l, "the second", "c1", stream("c1", group(1)), "c2 host1 ")
	wantReach(l, "the last", "c1", stream("c1", group(8192)), "c2 host1 ")
	for range 5000 {
		l.Send("c3", v3("c3", group(1), 4))
	}
	if got := len(l.Got("host1")); got != 2000 {
		t.Errorf("%d of 5000 reports at once were taken, want the burst of 2000", got)
	}
}

// A guarded container cannot draw the groups of others to itself as a querier.
func TestL18ContainersAreNoQueriers(t *testing.T) {
	l := guarded(t)
	wantReach(l, "member", "c3", v3("c3", "239.1.2.3", 4), "c1 c2 host1 ")
	wantReach(l, "query of a container", "c2", igmp("c2", "224.0.0.1", 0x11, make([]byte, 4)), "c1 c3 host1 ")
	wantReach(l, "still flooded", "c1", stream("c1", "239.1.2.3"), "c2 c3 host1 ")
	l.Configure("c2", func(p *dataplane.PortConfig) { p.Guarded = false })
	wantReach(l, "query of a router", "c2", igmp("c2", "224.0.0.1", 0x11, make([]byte, 4)), "c1 c3 host1 ")
	wantReach(l, "to members and the router", "c1", stream("c1", "239.1.2.3"), "c2 c3 ")
}

// Multicast to members is no flood: storm control lets it pass.
func TestL18StreamsToMembersAreNotLimited(t *testing.T) {
	l := guarded(t)
	reaches(l, "host1", query())
	reaches(l, "c2", v3("c2", "239.1.2.3", 4))
	for range 5000 {
		l.Send("c1", stream("c1", "239.1.2.3"))
	}
	if got := len(l.Got("c2")); got != 5000 {
		t.Errorf("%d of 5000 arrived; %s", got, l.Drops())
	}
}

// masses is an IGMPv3 report of the i-th hundred of groups.
func masses(from string, i int) []byte {
	const records = 100
	body := []byte{0, 0, 0, records}
	for g := range records {
		body = append(body, 4, 0, 0, 0, 239, 200, byte((i*records+g)>>8), byte(i*records+g))
	}
	return igmp(from, "224.0.0.22", 0x22, body)
}

// A container that joins groups in masses loses its own: others keep theirs and get new ones.
func TestGroupsHaveShares(t *testing.T) {
	l := guarded(t)
	wantReach(l, "query", "host1", query(), "c1 c2 c3 ")
	wantReach(l, "a member", "c2", v3("c2", "239.1.2.3", 4), "host1 ")
	for i := range 100 {
		l.Send("c1", masses("c1", i))
	}
	l.Got("host1")
	wantReach(l, "the member of before", "c3", stream("c3", "239.1.2.3"), "c2 host1 ")
	wantReach(l, "a new one", "c3", v3("c3", "239.1.2.4", 4), "host1 ")
	wantReach(l, "of another group", "c2", stream("c2", "239.1.2.4"), "c3 host1 ")
	_, list := l.Switch.Shares()
	for _, s := range list {
		u := s.Of[dataplane.SharedGroups]
		if most := s.Tenant == l.Port("c1"); most != (u.Gave > 1000 && u.Held > 8000) || !most && u.Held > 1 {
			t.Errorf("port %d: %+v", s.Tenant, u)
		}
	}
	l.Advance(300 * time.Second)
	for _, at := range []string{"c1", "c2", "c3"} {
		if got := memberships(l, at); got != 0 {
			t.Errorf("%s is in %d groups five minutes later", at, got)
		}
	}
}

// memberships is how many memberships a port has.
func memberships(l *Lab, at string) int {
	_, list := l.Switch.Shares()
	for _, s := range list {
		if s.Tenant == l.Port(at) {
			return s.Of[dataplane.SharedGroups].Held
		}
	}
	return 0
}
