package dataplane_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// tellingLab is a guarded world whose ports are interfaces, and its kernel.
func tellingLab(t *testing.T) (*Lab, *flowtest.Kernel) {
	t.Helper()
	var k *flowtest.Kernel
	l := NewCarried(t, 4096, func(cfg *dataplane.Config) func(uint32) *flowmap.Tally {
		k = flowtest.New(16, cfg.Clock.Load)
		cfg.Flows = flowtest.DescribeFlows(k, k.Rows, k.Ends)
		return k.Tally
	})
	for i := range l.Config.Ports {
		l.Config.Ports[i].Ifindex = ifindexOf(l.Config.Ports[i].ID)
	}
	l.Guard()
	l.Switch.TakeOver()
	return l, k
}

func ifindexOf(id frame.PortID) uint32 { return 100 + uint32(id) }

// asks sends a question through the switch, and returns what it answers itself.
func asks(l *Lab, from string, question []byte) (answer []byte) {
	l.T.Helper()
	l.Send(from, question)
	for _, f := range l.Got(from) {
		answer = f
	}
	for name := range Stations {
		l.Got(name)
	}
	return answer
}

// alone is the answer to the same when nobody is there.
func alone(k *flowtest.Kernel, l *Lab, from string, question []byte) []byte {
	at := flowtest.Cable
	if from[0] == 'h' {
		at = flowtest.Device
	}
	k.Nobody = true
	defer func() { k.Nobody = false }()
	m := k.Meet(at, ifindexOf(l.Port(from)), false, question, 0)
	if m.Sent != nil && m.Out != ifindexOf(l.Port(from)) {
		l.T.Errorf("an answer to %s leaves by interface %d", from, m.Out)
	}
	return m.Sent
}

// questions are all that the stations of a network may ask for.
func questions(from string) map[string][]byte {
	all := make(map[string][]byte)
	for _, at := range slices.Sorted(maps.Keys(Stations)) {
		all["ARP for "+at] = WhoHas(from, Stations[at])
		all["a probe of "+at] = ARP(MAC(at), MAC(from), 1, MAC(from), Stations[from], header.MAC{}, Stations[at])
		if Stations[from][:4] == "10.1" && Stations[at][:4] == "10.1" {
			all["ND for "+at] = Solicit(from, IPv6(at))
			all["ND without an option for "+at] = ND(header.MAC{0x33, 0x33, 0xff, 0, 0, 1}, MAC(from), IPv6(from), "ff02::1:ff00:1", header.ICMP6NeighborSolicit, IPv6(at), 0, header.MAC{})
		}
	}
	return all
}

// TestL10L11AnswersWhileNobodyIsThere: the programs answer what the stage does, with the same
// bytes, and nobody is told of more.
func TestL10L11AnswersWhileNobodyIsThere(t *testing.T) {
	isolate := func(l *Lab, names ...string) {
		for _, c := range names {
			l.Configure(c, func(p *dataplane.PortConfig) { p.Groups = []dataplane.GroupID{policy.Isolated} })
		}
	}
	deny := func(l *Lab, id dataplane.RuleID, from, to string) {
		l.Written = append(l.Written, dataplane.Rule{
			ID: id, Tier: dataplane.TierUser, Direction: dataplane.In, Deny: true, Reason: dataplane.DropIsolated,
			From: dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: l.Port(from)},
			To:   dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: l.Port(to)},
		})
	}
	for _, c := range []struct {
		name    string
		make    func(*Lab)
		answers int
	}{
		{"as it comes", func(*Lab) {}, 56},
		{"icc=false", func(l *Lab) { l.Policy[0].Isolated = true }, 32},
		{"two are isolated", func(l *Lab) { isolate(l, "c1", "c3") }, 48},
		{"all are isolated", func(l *Lab) { isolate(l, "c1", "c2", "c3") }, 32},
		{"a rule parts two, both ways", func(l *Lab) { deny(l, 71, "c1", "c2"); deny(l, 72, "c2", "c1") }, 48},
		{"a rule parts two, one way", func(l *Lab) { deny(l, 71, "c1", "c2") }, 56},
		{"no gateway of IPv4", func(l *Lab) {
			l.Policy[0].Modes[0] = policy.GatewayIsolated
			l.Config.Networks[0].Gateways = slices.DeleteFunc(slices.Clone(l.Config.Networks[0].Gateways), netip.Addr.Is4)
		}, 44},
		{"the host is not to be reached", func(l *Lab) { l.Policy[0].NoHostAccess = true }, 56},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, k := tellingLab(t)
			c.make(l)
			l.Install()
			answered := 0
			for _, from := range []string{"c1", "c2", "c3", "c4", "c5", "host1", "host2", "host3"} {
				for what, q := range questions(from) {
					got, want := alone(k, l, from, q), asks(l, from, q)
					if want == nil { // by unicast the station itself answers, while somebody is there
						want = asks(l, from, slices.Concat(header.Broadcast[:], q[6:]))
					}
					if got != nil {
						answered++
					}
					if !bytes.Equal(got, want) {
						t.Errorf("%s of %s: %s, want %s", what, from, Describe(got), Describe(want))
					}
				}
			}
			if answered != c.answers {
				t.Errorf("%d answers, want %d", answered, c.answers)
			}
		})
	}
}

// TestL10L11NobodyAnswersLies: nobody is told who asks with what is another's, or with nothing, and no
// port of which the kernel carries nothing.
func TestL10L11NobodyAnswersLies(t *testing.T) {
	l, k := tellingLab(t)
	tag := Tag(WhoHas("c1", "10.1.0.12"), 0x8100, 0)
	for what, q := range map[string][]byte{
		"another's MAC address": WhoHas("c2", "10.1.0.13"),
		"another's address":     ARP(header.Broadcast, MAC("c1"), 1, MAC("c1"), "10.1.0.13", header.MAC{}, "10.1.0.12"),
		"another's MAC within":  ARP(header.Broadcast, MAC("c1"), 1, MAC("c3"), "10.1.0.11", header.MAC{}, "10.1.0.12"),
		"no address":            ARP(header.Broadcast, MAC("c1"), 1, MAC("c1"), "0.0.0.0", header.MAC{}, "10.1.0.12"),
		"its own address":       WhoHas("c1", "10.1.0.11"),
		"another network's":     WhoHas("c1", "10.2.0.11"),
		"nobody's":              WhoHas("c1", "10.1.0.99"),
		"an answer":             ARP(header.Broadcast, MAC("c1"), 2, MAC("c1"), "10.1.0.11", header.MAC{}, "10.1.0.12"),
		"a probe of another":    ARP(MAC("c3"), MAC("c1"), 1, MAC("c1"), "10.1.0.11", header.MAC{}, "10.1.0.12"),
		"a tag":                 tag,
		"another's by ND":       ND(GroupMAC("ff02::1:ff00:12"), MAC("c1"), IPv6("c3"), "ff02::1:ff00:12", header.ICMP6NeighborSolicit, IPv6("c2"), 1, MAC("c1")),
		"no address by ND":      ND(GroupMAC("ff02::1:ff00:12"), MAC("c1"), "::", "ff02::1:ff00:12", header.ICMP6NeighborSolicit, IPv6("c2"), 0, header.MAC{}),
		"another's option":      ND(GroupMAC("ff02::1:ff00:12"), MAC("c1"), IPv6("c1"), "ff02::1:ff00:12", header.ICMP6NeighborSolicit, IPv6("c2"), 1, MAC("c3")),
	} {
		if got := alone(k, l, "c1", q); got != nil {
			t.Errorf("%s: %s", what, Describe(got))
		}
	}
	// Addresses of the link are told of, which the stage leaves to the station itself.
	for _, at := range []string{"c2", "host1"} {
		q := ND(GroupMAC("ff02::1:ff00:1"), MAC("c1"), LinkLocal(MAC("c1")), "ff02::1:ff00:1", header.ICMP6NeighborSolicit, LinkLocal(MAC(at)), 1, MAC("c1"))
		got := alone(k, l, "c1", q)
		var ls header.Layers
		var n header.Neighbor
		if got == nil || !header.Parse(got, &ls) || !header.ReadNeighbor(got, &ls, &n) || n.LinkAddr != MAC(at) {
			t.Errorf("the link's address of %s: %s", at, Describe(got))
		} else {
			CheckSums(t, got)
		}
	}
	for what, change := range map[string]func(*dataplane.PortConfig){
		"without a guard": func(p *dataplane.PortConfig) { p.Guarded = false },
		"in a VLAN":       func(p *dataplane.PortConfig) { p.VLAN = 5 },
		"a trunk":         func(p *dataplane.PortConfig) { p.Trunk = []dataplane.VLANRange{{First: 7, Last: 8}} },
	} {
		l, k := tellingLab(t)
		if alone(k, l, "c1", WhoHas("c1", "10.1.0.12")) == nil {
			t.Fatal("no answer before")
		}
		l.Configure("c1", change)
		if got := alone(k, l, "c1", WhoHas("c1", "10.1.0.12")); got != nil {
			t.Errorf("%s: %s", what, Describe(got))
		}
	}
}

// TestMoreClassesThanThereIsRoomFor: who finds no class of its own is told of the gateway alone.
func TestMoreClassesThanThereIsRoomFor(t *testing.T) {
	l, k := tellingLab(t)
	var names []string
	for n := range 70 {
		id, mac := frame.PortID(500+n), header.MAC{2, 0, 0, 0, 1, byte(100 + n)}
		l.AddPort(id, porttest.New(fmt.Sprint("more", n)))
		l.Config.Ports = append(l.Config.Ports, dataplane.PortConfig{ID: id, Network: 1, MAC: mac, Guarded: true, Ifindex: ifindexOf(id), Groups: []dataplane.GroupID{dataplane.GroupID(n + 9)}})
		l.Config.Stations = append(l.Config.Stations, dataplane.StationConfig{Addr: netip.AddrFrom4([4]byte{10, 1, 0, byte(100 + n)}), Network: 1, MAC: mac, Port: id})
		names = append(names, fmt.Sprint("more", n))
	}
	l.Written = append(l.Written, dataplane.Rule{
		ID: 71, Tier: dataplane.TierUser, Direction: dataplane.In, Deny: true, Reason: dataplane.DropIsolated,
		From: dataplane.Selector{Sides: dataplane.SideContainer, Network: 1, Group: 9}, To: dataplane.Selector{Sides: dataplane.SideContainer, Network: 1, Group: 10},
	})
	l.Install()
	told := 0
	k.Nobody = true
	for n := range names {
		from, mac := fmt.Sprintf("10.1.0.%d", 100+n), header.MAC{2, 0, 0, 0, 1, byte(100 + n)}
		ask := func(target string) bool {
			m := k.Meet(flowtest.Cable, ifindexOf(frame.PortID(500+n)), false, ARP(header.Broadcast, mac, 1, mac, from, header.MAC{}, target), 0)
			return m.Sent != nil
		}
		if !ask("10.1.0.1") {
			t.Errorf("%s is not told of the gateway", from)
		}
		if ask("10.1.0.13") {
			told++
		}
	}
	if told == 0 || told == len(names) || told >= flowmap.Classes {
		t.Errorf("%d of %d are told of a neighbour, want as many as there are classes", told, len(names))
	}
}

// TestToldByTheNext: what a process before has told stays until the next one has all again, and is
// forgotten then where it is no more.
func TestToldByTheNext(t *testing.T) {
	l, k := tellingLab(t)
	q := WhoHas("c1", "10.1.0.12")
	gone := flowmap.StationKey{Network: 9, Addr: header.Addr{1}}
	k.Told.At[gone] = flowmap.Station{Port: 3}
	k.Told.Askers[999] = flowmap.Asker{Network: 9}
	ports := l.Config.Ports
	l.Config.Ports = slices.DeleteFunc(slices.Clone(ports), func(p dataplane.PortConfig) bool { return p.ID == l.Port("c2") })
	stations := l.Config.Stations
	l.Config.Stations = slices.DeleteFunc(slices.Clone(stations), func(s dataplane.StationConfig) bool { return s.Port == l.Port("c2") })
	l.Restart(k) // c2 is not there again yet
	if alone(k, l, "c1", q) == nil || k.Told.Askers[999].Network != 9 {
		t.Error("the next process has made the programs forget before it had all")
	}
	l.Config.Ports, l.Config.Stations = ports, stations
	l.Install()
	l.Switch.TakeOver()
	if _, ok := k.Told.At[gone]; ok || len(k.Told.Askers) != 8 || alone(k, l, "c1", q) == nil {
		t.Errorf("%d askers; a station that is no more is told of: %v", len(k.Told.Askers), ok)
	}
	l.Config.Ports = slices.DeleteFunc(slices.Clone(ports), func(p dataplane.PortConfig) bool { return p.ID == l.Port("c2") })
	l.Config.Stations = slices.DeleteFunc(slices.Clone(stations), func(s dataplane.StationConfig) bool { return s.Port == l.Port("c2") })
	l.Install()
	if alone(k, l, "c1", q) != nil || len(k.Told.Askers) != 7 {
		t.Error("a container that has gone is told of")
	}
}
