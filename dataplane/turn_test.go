package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// cost is what the turns of all ports have cost so far.
func cost(l *Lab) (all time.Duration) {
	for _, p := range l.Switch.Stats().Ports {
		all += p.Cost
	}
	return all
}

// costAt is what the turns of a station's port have cost.
func costAt(l *Lab, station string) time.Duration {
	for _, p := range l.Switch.Stats().Ports {
		if p.ID == l.Port(station) {
			return p.Cost
		}
	}
	return 0
}

func partial(gso uint8, size uint16, l4, field int) frame.Offload {
	return frame.Offload{Csum: frame.CsumPartial, CsumStart: uint16(l4), CsumOffset: uint16(field), GSOType: gso, GSOSize: size}
}

// super is a TCP super-frame of a station.
func super(from, to string, size int) []byte {
	return TCP(from, 5000, to, ACK, string(make([]byte, size)))
}

// attacks are what a port may send as fast as it can, to take the worker.
var attacks = []struct {
	name string
	at   string
	f    func() []byte
	off  frame.Offload
}{
	{"small frames", "c2", func() []byte { return UDP("c2", 5000, web, "x") }, frame.Offload{}},
	{"tiny segments of TCP", "c2", func() []byte { return super("c2", web, 60_000) }, partial(frame.GSOTCPv4, 8, 34, 16)},
	{"many segments of TCP", "c2", func() []byte { return super("c2", web, 60_000) }, partial(frame.GSOTCPv4, 500, 34, 16)},
	{"segments of TCP to a container", "c2", func() []byte { return super("c2", Stations["c4"]+":80", 60_000) }, partial(frame.GSOTCPv4, 1448, 34, 16)},
	{"datagrams of a byte", "c2", func() []byte { return UDP("c2", 5000, web, string(make([]byte, 128))) }, partial(frame.GSOUDPL4, 1, 34, 6)},
	{"datagrams of 500 bytes", "c2", func() []byte { return UDP("c2", 5000, web, string(make([]byte, 60_000))) }, partial(frame.GSOUDPL4, 500, 34, 6)},
	{"refused frames", "c2", func() []byte { return super("c2", web, 60_000) }, partial(frame.GSOTCPv4, 1, 34, 16)},
	{"what is cut into fragments", "c2", func() []byte {
		return Bytes(Packet{EthSrc: MAC("c2"), EthDst: MAC("host1"), Src: "10.1.0.12:5000", Dst: web, Proto: header.ProtoUDP, Payload: make([]byte, 8900)})
	}, frame.Offload{}},
	{"broadcasts", "c2", func() []byte { return l2(header.Broadcast, MAC("c2"), "x") }, frame.Offload{}},
	{"from the uplink", "up", func() []byte {
		return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: World + ":9", Dst: HostAddr + ":9", Proto: header.ProtoUDP, Payload: []byte("x")})
	}, frame.Offload{}},
	{"from the host", "host1", func() []byte {
		return Bytes(Packet{EthSrc: MAC("host1"), EthDst: MAC("c2"), Src: "10.1.0.1:9", Dst: "10.1.0.12:9", Proto: header.ProtoTCP, Payload: make([]byte, 60_000)})
	}, partial(frame.GSOTCPv4, 500, 34, 16)},
}

// Whatever somebody sends as fast as he can, a frame of another port waits for one turn,
// and a turn costs no more than 250 us.
func TestNobodyWaitsForMoreThanATurn(t *testing.T) {
	const limit = 250 * time.Microsecond
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			l := New(t)
			for name := range Stations {
				l.Memory(name).SetSink(func([]byte, frame.Offload) {})
			}
			got := 0
			l.Memory("c3").SetSink(func([]byte, frame.Offload) { got++ })
			victim := l2(MAC("c3"), MAC("c1"), "x")
			f, in := a.f(), l.Memory(a.at)
			fill := func() {
				for in.Waiting() < 128 {
					in.Inject(f, a.off)
				}
			}
			l.Memory("c1").Inject(victim, noOffload)
			dataplane.Pass(l.Switch, true)
			got = 0
			for i := range 200 {
				fill()
				dataplane.Pass(l.Switch, i%8 == 0)
				l.Tock(200 * time.Microsecond)
				l.Memory("c1").Inject(victim, noOffload)
				want := got + 1
				was, own := cost(l), costAt(l, "c1")
				for range 100 {
					if got >= want {
						break
					}
					before := cost(l)
					dataplane.Pass(l.Switch, false)
					if turn := cost(l) - before; turn > 2*limit {
						t.Fatalf("a pass cost %v", turn)
					}
				}
				if got < want {
					t.Fatalf("the other port's frame %d does not come", i)
				}
				if waited := cost(l) - was - (costAt(l, "c1") - own); waited > limit+50*time.Microsecond {
					t.Fatalf("frame %d of the other port waited for %v", i, waited)
				}
			}
		})
	}
}

// A frame that Receive refuses was taken in, and its sender pays for that.
func TestRefusedFramesCostTheirSender(t *testing.T) {
	l := New(t)
	f := super("c2", web, 60_000)
	for range 50 {
		l.Memory("c2").Inject(f, partial(frame.GSOTCPv4, 1, 34, 16))
	}
	for range 100 {
		dataplane.Pass(l.Switch, true)
	}
	if got := l.Memory("c2").InvalidDrops(); got != 50 {
		t.Fatalf("%d frames were refused", got)
	}
	if got, want := costAt(l, "c2"), 50*time.Duration(frame.TakeCost(len(f))); got != want {
		t.Errorf("50 refused frames cost %v, want %v", got, want)
	}
}

// Several who send as fast as they can get the same time, whatever they send.
func TestFloodsShareTheWorker(t *testing.T) {
	l := New(t)
	for name := range Stations {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
	}
	type flood struct {
		at  string
		f   []byte
		off frame.Offload
	}
	floods := []flood{
		{"c1", UDP("c1", 5000, web, "x"), frame.Offload{}},
		{"c2", super("c2", web, 60_000), partial(frame.GSOTCPv4, 500, 34, 16)},
		{"c3", UDP("c3", 5000, web, string(make([]byte, 128))), partial(frame.GSOUDPL4, 1, 34, 6)},
		{"c4", UDP("c4", 5000, web, string(make([]byte, 1400))), frame.Offload{}},
	}
	for i := range 4000 {
		for _, x := range floods {
			for l.Memory(x.at).Waiting() < 128 {
				l.Memory(x.at).Inject(x.f, x.off)
			}
		}
		dataplane.Pass(l.Switch, i%8 == 0)
	}
	var spent []string
	least, most := time.Hour, time.Duration(0)
	for _, x := range floods {
		c := costAt(l, x.at)
		least, most = min(least, c), max(most, c)
		spent = append(spent, fmt.Sprint(x.at, " ", c))
	}
	if most-least > most/20 {
		t.Errorf("turns cost %q, want about the same", spent)
	}
}

// A container whose frames nobody answers lets others have first when it always has more, and
// shares and events tell of it; one that is answered does not, routed or bridged.
func TestUnansweredFloodsYield(t *testing.T) {
	for _, answered := range []bool{false, true} {
		for _, to := range []string{web, Stations["c3"] + ":80"} {
			t.Run(fmt.Sprint(to, " answered ", answered), func(t *testing.T) {
				l := New(t)
				for name := range Stations {
					l.Memory(name).SetSink(func([]byte, frame.Offload) {})
				}
				flood := UDP("c2", 5000, to, string(make([]byte, 1400)))
				if answered {
					l.Memory("up").SetSink(nil)
					l.Send("c2", flood)
					if to == web {
						l.Send("up", Inbound(header.ProtoUDP, web, See(t, l.Got("up")[0]).From(), 0, "x"))
					} else {
						l.Send("c3", UDP("c3", 80, Stations["c2"]+":5000", "x"))
					}
					l.Memory("up").SetSink(func([]byte, frame.Offload) {})
				}
				other := l2(MAC("c4"), MAC("c1"), "x")
				for i := range 2000 {
					for l.Memory("c2").Waiting() < 128 {
						l.Memory("c2").Inject(flood, noOffload)
					}
					l.Memory("c1").Inject(other, noOffload)
					dataplane.Pass(l.Switch, i%8 == 0)
					l.Tock(50 * time.Microsecond)
				}
				busy := costAt(l, "c2").Seconds() / (2000 * 50e-6)
				if slow := busy < 0.3; slow == answered {
					t.Errorf("it had %.2f of the worker", busy)
				}
				l.Events = nil
				l.Advance(time.Second)
				told := false
				for _, e := range l.Events {
					told = told || e.Kind == dataplane.EventShare && e.Shared == dataplane.SharedTime && e.Port == l.Port("c2")
				}
				_, list := l.Switch.Shares()
				for _, s := range list {
					if u := s.Of[dataplane.SharedTime]; s.Tenant == l.Port("c2") && (u.Held == 0 || (u.Gave > 0) == answered || told == answered) {
						t.Errorf("its time: %+v, told %v", u, told)
					}
				}
			})
		}
	}
}
