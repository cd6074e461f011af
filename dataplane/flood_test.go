package dataplane_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// crowd fills network 1 with ports until it has n, and returns the new ones, whose IDs
// begin at 1000. What they get is thrown away.
func crowd(t testing.TB, l *Lab, n int) (more []*porttest.Port) {
	t.Helper()
	for _, p := range l.Config.Ports {
		if p.Network == 1 {
			n--
		}
	}
	for i := range n {
		p := porttest.New(fmt.Sprintf("x%d", i))
		p.SetSink(func([]byte, frame.Offload) {})
		if err := l.Switch.AddPort(frame.PortID(1000+i), porttest.Describe(p)); err != nil {
			t.Fatal(err)
		}
		l.Config.Ports = append(l.Config.Ports, dataplane.PortConfig{ID: frame.PortID(1000 + i), Network: 1, StormRate: -1})
		more = append(more, p)
	}
	l.Install()
	return more
}

// unbounded takes storm control from a station's port.
func unbounded(l *Lab, station string) {
	l.Configure(station, func(p *dataplane.PortConfig) { p.StormRate = -1 })
}

// run is passes until none moves anything, for longer than a turn of lower effort is waited for.
func run(l *Lab) {
	for i, quiet := 0, 0; quiet < 100; i++ {
		if quiet++; dataplane.Pass(l.Switch, i%8 == 0) > 0 {
			quiet = 0
		}
	}
}

// 500 broadcasts a second into 500 ports: each arrives everywhere, once and in order, and a
// frame of another port waits for a turn, and not for the flood. By the model of cost a second
// of them is 0.8 s of work.
func TestAFloodIntoManyPortsDelaysNobody(t *testing.T) {
	for name, f := range map[string]func(i int) []byte{
		"broadcast": func(i int) []byte { return l2(header.Broadcast, MAC("c2"), numbered(i)) },
		"multicast": func(i int) []byte { return l2(GroupMAC("239.1.1.1"), MAC("c2"), numbered(i)) },
		"unknown":   func(i int) []byte { return l2(stranger, MAC("c2"), numbered(i)) },
	} {
		t.Run(name, func(t *testing.T) {
			l := New(t)
			others := crowd(t, l, 500)
			unbounded(l, "c2")
			next := make([]int, len(others))
			for i, p := range others {
				p.SetSink(func(b []byte, _ frame.Offload) {
					if got := int(binary.BigEndian.Uint32(b[len(b)-4:])); got != next[i] {
						t.Errorf("port %d got frame %d, want %d", i, got, next[i])
					}
					next[i]++
				})
			}
			for _, at := range []string{"c1", "host1"} {
				l.Memory(at).SetSink(func([]byte, frame.Offload) {})
			}
			heard, pairs := 0, 0
			l.Memory("c3").SetSink(func(b []byte, _ frame.Offload) {
				if bytes.HasSuffix(b, []byte("pair")) {
					heard++
				}
			})
			l.Memory("c1").Inject(l2(MAC("c3"), MAC("c1"), "a pair"), noOffload)
			run(l)
			heard = 0
			sent := 0
			for range 200 { // 0.1 s: a frame of the pair each 0.5 ms
				if pairs%4 == 0 {
					l.Memory("c2").Inject(f(sent), noOffload)
					sent++
				}
				pairs++
				l.Memory("c1").Inject(l2(MAC("c3"), MAC("c1"), "a pair"), noOffload)
				was, own := cost(l), costAt(l, "c1")
				for i := 0; heard < pairs; i++ {
					dataplane.Pass(l.Switch, i == 0)
				}
				if waited := cost(l) - was - (costAt(l, "c1") - own); waited > 500*time.Microsecond { // a pass goes on after the frame has come
					t.Fatalf("frame %d of the pair waited for %v", pairs, waited)
				}
				for i, spent := 0, cost(l); cost(l)-spent < 500*time.Microsecond && i < 20; i++ {
					dataplane.Pass(l.Switch, i == 0)
				}
				l.Tock(500 * time.Microsecond)
			}
			run(l)
			for i, n := range next {
				if n != sent {
					t.Errorf("port %d got %d frames, want %d; drops %s", i, n, sent, l.Drops())
				}
			}
		})
	}
}

func numbered(i int) string { return string(binary.BigEndian.AppendUint32(nil, uint32(i))) }

// What a port sends after a flood does not overtake it, in the same batch or later, whatever
// it is; and nothing comes twice. A reference sends the same into a network that is small
// enough to need no second turn.
func TestAFloodStaysInOrder(t *testing.T) {
	for seed := range uint64(10) {
		rng := rand.New(rand.NewPCG(seed, 3))
		l := NewSized(t, 4096, func(c *dataplane.Config) { c.MaxFDB = 4096 })
		others := crowd(t, l, 300)
		unbounded(l, "c2")
		for i, p := range others { // known stations
			p.Inject(l2(MAC("c2"), header.MAC{2, 0, 0, 1, byte(i >> 8), byte(i)}, "hello"), noOffload)
		}
		run(l)
		l.Got("c2")
		next, expected := make([][]int, len(others)), make([][]int, len(others))
		for i, p := range others {
			p.SetSink(func(b []byte, _ frame.Offload) { next[i] = append(next[i], int(binary.BigEndian.Uint32(b[14:]))) })
		}
		for i := range 300 {
			to, dst := rng.IntN(len(others)), header.Broadcast
			if rng.IntN(3) > 0 {
				dst = header.MAC{2, 0, 0, 1, byte(to >> 8), byte(to)}
				expected[to] = append(expected[to], i)
			} else {
				for j := range expected {
					expected[j] = append(expected[j], i)
				}
			}
			l.Memory("c2").Inject(l2(dst, MAC("c2"), numbered(i)+string(make([]byte, rng.IntN(1400)))), noOffload)
			if rng.IntN(40) == 0 {
				dataplane.Pass(l.Switch, true)
			}
		}
		run(l)
		for i := range others {
			if fmt.Sprint(next[i]) != fmt.Sprint(expected[i]) {
				t.Fatalf("seed %d: port %d got %v, want %v; drops %s", seed, i, next[i], expected[i], l.Drops())
			}
		}
	}
}

// A super-frame that is flooded over several turns is the same everywhere.
func TestAFloodedSuperFrameStaysWhole(t *testing.T) {
	l := New(t)
	others := crowd(t, l, 200)
	unbounded(l, "c2")
	payload := make([]byte, 60_000)
	rand.NewChaCha8([32]byte{5}).Read(payload)
	f := Bytes(Packet{EthSrc: MAC("c2"), EthDst: header.Broadcast, Src: "10.1.0.12:1", Dst: "10.1.0.255:2", Proto: header.ProtoUDP, Payload: payload})
	off := partial(frame.GSOUDPL4, 1400, 34, 6)
	got := 0
	for _, p := range others {
		p.SetSink(func(b []byte, o frame.Offload) {
			if !bytes.Equal(b, f) || o.GSOSize != off.GSOSize || o.CsumStart != off.CsumStart {
				t.Errorf("%d bytes came, %+v", len(b), o)
			}
			got++
		})
	}
	l.Memory("c2").Inject(f, off)
	l.Memory("c2").Inject(f, off)
	run(l)
	if got != 2*len(others) {
		t.Errorf("%d copies came, want %d; drops %s", got, 2*len(others), l.Drops())
	}
}

// While a flood goes on the switch is told otherwise: who may have it no longer gets none,
// and what a removed port flooded is forgotten, also when another has its ID.
func TestAFloodObeysTheSnapshotOfEachTurn(t *testing.T) {
	begin := func(t *testing.T) (l *Lab, got []int) {
		l = New(t)
		others := crowd(t, l, 1000)
		got = make([]int, len(others))
		for i, p := range others {
			p.SetSink(func([]byte, frame.Offload) { got[i]++ })
		}
		l.Memory("c2").Inject(l2(header.Broadcast, MAC("c2"), "x"), noOffload)
		dataplane.Pass(l.Switch, true)
		dataplane.Pass(l.Switch, false)
		if got[0] != 1 || got[len(got)-1] != 0 {
			t.Fatalf("the first port has %d, the last %d: the flood is not under way", got[0], got[len(got)-1])
		}
		return l, got
	}
	t.Run("another network", func(t *testing.T) {
		l, got := begin(t)
		for i := range l.Config.Ports {
			if p := &l.Config.Ports[i]; p.ID >= 1500 {
				p.Network = 2
			}
		}
		l.Install()
		run(l)
		for i, n := range got {
			if want := i < 500; (n == 1) != want {
				t.Fatalf("port %d got %d frames", i, n)
			}
		}
	})
	t.Run("a receiver is removed", func(t *testing.T) {
		l, got := begin(t)
		if err := l.Switch.RemovePort(1900); err != nil {
			t.Fatal(err)
		}
		run(l)
		if got[900] != 0 || got[901] != 1 {
			t.Errorf("the removed port got %d, the next %d", got[900], got[901])
		}
	})
	t.Run("the sender is removed", func(t *testing.T) {
		l, got := begin(t)
		if err := l.Switch.RemovePort(l.Port("c2")); err != nil {
			t.Fatal(err)
		}
		if err := l.Switch.AddPort(l.Port("c2"), porttest.Describe(porttest.New("another"))); err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, n := range got {
			sum += n
		}
		run(l)
		for _, n := range got {
			sum -= n
		}
		if sum != 0 {
			t.Errorf("%d frames of a port that was removed came", -sum)
		}
		if dataplane.FloodMemory(l.Switch) != 0 {
			t.Error("its frames are kept")
		}
	})
}

// Drops are captured in later turns of a flood as in its first: of a device that is full then.
func TestAFloodIsCapturedInEachTurn(t *testing.T) {
	l := New(t)
	others := crowd(t, l, 1000)
	last := frame.PortID(1000 + len(others) - 1)
	others[len(others)-1].SetRoom(0)
	c := openCapture(t, l, dataplane.CaptureConfig{Ports: []frame.PortID{last}, Points: 1 << dataplane.PointDrop})
	f := l2(header.Broadcast, MAC("c2"), "x")
	l.Memory("c2").Inject(f, noOffload)
	run(l)
	if got := all(t, c); len(got) != 1 || got[0].Verdict.Reason != dataplane.DropDeviceFull || !bytes.Equal(got[0].Data, f) {
		t.Errorf("%d records, want the frame that the device refused", len(got))
	}
}

// Many who flood leave room for one who asks a question.
func TestFloodsLeaveRoomForTheNext(t *testing.T) {
	l := New(t)
	others := crowd(t, l, 300)
	asked := 0
	l.Memory("c1").SetSink(func(b []byte, _ frame.Offload) {
		if bytes.HasSuffix(b, []byte("question")) {
			asked++
		}
	})
	for i := range 40 {
		for n, p := range others[:200] {
			for p.Waiting() < 64 {
				p.Inject(l2(header.Broadcast, header.MAC{2, 0, 0, 1, byte(n >> 8), byte(n)}, string(make([]byte, 1400))), noOffload)
			}
		}
		dataplane.Pass(l.Switch, i%4 == 0)
	}
	if dataplane.FloodMemory(l.Switch) == 0 {
		t.Fatal("nobody floods")
	}
	const questions = 5
	for i := range questions {
		l.Memory("c3").Inject(l2(header.Broadcast, MAC("c3"), "question"), noOffload)
		for n := 0; asked <= i && n < 20_000; n++ {
			dataplane.Pass(l.Switch, n%4 == 0)
		}
	}
	if asked != questions {
		t.Errorf("%d of %d questions came; drops %s", asked, questions, l.Drops())
	}
}

func TestAFloodOverTurnsAllocatesNothing(t *testing.T) {
	l := New(t)
	crowd(t, l, 300)
	unbounded(l, "c2")
	for name := range Stations {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
	}
	f := l2(header.Broadcast, MAC("c2"), "x")
	flood := func() {
		l.Memory("c2").Inject(f, noOffload)
		for l.Switch.Step() > 0 {
		}
	}
	flood()
	if n := testing.AllocsPerRun(10, flood); n != 0 {
		t.Errorf("%v allocations for a flood, want none", n)
	}
}

// A port whose turns took long is forgiven by those that are answered, too, and an uplink, which
// has frames of many, does not inherit it with its number.
func TestTurnsOfOthersForgive(t *testing.T) {
	l := New(t)
	dataplane.Dear(l.Switch, l.Port("up"))
	for range 20 {
		l.Memory("up").Inject(Inbound(header.ProtoUDP, World+":53", HostAddr+":9", 0, "x"), frame.Offload{})
		dataplane.BeginRound(l.Switch, l.Port("up"))
		dataplane.Serve(l.Switch, l.Port("up"))
	}
	if left := dataplane.Dear(l.Switch, l.Port("up")); left != 0 {
		t.Errorf("%d are left", left)
	}
}
