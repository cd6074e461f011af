package dataplane_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/flowmap/flowtest"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// carriedWorld is a Lab with flows of every kind, in both directions and families.
type carriedWorld struct {
	*Lab
	kernel    *flowtest.Kernel
	flows     []*carriedFlow
	base      dataplane.SnapshotConfig // as it began
	installed dataplane.SnapshotConfig // last
	// The same of Lab.Policy.
	basePolicy, installedPolicy []policy.Network
	capture                     *dataplane.Capture
	reached                     map[dataplane.NeighborKey]header.MAC
}

// carriedFlow is one direction of a flow: the same frame, again and again.
type carriedFlow struct {
	name  string
	at    string
	frame []byte
	// reborn says that a frame of it may begin another flow that looks the same to the
	// stages when its own is not allowed any more.
	reborn bool
}

func newCarriedWorld(t *testing.T) *carriedWorld {
	w := newOpenWorld(t)
	w.carry()
	return w
}

// newOpenWorld has flows that nobody has offered to the kernel.
func newOpenWorld(t *testing.T) *carriedWorld {
	w := &carriedWorld{}
	w.Lab, w.kernel = NewWithKernel(t, 4096, 256)
	w.DualStack()
	w.Interfaces()
	for _, f := range Families {
		w.PublishFamily(f, 8080, "c1", 80)
	}
	// Another way out for some destinations, by another next hop.
	w.Config.Routes = append(w.Config.Routes, dataplane.RouteConfig{
		Prefix: netip.MustParsePrefix("203.0.113.128/25"), Kind: dataplane.RouteUplink, Uplink: w.Port("up"),
		Via: netip.MustParseAddr("198.51.100.8"), Source: netip.MustParseAddr(HostAddr),
	})
	// A second uplink, which nothing leads to yet.
	w.AddPort(secondUplink, porttest.New("up2"))
	w.Config.Ports = append(w.Config.Ports, dataplane.PortConfig{ID: secondUplink, Kind: dataplane.PortUplink, Ifindex: w.Ifindex(secondUplink)})
	w.Config.Uplinks = append(w.Config.Uplinks, dataplane.UplinkConfig{
		Port: secondUplink, MAC: header.MAC{2, 0, 0, 0, 9, 2}, MTU: 1500, Slots: map[netip.Addr]int{secondAddr: 7},
	})
	// A network whose containers have addresses that the world knows, and destinations
	// that see those of others.
	w.Policy[1].Modes = [2]policy.GatewayMode{policy.GatewayRouted, policy.GatewayRouted}
	for _, f := range Families {
		w.PublishFamily(f, 8081, "c4", 81)
	}
	w.Policy[0].Exempt = []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25"), netip.MustParsePrefix("2001:db8:8::/48")}
	w.Install()
	w.reach(NextHopMAC)
	w.base, w.installed = cloneConfig(&w.Config), cloneConfig(&w.Config)
	w.basePolicy, w.installedPolicy = slices.Clone(w.Policy), slices.Clone(w.Policy)
	for _, f := range Families {
		w.begin(f)
	}
	return w
}

// reach sets the MAC address of the next hop that most flows go by.
func (w *carriedWorld) reach(mac header.MAC, more ...string) {
	m := map[dataplane.NeighborKey]header.MAC{
		{Uplink: secondUplink, Addr: header.AddrFrom(netip.MustParseAddr(NextHop))}: mac,
		w.Lab.NextHop(NextHop): mac, w.Lab.NextHop(Families[1].NextHop): mac, w.Lab.NextHop("198.51.100.8"): {2, 0, 0, 0, 9, 8},
	}
	for i, a := range more {
		m[w.Lab.NextHop(a)] = header.MAC{2, 0, 0, 0, 8, byte(i)}
	}
	w.reached = m
	w.Switch.SetNeighbors(m)
}

// begin opens the flows of a family.
func (w *carriedWorld) begin(f Family) {
	v6 := f.ICMP == header.ProtoICMPv6
	add := func(name, at string, b []byte) {
		w.flows = append(w.flows, &carriedFlow{name: f.Name + " " + name, at: at, frame: b})
	}
	packet := func(from, to string, eth [2]header.MAC, proto uint8, flags uint8, seq, ack uint32) []byte {
		return Bytes(Packet{EthSrc: eth[0], EthDst: eth[1], Src: from, Dst: to, Proto: proto, Flags: flags, Seq: seq, Ack: ack, DF: !v6, Payload: []byte("x")})
	}
	// Between containers, and between one and the host.
	for _, side := range [][2]string{{"c1", "c2"}, {"c2", "c1"}, {"c1", "host1"}, {"host1", "c1"}} {
		for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
			b := packet(f.At(side[0], 5000), f.At(side[1], 7), [2]header.MAC{MAC(side[0]), MAC(side[1])}, proto, ACK, 100, 100)
			add(fmt.Sprintf("%s to %s, protocol %d", side[0], side[1], proto), side[0], b)
		}
	}
	// Routed: each is opened by the stages, and what they make of the first frame is
	// what the answer is built from.
	for _, r := range []struct{ name, from, to, answers string }{
		{"out", "c1", f.At(f.World, 443), "up"},
		{"out by another next hop", "c2", f.At("203.0.113.200", 443), "up"},
		{"in", "up", f.At(f.Host, 8080), "c1"},
		{"hairpin", "c2", f.At(f.Host, 8080), "c1"},
		{"from another network", "c4", f.At(f.Host, 8080), "c1"},
		{"by the gateway", "c1", f.At("c2", 90), "c2"},
		{"to a routed network", "up", f.At("c4", 81), "c4"},
		{"exempt", "c2", f.At(exempt[f.Name], 443), "up"},
	} {
		if v6 && r.to == f.At("203.0.113.200", 443) {
			continue
		}
		for _, proto := range []uint8{header.ProtoUDP, header.ProtoTCP} {
			eth, src := [2]header.MAC{MAC(r.from), gatewayOf(r.from)}, f.At(r.from, 6000+uint16(proto))
			if r.from == "up" {
				eth, src = [2]header.MAC{NextHopMAC, MAC("up")}, f.At(f.World, 6000+uint16(proto))
			}
			step := func(flags uint8, seq, ack uint32) (there []byte) {
				w.Send(r.from, packet(src, r.to, eth, proto, flags, seq, ack))
				return w.Expect(r.answers)
			}
			flags := uint8(SYN)
			there := step(flags, 100, 0)
			var l header.Layers
			if !header.Parse(there, &l) {
				w.T.Fatalf("%s: %s", r.name, Describe(there))
			}
			back := func(flags uint8, seq, ack uint32) []byte {
				return packet(endOf(l.Tuple.Dst, l.Tuple.DstPort), endOf(l.Tuple.Src, l.Tuple.SrcPort), [2]header.MAC{l.Dst, l.Src}, proto, flags, seq, ack)
			}
			w.Send(r.answers, back(SYN|ACK, 900, 102))
			w.Expect(r.from)
			step(ACK, 102, 902)
			w.Send(r.answers, back(ACK, 902, 103))
			w.Expect(r.from)
			if proto == header.ProtoTCP && r.name == "in" {
				step(FIN|ACK, 103, 903) // half closed: the answers go on
				add(r.name+", half closed, back", r.answers, back(ACK, 903, 104))
				continue
			}
			add(fmt.Sprintf("%s, protocol %d", r.name, proto), r.from, packet(src, r.to, eth, proto, ACK, 103, 903))
			add(fmt.Sprintf("%s, back, protocol %d", r.name, proto), r.answers, back(ACK, 903, 103))
			w.flows[len(w.flows)-1].reborn = r.name == "to a routed network"
		}
	}
}

var exempt = map[string]string{"IPv4": "192.0.2.200", "IPv6": "2001:db8:8::8"}

func gatewayOf(station string) header.MAC {
	if station == "c4" {
		return MAC("host2")
	}
	return MAC("host1")
}

const secondUplink frame.PortID = 20

var secondAddr = netip.MustParseAddr("198.51.100.65")

func endOf(a header.Addr, port uint16) string { return netip.AddrPortFrom(a.NetIP(), port).String() }

// carry offers all flows to the kernel.
func (w *carriedWorld) carry() {
	for _, f := range w.flows {
		w.Switch.OfferFrame(w.Port(f.at), f.frame)
	}
	w.Switch.EnterOffers()
	w.kernel.Activate()
}

// told is what happens to a frame of a flow.
type told struct {
	out  frame.PortID
	sent string
}

// stages is what the stages would do now.
func (w *carriedWorld) stages(f *carriedFlow) told {
	x, err := w.Switch.Explain(w.Port(f.at), f.frame)
	if err != nil {
		return told{out: frame.NoPort} // the port is gone
	}
	if len(x.Out) != 1 || x.Reason != dataplane.NotDropped {
		return told{out: frame.NoPort}
	}
	return told{x.Out[0], string(x.Sent)}
}

// carried is what the kernel's side does now, if it does anything.
func (w *carriedWorld) carried(f *carriedFlow) (told, bool) {
	at := flowtest.Cable
	switch {
	case f.at == "up":
		at = flowtest.Uplink
	case strings.HasPrefix(f.at, "host"):
		at = flowtest.Device
	}
	m := w.kernel.Meet(at, w.Ifindex(w.Port(f.at)), true, f.frame, 0)
	if m.Out == 0 {
		return told{}, false
	}
	return told{frame.PortID(m.Out - w.Ifindex(0)), string(m.Sent)}, true
}

func pick[T any](rng *rand.Rand, of []T) T { return of[rng.IntN(len(of))] }

// toggle takes x out of a list, or puts it in.
func toggle[T comparable](list []T, x T) []T {
	if i := slices.Index(list, x); i >= 0 {
		return slices.Delete(slices.Clone(list), i, i+1)
	}
	return append(slices.Clone(list), x)
}

// TestChangesAskRowsAgain makes random changes of every kind. After each has returned
// the kernel's side does with a frame what the stages do, or leaves it to them; and it
// does not leave it to them where the change has not changed what they do.
// VSWITCH_CHANGES makes it that many, 300 for each world.
func TestChangesAskRowsAgain(t *testing.T) {
	steps, seeds := 50, uint64(2)
	if n, err := strconv.Atoi(os.Getenv("VSWITCH_CHANGES")); err == nil {
		steps, seeds = 300, uint64(n/300)
	} else if labtest.UnderRace {
		steps, seeds = 4, 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			w := newCarriedWorld(t)
			for _, f := range w.flows {
				if _, ok := w.carried(f); !ok {
					t.Errorf("%s is not carried to begin with", f.name)
				}
			}
			compared, stayed := 0, 0
			var history []string
			had, before := make([]bool, len(w.flows)), make([]told, len(w.flows))
			for i, f := range w.flows {
				_, had[i] = w.carried(f)
				before[i] = w.stages(f)
			}
			for range steps {
				c := pick(rng, changes)
				if rng.IntN(5) == 0 {
					c = changes[len(changes)-1]
				}
				history = append(history, c.name)
				c.do(w, rng)
				for i, f := range w.flows {
					got, ok := w.carried(f)
					want := w.stages(f)
					if ok {
						compared++
						if got != want {
							history = history[max(0, len(history)-12):]
							t.Fatalf("%s, after %q: the kernel's side sends %s by port %d, the stages %s by port %d",
								f.name, history, describe(got.sent), got.out, describe(want.sent), want.out)
						}
					}
					if had[i] && c.quiet && want == before[i] && !f.reborn {
						if stayed++; !ok {
							history = history[max(0, len(history)-12):]
							t.Fatalf("%s was taken from the kernel by %q, which changes nothing about it", f.name, history)
						}
					}
					before[i] = want
				}
				if c.name == "all as it was" || rng.IntN(3) == 0 {
					w.carry()
				}
				for i, f := range w.flows {
					_, had[i] = w.carried(f)
				}
			}
			if compared < 8*steps || stayed < 3*steps {
				t.Errorf("%d frames compared, %d rows had to stay: the test has become weak", compared, stayed)
			}
		})
	}
}

func describe(sent string) string {
	if sent == "" {
		return "nothing"
	}
	return Describe(bytes.Clone([]byte(sent)))
}
