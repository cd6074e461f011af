package dataplane_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// stationLab is a guarded world of both families whose kernel's side is there.
type stationLab struct {
	*Lab
	k *flowtest.Kernel
}

func newStationLab(t *testing.T) *stationLab {
	t.Helper()
	l, k := NewWithKernel(t, 4096, 64)
	l.DualStack()
	l.Install()
	s := &stationLab{l, k}
	s.settle()
	return s
}

// settle lets rows become active.
func (l *stationLab) settle() {
	for range 3 {
		l.Tock(2 * time.Millisecond)
		l.Switch.StepFlows()
	}
}

// meet gives a frame to the programs, and to the switch if it is for that. It returns where the
// programs have carried it: the number of a port, -1: nowhere.
func (l *stationLab) meet(from string, b []byte) int {
	l.T.Helper()
	at := flowtest.Cable
	if from == "host1" {
		at = flowtest.Device
	}
	m := l.k.Meet(at, l.Ifindex(l.Port(from)), false, b, 0)
	if m.Switch {
		l.Send(from, b)
		a := l.k.Tally(l.Ifindex(l.Port(from)))
		a.Taken = a.In
	}
	if m.Out == 0 {
		return -1
	}
	return Number(int(m.Out))
}

// toStation is a frame of a connection from a container to another.
func toStation(from, to string, v6 bool, p Packet) []byte {
	f := Families[0]
	if v6 {
		f = Families[1]
	}
	p.EthSrc, p.EthDst = MAC(from), MAC(to)
	if p.Src == "" {
		p.Src = f.At(from, 40000)
	}
	if p.Dst == "" {
		p.Dst = f.At(to, 80)
	}
	if p.Proto == 0 {
		p.Proto = header.ProtoTCP
	}
	return Bytes(p)
}

// meetPrograms gives a frame to the programs alone.
func (l *stationLab) meetPrograms(from string, b []byte) int {
	l.T.Helper()
	a := l.k.Tally(l.Ifindex(l.Port(from)))
	m := l.k.Meet(flowtest.Cable, l.Ifindex(l.Port(from)), false, b, 0)
	if a.Taken = a.In; m.Out == 0 {
		return -1
	}
	return Number(int(m.Out))
}

func (l *stationLab) flows() (list []conntrack.Info) {
	page := make([]conntrack.Info, dataplane.BridgedPage)
	for place := uint32(0); ; {
		n, next := l.Switch.ReadBridged(page, place)
		list = append(list, page[:n]...)
		if place = next; place == 0 {
			return conntrack.MergeParts(list)
		}
	}
}

// TestL01StationsFromTheFirstFrame: what stations of a network send each other is carried from the
// first frame on, told as a flow once, and counted at both ports.
func TestL01StationsFromTheFirstFrame(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
			t.Run(fmt.Sprintf("IPv6 %v, protocol %d", v6, proto), func(t *testing.T) {
				l := newStationLab(t)
				c1, c2 := int(l.Port("c1")), int(l.Port("c2"))
				was := l.ports()
				family := Families[map[bool]int{true: 1}[v6]]
				there := toStation("c1", "c2", v6, Packet{Flags: SYN, Proto: proto})
				back := toStation("c2", "c1", v6, Packet{Flags: ACK, Proto: proto, Payload: []byte("payload"), Src: family.At("c2", 80), Dst: family.At("c1", 40000)})
				if out := l.meet("c1", there); out != c2 {
					t.Fatalf("the first frame leaves by %d, want %d", out, c2)
				}
				for range 3 {
					if out := l.meet("c2", back); out != c1 {
						t.Fatalf("an answer leaves by %d, want %d", out, c1)
					}
				}
				flows := l.flows()
				if len(flows) != 1 {
					t.Fatalf("%d flows: %+v", len(flows), flows)
				}
				f := flows[0]
				if f.Port != l.Port("c1") || f.Other != l.Port("c2") || f.Orig.DstPort != 80 || f.Packets != [2]uint64{1, 3} ||
					f.Bytes != [2]uint64{uint64(len(there)), 3 * uint64(len(back))} {
					t.Errorf("%+v", f)
				}
				now := l.ports()
				for id, want := range map[frame.PortID][4]uint64{
					l.Port("c1"): {1, uint64(len(there)), 3, 3 * uint64(len(back))}, l.Port("c2"): {3, 3 * uint64(len(back)), 1, uint64(len(there))},
				} {
					for i := range want {
						if got := now[id][i] - was[id][i]; got != want[i] {
							t.Errorf("port %d, counter %d: %d, want %d", id, i, got, want[i])
						}
					}
				}
				if st := l.Switch.Stats().Flows; st.Frames != 4 || st.Between != 1 || st.Untold != 0 {
					t.Errorf("%+v", st)
				}
			})
		}
	}
}

func (l *stationLab) ports() map[frame.PortID][4]uint64 {
	all := make(map[frame.PortID][4]uint64)
	for _, p := range l.Switch.Stats().Ports {
		all[p.ID] = [4]uint64{p.Rx, p.RxBytes, p.Tx, p.TxBytes}
	}
	return all
}

// TestL01StationsEcho: echoes between stations, and with the host, are carried and told by their identifier.
func TestL01StationsEcho(t *testing.T) {
	for _, f := range Families {
		t.Run(f.Name, func(t *testing.T) {
			l := newStationLab(t)
			asks, answers := uint8(8), uint8(0)
			v6 := f.ICMP == header.ProtoICMPv6
			if v6 {
				asks, answers = 128, 129
			}
			echo := func(from, to string, kind uint8) int {
				return l.meet(from, toStation(from, to, v6, Packet{Proto: f.ICMP, Type: kind, ID: 77, Src: f.Addr(from), Dst: f.Addr(to)}))
			}
			if out := echo("c1", "c2", asks); out != int(l.Port("c2")) {
				t.Errorf("an echo leaves by %d", out)
			}
			if out := echo("c2", "c1", answers); out != int(l.Port("c1")) {
				t.Errorf("its answer leaves by %d", out)
			}
			if echo("host1", "c1", asks) < 0 || echo("c1", "host1", answers) < 0 {
				t.Error("what the host asks is not carried")
			}
			flows := l.flows()
			if len(flows) != 2 || !slices.ContainsFunc(flows, func(i conntrack.Info) bool {
				return i.Port == l.Port("c1") && i.Other == l.Port("c2") && i.Packets == [2]uint64{1, 1} && i.Orig.SrcPort == 77 && i.Orig.Proto == f.ICMP
			}) {
				t.Errorf("%+v", flows)
			}
			for kind := range 255 {
				if kind := uint8(kind); kind != asks && kind != answers && echo("c1", "c2", kind) >= 0 {
					t.Errorf("a message of type %d is carried", kind)
				}
			}
		})
	}
}

// TestL12StationsLeaveOddFrames: what the rows do not speak for is the switch's.
func TestL12StationsLeaveOddFrames(t *testing.T) {
	l := newStationLab(t)
	cut := toStation("c1", "c2", false, Packet{Flags: ACK})
	cut[20] = 0x20 // more fragments
	long := toStation("c1", "c2", false, Packet{Flags: ACK, Payload: make([]byte, 1500)})
	for what, f := range map[string][]byte{
		"another's MAC address":        toStation("c3", "c2", false, Packet{Flags: SYN, Src: "10.1.0.11:40000"}),
		"another's address":            toStation("c1", "c2", false, Packet{Flags: SYN, Src: "10.1.0.13:40000"}),
		"an address of nobody":         toStation("c1", "c2", false, Packet{Flags: SYN, Dst: "10.1.0.99:80"}),
		"the address of another":       toStation("c1", "c2", false, Packet{Flags: SYN, Dst: "10.1.0.13:80"}),
		"a network's other":            toStation("c1", "c4", false, Packet{Flags: SYN}),
		"itself":                       toStation("c1", "c1", false, Packet{Flags: SYN}),
		"a fragment":                   cut,
		"larger than the MTU":          long,
		"an offer of DHCP":             toStation("c1", "c2", false, Packet{Proto: header.ProtoUDP, Src: "10.1.0.11:67", Dst: "10.1.0.12:68"}),
		"a question of DHCP":           toStation("c1", "c2", false, Packet{Proto: header.ProtoUDP, Src: "10.1.0.11:68", Dst: "10.1.0.12:67"}),
		"a protocol without ports":     toStation("c1", "c2", false, Packet{Proto: 50}),
		"a tag":                        Tag(toStation("c1", "c2", false, Packet{Flags: SYN}), 0x8100, 5),
		"a link-local address of IPv6": toStation("c1", "c2", true, Packet{Flags: SYN, Src: "[" + LinkLocal(MAC("c1")) + "]:40000"}),
	} {
		if out := l.meet("c1", f); out >= 0 {
			t.Errorf("%s leaves by %d", what, out)
		}
	}
	if got := len(l.k.Residents.Flows); got != 0 {
		t.Errorf("%d flows are counted", got)
	}
}

// TestL01StationsKeepOrder: what the switch got before the rows were active is done with before the
// programs carry what comes after it, in each flow of the sender.
func TestL01StationsKeepOrder(t *testing.T) {
	l, k := NewWithKernel(t, 4096, 64)
	s := &stationLab{l, k}
	a := k.Tally(l.Ifindex(l.Port("c1")))
	syn := toStation("c1", "c2", false, Packet{Flags: SYN})
	send := func() bool {
		return k.Meet(flowtest.Cable, l.Ifindex(l.Port("c1")), false, syn, 0).Switch
	}
	if !send() {
		t.Fatal("a row that is new carries")
	}
	s.settle()
	if !send() || a.In != 2 {
		t.Fatalf("a frame overtakes one that was let through before, %d in", a.In)
	}
	a.Taken = 1
	s.settle()
	if !send() {
		t.Error("a frame overtakes one that was let through while the row was pending")
	}
	s.settle()
	a.Taken = 3
	if send() {
		t.Error("it is not carried though nothing is under way")
	}
	l.Configure("c1", func(p *dataplane.PortConfig) { p.Queued = true })
	l.Install()
	a.In++ // of another flow, at this moment
	if !send() {
		t.Error("a row that has changed carries at once")
	}
	s.settle()
	if a.Taken = a.In - 1; !send() {
		t.Error("a frame overtakes one of the change")
	}
	a.Taken = a.In
	s.settle()
	if send() {
		t.Error("it is not carried in the end")
	}
}

// TestL01StationsLostFrame: a frame that the ring had no room for is not waited for.
func TestL01StationsLostFrame(t *testing.T) {
	l := newStationLab(t)
	f := toStation("c1", "c2", false, Packet{Flags: ACK, Payload: make([]byte, 1500)})
	l.k.Meet(flowtest.Cable, l.Ifindex(l.Port("c1")), false, f, 0)
	syn := toStation("c1", "c2", false, Packet{Flags: SYN})
	if out := l.meet("c1", syn); out >= 0 {
		t.Error("it overtakes")
	}
	if out := l.meet("c1", syn); out < 0 {
		t.Error("it is not carried in the end")
	}
}

// TestL05StationsAskAgain: a change is asked for by its own call: when that has returned, the
// programs carry nothing that a capture wants, a row of policy keeps, or a tagged port sends, and
// they do again when it is taken back.
func TestL05StationsAskAgain(t *testing.T) {
	l := newStationLab(t)
	syn := toStation("c1", "c2", false, Packet{Flags: SYN})
	carried := func(want bool, what string) {
		t.Helper()
		if got := l.meet("c1", syn) >= 0; got && !want {
			t.Errorf("%s: the frame is carried", what)
		}
		l.settle()
		if got := l.meet("c1", syn) >= 0; got != want {
			t.Errorf("%s: carried %v, want %v", what, got, want)
		}
	}
	carried(true, "as it comes")
	for _, at := range []string{"c1", "c2"} {
		q, err := l.Switch.OpenCapture(dataplane.CaptureConfig{Ports: []frame.PortID{l.Port(at)}})
		if err != nil {
			t.Fatal(err)
		}
		carried(false, "captured at "+at)
		l.Switch.SetCapturePorts(q.ID, []frame.PortID{l.Port("c3")})
		carried(true, "captured elsewhere")
		l.Switch.EndCapture(q.ID)
		carried(true, "not captured any more")
	}
	ports := l.Config.Ports
	for what, change := range map[string]func(*dataplane.PortConfig){
		"a VLAN":   func(p *dataplane.PortConfig) { p.VLAN = 5 },
		"a trunk":  func(p *dataplane.PortConfig) { p.Trunk = []dataplane.VLANRange{{First: 1, Last: 9}} },
		"no guard": func(p *dataplane.PortConfig) { p.Guarded = false },
		"isolated": func(p *dataplane.PortConfig) { p.Groups = []dataplane.GroupID{policy.Isolated} },
	} {
		l.Config.Ports = append([]dataplane.PortConfig(nil), ports...)
		l.Configure("c1", change)
		l.Configure("c2", change)
		l.Install()
		carried(false, what)
		l.Config.Ports = ports
		l.Install()
		carried(true, "not "+what+" any more")
	}
	l.Unplug("c2")
	carried(false, "unplugged")
	l.Plug("c2")
	carried(true, "plugged in again")
	if st := l.Switch.Stats().Flows; st.Stations == 0 {
		t.Errorf("%+v", st)
	}
}

// TestStationsWaitForTheirOwn: a station that has more under way than its turns take keeps no row of
// others pending; its own frames wait until those are done with.
func TestStationsWaitForTheirOwn(t *testing.T) {
	l := newStationLab(t)
	flood := l.k.Tally(l.Ifindex(l.Port("c3")))
	flood.In += 1000
	l.Configure("c2", func(p *dataplane.PortConfig) { p.Queued = true })
	l.Install()
	for range 20 {
		l.settle()
	}
	if out := l.meet("c1", toStation("c1", "c2", false, Packet{Flags: SYN})); out < 0 {
		t.Error("the flood of one station keeps the row of another pending")
	}
	flow := toStation("c3", "c2", false, Packet{Flags: SYN})
	if m := l.k.Meet(flowtest.Cable, l.Ifindex(l.Port("c3")), false, flow, 0); !m.Switch {
		t.Error("a frame overtakes those of its own port that are under way")
	}
	flood.Taken = flood.In
	l.settle()
	if out := l.meet("c3", flow); out < 0 {
		t.Error("it is not carried when they are done with")
	}
}
