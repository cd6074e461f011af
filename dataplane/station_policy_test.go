package dataplane_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestL10StationsPolicy: the programs carry between two stations what the stages pass as it is, and
// nothing where a row parts the two, tells ports apart or who begins.
func TestL10StationsPolicy(t *testing.T) {
	isolate := func(l *stationLab, names ...string) {
		for _, c := range names {
			l.Configure(c, func(p *dataplane.PortConfig) { p.Groups = []dataplane.GroupID{policy.Isolated} })
		}
	}
	deny := func(l *stationLab, id dataplane.RuleID, from, to string, change func(*dataplane.Rule)) {
		r := dataplane.Rule{
			ID: id, Tier: dataplane.TierUser, Direction: dataplane.In, Deny: true, Reason: dataplane.DropIsolated,
			From: dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: l.Port(from)},
			To:   dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: l.Port(to)},
		}
		if change != nil {
			change(&r)
		}
		l.Written = append(l.Written, r)
	}
	for _, c := range []struct {
		name    string
		make    func(*stationLab)
		carried int // of the six pairs, by both families and protocols
	}{
		{"as it comes", func(*stationLab) {}, 24},
		{"icc=false", func(l *stationLab) { l.Policy[0].Isolated = true }, 0},
		{"two are isolated", func(l *stationLab) { isolate(l, "c1", "c3") }, 16},
		{"all are isolated", func(l *stationLab) { isolate(l, "c1", "c2", "c3") }, 0},
		{"a rule parts two, both ways", func(l *stationLab) { deny(l, 71, "c1", "c2", nil); deny(l, 72, "c2", "c1", nil) }, 16},
		{"a rule parts two, one way", func(l *stationLab) { deny(l, 71, "c1", "c2", nil) }, 16},
		{"a rule names a port", func(l *stationLab) {
			deny(l, 71, "c1", "c2", func(r *dataplane.Rule) {
				r.Proto, r.Ports = header.ProtoTCP, conntrack.PortRange{First: 80, Last: 80}
			})
		}, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newStationLab(t)
			c.make(l)
			l.Install()
			l.settle()
			carried := 0
			names := []string{"c1", "c2", "c3"}
			for n := range 36 {
				from, to, v6, proto := names[n%3], names[n/3%3], n/9%2 == 1, []uint8{header.ProtoTCP, header.ProtoUDP}[n/18]
				if from == to {
					continue
				}
				f := toStation(from, to, v6, Packet{Flags: SYN, Proto: proto})
				out := l.meetPrograms(from, f)
				l.Send(from, f)
				got := l.Got(to)
				if out < 0 {
					continue
				}
				carried++
				if out != int(l.Port(to)) || len(got) != 1 || !bytes.Equal(got[0], f) {
					t.Errorf("%s to %s, IPv6 %v, protocol %d: carried to %d, the stages pass %d", from, to, v6, proto, out, len(got))
				}
			}
			if carried != c.carried {
				t.Errorf("%d frames are carried, want %d", carried, c.carried)
			}
		})
	}
}

// TestStationFlowsWithoutRoom: where the table of flows is full, frames are carried and counted at
// both ports, and it is told how many no flow tells of.
func TestStationFlowsWithoutRoom(t *testing.T) {
	l := newStationLab(t)
	l.k.Residents.MaxFlows = 2
	was := l.ports()
	f := toStation("c1", "c2", false, Packet{Flags: SYN})
	for n := range 5 {
		if out := l.meet("c1", toStation("c1", "c2", false, Packet{Flags: SYN, Src: fmt.Sprintf("10.1.0.11:%d", 40000+n)})); out < 0 {
			t.Error("it is not carried")
		}
	}
	now := l.ports()
	if rx, tx := now[l.Port("c1")][0]-was[l.Port("c1")][0], now[l.Port("c2")][3]-was[l.Port("c2")][3]; rx != 5 || tx != 5*uint64(len(f)) {
		t.Errorf("%d frames in, %d bytes out", rx, tx)
	}
	if st := l.Switch.Stats().Flows; st.Between != 2 || st.Untold != 3 || st.Frames != 5 {
		t.Errorf("%+v", st)
	}
	l.Advance(61 * time.Second) // silent flows make room
	if len(l.k.Residents.Flows) != 0 || len(l.flows()) != 0 {
		t.Errorf("%d flows are left", len(l.k.Residents.Flows))
	}
}

// TestStationFlowsHaveShares: who begins flows in masses leaves half of the table to others, and
// all of them are carried.
func TestStationFlowsHaveShares(t *testing.T) {
	l := newStationLab(t)
	for n := range flowmap.MaxStationFlows - 1 {
		f := toStation("c1", "c2", false, Packet{Proto: header.ProtoUDP, Src: fmt.Sprintf("10.1.0.11:%d", n+1), Dst: "10.1.0.12:9"})
		if out := l.meetPrograms("c1", f); out < 0 {
			t.Fatalf("the %d. is not carried", n)
		}
		if n%8192 == 0 {
			l.Switch.Stats() // reads the table
		}
	}
	if st := l.Switch.Stats().Flows; st.Between > flowmap.MaxStationFlows/2+1 || st.Between < flowmap.MaxStationFlows/4 {
		t.Errorf("one station has %d flows of %d", st.Between, flowmap.MaxStationFlows)
	}
	untold := l.Switch.Stats().Flows.Untold
	l.meet("c3", toStation("c3", "c2", false, Packet{Flags: SYN}))
	if st := l.Switch.Stats().Flows; st.Untold != untold {
		t.Error("the flow of another is not told")
	}
}

// TestStationFlowsAreGivenBack: stations that fill the table between two looks at it give to others what
// was silent for longest, and say so.
func TestStationFlowsAreGivenBack(t *testing.T) {
	l := newStationLab(t)
	flow := func(from, to string, n int) []byte {
		return toStation(from, to, false, Packet{Proto: header.ProtoUDP, Src: fmt.Sprintf("%s:%d", Stations[from], n+1), Dst: Stations[to] + ":9"})
	}
	for n := range flowmap.MaxStationFlows - 1 {
		from := []string{"c1", "c2"}[n%2]
		if out := l.meetPrograms(from, flow(from, "c3", n)); out < 0 {
			t.Fatalf("the %d. is not carried", n)
		}
	}
	l.Switch.Stats() // reads the table
	untold := l.Switch.Stats().Flows.Untold
	for n := range 1000 {
		l.meetPrograms("c3", flow("c3", "c2", n))
	}
	st := l.Switch.Stats().Flows
	if st.Untold != untold {
		t.Errorf("%d frames of a third station are not told", st.Untold-untold)
	}
	_, list := l.Switch.Shares()
	for _, s := range list {
		switch u := s.Of[dataplane.SharedTold]; s.Tenant {
		case l.Port("c1"), l.Port("c2"):
			if u.Held > flowmap.MaxStationFlows/2-flowmap.MaxStationFlows/40 || u.Gave == 0 {
				t.Errorf("port %d has %+v", s.Tenant, u)
			}
		case l.Port("c3"):
			if u.Held != 1000 || u.Gave != 0 {
				t.Errorf("the third has %+v", u)
			}
		}
	}
}

// TestF01StationsTakenOver: rows, and the flows that they count, are the next process's. Until it has
// asked them they stay, and while nobody is there connections begin by them.
func TestF01StationsTakenOver(t *testing.T) {
	l := newStationLab(t)
	f := toStation("c1", "c2", false, Packet{Flags: SYN})
	l.meet("c1", f)
	generation := l.k.Residents.At[l.Port("c1")].Generation
	l.k.Nobody = true
	if l.meet("c1", f) < 0 || l.meet("c3", toStation("c3", "c1", true, Packet{Flags: SYN})) < 0 {
		t.Error("while nobody is there it is not carried")
	}
	l.k.Nobody = false
	l.k.Residents.At[l.Port("c1")].LastIn = 9 // of a tally that ended with the process
	l.k.Residents.At[l.Port("c2")].State = flowmap.Pending
	l.Restart(l.k)
	if l.meet("c1", f) < 0 {
		t.Error("before all is restored it is not carried")
	}
	l.Switch.TakeOver()
	if l.meet("c1", f) < 0 || l.k.Residents.At[l.Port("c1")].Generation != generation {
		t.Error("a row whose answer is the same is another one")
	}
	flows := l.flows()
	if len(flows) != 2 || !slices.ContainsFunc(flows, func(i conntrack.Info) bool { return i.Packets == [2]uint64{4, 0} }) {
		t.Errorf("%+v", flows)
	}
	l.Config.Stations = slices.DeleteFunc(slices.Clone(l.Config.Stations), func(s dataplane.StationConfig) bool { return s.Port == l.Port("c2") })
	l.Restart(l.k)
	l.Switch.TakeOver()
	if l.meet("c1", f) >= 0 {
		t.Error("it is carried to a station that is none any more")
	}
	if r := &l.k.Residents.At[l.Port("c2")]; r.State != flowmap.Off {
		t.Errorf("its row has state %d", r.State)
	}
}
