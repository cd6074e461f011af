package dataplane_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/flowmap"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// hostTalk is a connection between a port of the host and one of c1.
type hostTalk struct {
	*stationLab
	v6         bool
	proto      uint8
	host, port uint16 // the host's, the container's
}

func (l *stationLab) hostTalk(v6 bool, proto uint8, host, port uint16) *hostTalk {
	return &hostTalk{l, v6, proto, host, port}
}

// down is what the host sends, up what c1 does.
func (h *hostTalk) down(flags uint8) int {
	f := Families[map[bool]int{true: 1}[h.v6]]
	return h.meet("host1", toStation("host1", "c1", h.v6, Packet{Proto: h.proto, Flags: flags, Src: f.At("host1", h.host), Dst: f.At("c1", h.port)}))
}

func (h *hostTalk) up(flags uint8) int {
	f := Families[map[bool]int{true: 1}[h.v6]]
	return h.meet("c1", toStation("c1", "host1", h.v6, Packet{Proto: h.proto, Flags: flags, Src: f.At("c1", h.port), Dst: f.At("host1", h.host)}))
}

// TestL01HostFromTheFirstFrame: what the host and a container send each other is carried from the
// host's first frame on, told as one flow and counted at both ports.
func TestL01HostFromTheFirstFrame(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, proto := range []uint8{header.ProtoTCP, header.ProtoUDP} {
			t.Run(fmt.Sprintf("IPv6 %v, protocol %d", v6, proto), func(t *testing.T) {
				l := newStationLab(t)
				c1, host := int(l.Port("c1")), int(l.Port("host1"))
				was := l.ports()
				h := l.hostTalk(v6, proto, 40000, 80)
				if out := h.down(SYN); out != c1 {
					t.Fatalf("the first frame leaves by %d, want %d", out, c1)
				}
				for _, flags := range []uint8{SYN | ACK, ACK, FIN | ACK} {
					if out := h.up(flags); out != host {
						t.Fatalf("an answer leaves by %d, want %d", out, host)
					}
				}
				if h.down(FIN|ACK) != c1 || h.up(ACK) != host {
					t.Error("the end is not carried")
				}
				flows := l.flows()
				if len(flows) != 1 || flows[0].Port != l.Port("host1") || flows[0].Other != l.Port("c1") || flows[0].Orig.DstPort != 80 || flows[0].Packets != [2]uint64{2, 4} {
					t.Fatalf("%+v", flows)
				}
				now := l.ports()
				for id, want := range map[frame.PortID][2]uint64{l.Port("c1"): {4, 2}, l.Port("host1"): {2, 4}} {
					if got := [2]uint64{now[id][0] - was[id][0], now[id][2] - was[id][2]}; got != want {
						t.Errorf("port %d: %v frames in and out, want %v", id, got, want)
					}
				}
			})
		}
	}
}

// TestL01HostAnswersAreCarried: of what a container begins with the host, all is carried that comes after
// the host's first answer, and it is the container's flow.
func TestL01HostAnswersAreCarried(t *testing.T) {
	l := newStationLab(t)
	h := l.hostTalk(false, header.ProtoTCP, 22, 40000)
	if out := h.up(SYN); out >= 0 || len(l.Got("host1")) != 1 {
		t.Fatalf("the host has spoken nowhere, and its SYN leaves by %d", out)
	}
	if h.down(SYN|ACK) < 0 || h.up(ACK) < 0 || h.down(ACK) < 0 {
		t.Error("it is not carried")
	}
	if flows := l.flows(); len(flows) != 1 || flows[0].Port != l.Port("c1") || flows[0].Orig.DstPort != 22 || flows[0].Packets != [2]uint64{2, 2} {
		t.Errorf("%+v", flows)
	}
}

// TestL12HostLeavesToTheStages: what only the stages can tell is theirs.
func TestL12HostLeavesToTheStages(t *testing.T) {
	l := newStationLab(t)
	h := l.hostTalk(false, header.ProtoUDP, 8080, 5000)
	if h.down(0) < 0 || h.up(0) < 0 {
		t.Error("an answer is not carried")
	}
	l.k.Published.Set(flowmap.WildcardSlot, header.ProtoUDP, 8080)
	l.Publish(8080, "c2", 80)
	l.settle()
	if out := h.up(0); out >= 0 || len(l.Got("c2")) != 1 {
		t.Errorf("a port that is published at every address is the host's, %d", out)
	}
	at := netip.MustParseAddr(Stations["host1"])
	l.Config.Publish[len(l.Config.Publish)-1].HostAddr = header.AddrFrom(at)
	l.Config.Publish[len(l.Config.Publish)-1].HostFirst, l.Config.Publish[len(l.Config.Publish)-1].HostLast = 9000, 9000
	l.Install()
	l.settle()
	if h := l.hostTalk(false, header.ProtoTCP, 40000, 80); h.down(SYN) >= 0 {
		t.Error("an address that has a published port of its own is carried to")
	}
	if h := l.hostTalk(true, header.ProtoTCP, 40000, 80); h.down(SYN) < 0 {
		t.Error("the other family is not carried")
	}
	syn := toStation("host1", "c1", true, Packet{Flags: SYN, Src: Families[1].At(Families[1].Host, 40000)})
	if out := l.meet("host1", syn); out >= 0 {
		t.Errorf("another address of the host leaves by %d", out)
	}
	for range 2 {
		h := l.hostTalk(true, header.ProtoTCP, 40001, 80)
		h.down(SYN)
		h.up(RST | ACK)
		if h.up(SYN) >= 0 {
			t.Error("a connection that is over is opened by its answerer")
		}
		if h.down(SYN) < 0 || h.up(SYN|ACK) < 0 {
			t.Error("its ports cannot be used again")
		}
	}
}

// TestL10HostPolicy: the host reaches stations that are kept from each other, and nothing is carried
// where policy parts it from them.
func TestL10HostPolicy(t *testing.T) {
	for _, c := range []struct {
		name    string
		make    func(*stationLab)
		carried bool
	}{
		{"icc=false", func(l *stationLab) { l.Policy[0].Isolated = true }, true},
		{"isolated", func(l *stationLab) {
			l.Configure("c1", func(p *dataplane.PortConfig) { p.Groups = []dataplane.GroupID{policy.Isolated} })
		}, true},
		{"a rule about a port of another", func(l *stationLab) {
			l.Written = append(l.Written, dataplane.Rule{
				ID: 71, Tier: dataplane.TierUser, Direction: dataplane.In, Deny: true, Reason: dataplane.DropIsolated, Proto: header.ProtoTCP, Ports: conntrack.PortRange{First: 80, Last: 80},
				From: dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: l.Port("c2")},
				To:   dataplane.Selector{Sides: dataplane.SideContainer, OfPort: true, Port: l.Port("c1")},
			})
		}, true},
		{"no host access", func(l *stationLab) { l.Policy[0].NoHostAccess = true }, false},
		{"no gateway", func(l *stationLab) {
			l.Policy[0].Modes = [2]policy.GatewayMode{policy.GatewayIsolated, policy.GatewayIsolated}
		}, false},
		{"a VLAN", func(l *stationLab) { l.Configure("c1", func(p *dataplane.PortConfig) { p.VLAN = 5 }) }, false},
		{"no guard", func(l *stationLab) { l.Configure("c1", func(p *dataplane.PortConfig) { p.Guarded = false }) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newStationLab(t)
			c.make(l)
			l.Install()
			l.settle()
			h := l.hostTalk(false, header.ProtoTCP, 40000, 80)
			if got := h.down(SYN) >= 0; got != c.carried {
				t.Errorf("carried: %v, want %v", got, c.carried)
			}
			if got := h.up(SYN|ACK) >= 0; got != c.carried {
				t.Errorf("the answer is carried: %v, want %v", got, c.carried)
			}
		})
	}
}

// TestL05HostAskAgain: captures see what the host says.
func TestL05HostAskAgain(t *testing.T) {
	l := newStationLab(t)
	h := l.hostTalk(false, header.ProtoTCP, 40000, 80)
	if h.down(SYN) < 0 {
		t.Fatal("it is not carried")
	}
	for _, at := range []string{"c1", "host1"} {
		q, err := l.Switch.OpenCapture(dataplane.CaptureConfig{Ports: []frame.PortID{l.Port(at)}})
		if err != nil {
			t.Fatal(err)
		}
		if h.down(ACK) >= 0 || h.up(ACK) >= 0 {
			t.Errorf("what %s captures is carried", at)
		}
		l.Switch.EndCapture(q.ID)
		l.settle()
		if h.down(ACK) < 0 || h.up(ACK) < 0 {
			t.Errorf("what %s has captured is not carried", at)
		}
	}
}

// TestL01HostKeepsOrder: an answer waits for those of before that the switch has, and frames
// for other stations do not.
func TestL01HostKeepsOrder(t *testing.T) {
	l := newStationLab(t)
	h := l.hostTalk(false, header.ProtoTCP, 22, 40000)
	a := l.k.Tally(l.Ifindex(l.Port("c1")))
	syn := toStation("c1", "host1", false, Packet{Flags: SYN, Src: "10.1.0.11:40000", Dst: "10.1.0.1:22"})
	ack := toStation("c1", "host1", false, Packet{Flags: ACK, Src: "10.1.0.11:40000", Dst: "10.1.0.1:22"})
	send := func(b []byte) bool { return l.k.Meet(flowtest.Cable, l.Ifindex(l.Port("c1")), false, b, 0).Switch }
	if !send(syn) {
		t.Fatal("it is carried")
	}
	h.down(SYN | ACK)
	if !send(ack) {
		t.Error("a frame overtakes one of its flow")
	}
	if send(toStation("c1", "c2", false, Packet{Flags: SYN})) {
		t.Error("a frame for another station waits")
	}
	a.Taken = a.In
	if send(ack) {
		t.Error("it is not carried in the end")
	}
	big := toStation("host1", "c1", false, Packet{Flags: ACK, Src: "10.1.0.1:22", Dst: "10.1.0.11:40000", Payload: make([]byte, 1500)})
	l.k.Meet(flowtest.Device, l.Ifindex(l.Port("host1")), false, big, 0)
	if h.down(ACK) >= 0 {
		t.Error("a frame of the host overtakes one that was too large")
	}
	if h.down(ACK) < 0 {
		t.Error("it is not carried in the end")
	}
}

// TestServiceOfTheHostIsOffered: a connection to a service of the host whose port is one of masquerade's, and
// which the list of the host's ports does not have yet, is worth a row by its first offer.
func TestServiceOfTheHostIsOffered(t *testing.T) {
	l := newStationLab(t)
	const port = 20000
	for n := range 30 {
		flags := uint8(ACK)
		if n == 0 {
			flags = SYN
		}
		l.Send("c1", toStation("c1", "host1", false, Packet{Flags: flags, Src: "10.1.0.11:40000", Dst: Families[0].At("host1", port)}))
	}
	l.Switch.StepFlows()
	if st := l.Switch.Stats().Flows; st.Rows != 1 {
		t.Errorf("%+v, drops %s", st, l.Drops())
	}
}
