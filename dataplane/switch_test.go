package dataplane_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

func TestEveryDropReasonHasAStageAndAName(t *testing.T) {
	seen := map[string]bool{}
	for r := dataplane.NotDropped; r < dataplane.NumDropReasons; r++ {
		s := r.String()
		if s == "" || seen[s] || r > 0 && !strings.Contains(s, "-") {
			t.Errorf("reason %d is called %q", r, s)
		}
		seen[s] = true
	}
}

// Every frame that comes in is sent or counted as dropped.
func TestEveryFrameIsAccountedFor(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	rng := rand.New(rand.NewSource(1))
	in, sent := uint64(0), uint64(0)
	for range 20000 {
		from := []string{"c1", "c2", "c4", "c5", "host1", "up"}[rng.Intn(6)]
		f := randomFrame(rng, from)
		f[0] &^= 1 // a flooded frame goes out more than once
		if bytes.Equal(f[:6], stranger[:]) {
			continue
		}
		l.Send(from, f)
		in++
		for name := range Stations {
			sent += uint64(len(l.Got(name)))
		}
	}
	dropped, rx, tx := uint64(0), uint64(0), uint64(0)
	for _, p := range l.Switch.Stats().Ports {
		rx += p.Rx
		tx += p.Tx
		for _, n := range p.Drops {
			dropped += n
		}
	}
	if rx != in || tx != sent {
		t.Errorf("counted %d in, %d out, want %d and %d", rx, tx, in, sent)
	}
	if dropped == 0 || dropped > in {
		t.Errorf("%d dropped of %d", dropped, in)
	}
	// Answered drops (ICMP errors) and floods of unknown stations go out beside.
	if sent+dropped < in {
		t.Errorf("%d frames in, %d sent and %d dropped: %d are lost without a count", in, sent, dropped, in-sent-dropped)
	}
}

func TestImpossibleOffloadIsCounted(t *testing.T) {
	l := New(t)
	l.SendOffload("c1", UDP("c1", 5000, web, "x"), frame.Offload{GSOType: frame.GSOTCPv4}) // no size
	l.ExpectDrop("c1", dataplane.DropInvalidOffload, 1)
}

// randomFrame is a frame of all the kinds that the stages tell apart, often
// damaged.
func randomFrame(rng *rand.Rand, from string) []byte {
	addrs := []string{"10.1.0.11", "10.1.0.12", "10.2.0.11", "10.3.0.11", "10.1.0.1", HostAddr, World, "198.51.100.9", "0.0.0.0", "255.255.255.255"}
	macs := []header.MAC{MAC("c1"), MAC("c2"), MAC("c4"), MAC("host1"), MAC("host2"), NextHopMAC, header.Broadcast, stranger, MAC("up")}
	p := Packet{
		EthSrc: MAC(from), EthDst: macs[rng.Intn(len(macs))],
		Src:   fmt.Sprintf("%s:%d", addrs[rng.Intn(len(addrs))], 1+rng.Intn(3)*2500),
		Dst:   fmt.Sprintf("%s:%d", addrs[rng.Intn(len(addrs))], []int{80, 8080, 5000}[rng.Intn(3)]),
		Proto: []uint8{1, 6, 17, 17, 6, 47, 132}[rng.Intn(7)],
		Flags: uint8(rng.Intn(32)), TTL: uint8(1 + rng.Intn(3)), Type: uint8(rng.Intn(16)), ID: uint16(rng.Intn(3)),
		Payload: make([]byte, rng.Intn(100)),
	}
	rng.Read(p.Payload)
	f := Bytes(p)
	for range rng.Intn(3) {
		f[12+rng.Intn(len(f)-12)] ^= 1 << rng.Intn(8)
	}
	if rng.Intn(5) == 0 {
		f = f[:14+rng.Intn(len(f)-14)]
	}
	return f
}

func TestL19MalformedFramesOfEveryLength(t *testing.T) {
	l := New(t)
	rng := rand.New(rand.NewSource(2))
	hm, cm := MAC("host1"), MAC("c1")
	for n := 0; n <= 64; n++ {
		for range 50 {
			f := make([]byte, n)
			rng.Read(f)
			if n > 12 && rng.Intn(2) == 0 {
				copy(f, hm[:])
				copy(f[6:], cm[:])
				copy(f[12:], []byte{8, 0, 0x45})
			}
			for _, from := range []string{"c1", "up", "host1"} {
				l.Send(from, f)
			}
		}
	}
	if l.Dropped("c1", dataplane.DropMalformed) == 0 {
		t.Error("no frame was found malformed")
	}
}

// FuzzSwitch feeds one frame at each kind of port; what comes out must be well
// formed, and nothing may panic.
func FuzzSwitch(f *testing.F) {
	rng := rand.New(rand.NewSource(3))
	ports := []string{"c1", "up", "host1", "c2", "c3"} // guarded, a trunk
	for i := range 64 {
		f.Add(uint8(i%5), randomFrame(rng, ports[i%5]), []byte{})
	}
	for i, c := range layer2Corpus() {
		f.Add(uint8(3+i%2), c, []byte{})
	}
	f.Add(uint8(0), UDP("c1", 5000, web, "x"), []byte{1, 1, 0, 0, 100, 0, 34, 0, 6, 0})
	f.Fuzz(func(t *testing.T, at uint8, data, vnet []byte) {
		if len(data) > 4000 {
			return
		}
		l := New(t)
		l.Publish(8080, "c1", 80)
		var off frame.Offload
		if len(vnet) >= frame.VnetHdrLen {
			var ok bool
			if off, ok = frame.DecodeVnetHdr(vnet, len(data)); !ok {
				return
			}
		}
		l.Guard()
		l.Configure("c1", func(p *dataplane.PortConfig) { p.Guarded = false })
		l.Configure("c3", func(p *dataplane.PortConfig) {
			p.Guarded, p.Trunk = false, []dataplane.VLANRange{{First: 10, Last: 20}}
		})
		from := ports[int(at)%len(ports)]
		for range 2 {
			l.SendOffload(from, data, off)
		}
		for name := range Stations {
			for _, out := range l.Got(name) {
				var ls header.Layers
				if !header.Parse(out, &ls) {
					t.Errorf("%s got a malformed frame", name)
				}
			}
		}
	})
}

func TestCaptureSeesBothDirectionsOfOnePort(t *testing.T) {
	l := New(t)
	c, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c1")}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	partial := frame.Offload{Csum: frame.CsumPartial, CsumStart: header.EthernetLen + 20, CsumOffset: 6}
	out := UDP("c1", 5000, web, "ping")
	// What a container's kernel leaves in the field: the pseudo-header's sum.
	unfinished := bytes.Clone(out)
	header.FinishChecksum(unfinished, header.EthernetLen+20, 6)
	copyPseudo(unfinished)
	l.SendOffload("c1", unfinished, partial)
	e := See(t, l.Got("up")[0]).From()
	l.Send("up", Inbound(header.ProtoUDP, web, e, 0, "pong"))
	l.Expect("c1")
	l.Send("c2", UDP("c2", 5000, web, "of another container"))
	l.Got("up")

	first, ok, err := c.Next(context.Background())
	if err != nil || !ok || first.Point != dataplane.PointRx || first.Port != l.Port("c1") {
		t.Fatalf("first record %+v, %v, %v", first, ok, err)
	}
	CheckSums(t, first.Data)
	if s := See(t, first.Data); s.To() != web || s.From() != "10.1.0.11:5000" {
		t.Errorf("captured %+v, want the frame as the container sent it", s)
	}
	second, _, _ := c.Next(context.Background())
	if s := See(t, second.Data); second.Point != dataplane.PointTx || s.To() != "10.1.0.11:5000" || s.Payload != "pong" {
		t.Errorf("second record %+v", s)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if r, ok, err := c.Next(ctx); err == nil {
		t.Errorf("a third record %v %+v", ok, r)
	}
}

// copyPseudo puts the uncomplemented pseudo-header sum of a UDP frame into its
// checksum field.
func copyPseudo(f []byte) {
	ip, udp := f[header.EthernetLen:], f[header.EthernetLen+20:]
	sum := uint32(header.ProtoUDP) + (uint32(udp[4])<<8 | uint32(udp[5]))
	for i := 12; i < 20; i += 2 {
		sum += uint32(ip[i])<<8 | uint32(ip[i+1])
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	udp[6], udp[7] = byte(sum>>8), byte(sum)
}

func TestF17StalledCaptureLosesFramesNotTheSwitch(t *testing.T) {
	l := New(t)
	c, err := dataplane.StartCapture(l.Switch, dataplane.CaptureConfig{Ports: []frame.PortID{l.Port("c1")}, BufferBytes: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	payload := strings.Repeat("x", 1000)
	for range 500 {
		l.Send("c1", UDP("c1", 5000, web, payload))
	}
	if n := len(l.Got("up")); n != 500 {
		t.Errorf("%d of 500 frames were forwarded", n)
	}
	kept := 0
	for {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		_, ok, _ := c.Next(ctx)
		cancel()
		if !ok {
			break
		}
		kept++
	}
	if kept < 140 || uint64(kept)+c.Dropped() != 500 {
		t.Errorf("kept %d, lost %d, want 500 together", kept, c.Dropped())
	}
	l.Send("c1", UDP("c1", 5000, web, payload)) // room again
	if r, ok, err := c.Next(context.Background()); !ok || err != nil || r.OrigLen != 1042 {
		t.Errorf("after the stall: %v %v %+v", ok, err, r)
	}
}

// The whole turn, with NAT, floods and learning, allocates nothing once the
// flows and stations are known.
func TestF36TurnNoAllocs(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	frames := map[string][]byte{
		"c1": UDP("c1", 5000, web, "masquerade"),
		"c2": l2(MAC("c3"), MAC("c2"), "bridged"),
		"c3": l2(header.Broadcast, MAC("c3"), "flooded"),
		"c4": UDP("c4", 5000, HostAddr+":8080", "hairpin"),
		"c5": UDP("c5", 5000, "10.3.0.1:53", "to the host"),
		"up": Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, "published"),
	}
	sinks := map[string]*porttest.Port{}
	for name := range Stations {
		sinks[name] = l.Memory(name)
		sinks[name].SetSink(func([]byte, frame.Offload) {})
	}
	const turns = 20
	for name, f := range frames {
		for range (turns + 5) * frame.BatchSize {
			sinks[name].Inject(f, frame.Offload{})
		}
	}
	for range 4 { // flows begin, and the in-memory ports grow their lists
		l.Switch.Step()
	}
	allocs := testing.AllocsPerRun(turns, func() { l.Switch.Step() }) // and once to warm up
	for l.Switch.Step() > 0 {                                         // what goes on in later turns
	}
	taken := 0
	for _, p := range l.Switch.Stats().Ports {
		taken += int(p.Rx)
	}
	if want := (turns + 5) * frame.BatchSize * len(frames); taken != want {
		t.Fatalf("%d frames went through, want %d", taken, want)
	}
	if got := l.Switch.Stats(); got.Conns < 3 {
		t.Fatalf("only %d flows were under way; %s", got.Conns, l.Drops())
	}
	if allocs != 0 {
		t.Errorf("%v allocations in a turn of each port, want none", allocs)
	}
}

// Several workers, control at its doors, and frames all the time. It is the
// race detector that judges.
func TestDoorsUnderTraffic(t *testing.T) {
	l := New(t)
	sw, err := dataplane.New(dataplane.Config{Workers: 3})
	if err != nil {
		t.Fatal(err)
	}
	cfg := dataplane.SnapshotConfig{Networks: []dataplane.NetworkConfig{{ID: 1, HostPort: frame.NoPort, GatewayMAC: MAC("host1")}}}
	ports := make([]*porttest.Port, 6)
	for i := range ports {
		ports[i] = porttest.New(fmt.Sprint("p", i))
		ports[i].SetSink(func([]byte, frame.Offload) {})
		id := frame.PortID(i)
		if err := sw.AddPort(id, porttest.Describe(ports[i])); err != nil {
			t.Fatal(err)
		}
		cfg.Ports = append(cfg.Ports, dataplane.PortConfig{ID: id, Network: 1})
	}
	install := func(rev int) {
		c := cfg
		c.Revision = uint64(rev)
		if err := sw.Install(c); err != nil {
			t.Error(err)
		}
	}
	install(1)
	sw.Start()
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i, p := range ports {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				src := header.MAC{2, 0, 0, 0, byte(i), byte(n)}
				p.Inject(l2(header.MAC{2, 0, 0, 0, byte(n % 6), byte(n)}, src, "load"), frame.Offload{})
				time.Sleep(20 * time.Microsecond)
			}
		}()
	}
	for rev := range 50 {
		install(rev + 2)
		sw.FDB()
		sw.Conns()
		sw.Stats()
		sw.SetNeighbors(nil)
		extra := porttest.New("extra")
		id := frame.PortID(100 + rev)
		if err := sw.AddPort(id, porttest.Describe(extra)); err != nil {
			t.Fatal(err)
		}
		c, err := dataplane.StartCapture(sw, dataplane.CaptureConfig{Ports: []frame.PortID{id, 0}})
		if err != nil {
			t.Fatal(err)
		}
		sw.Tick()
		if err := sw.RemovePort(id); err != nil {
			t.Error(err)
		}
		if !extra.Closed() {
			t.Error("a removed port was not closed")
		}
		c.Close()
	}
	close(stop)
	wg.Wait()
	if err := sw.Close(); err != nil {
		t.Error(err)
	}
	_ = l
}

// The caller chooses the IDs of ports; one that cannot be has no port afterwards.
func TestAddPortRefuses(t *testing.T) {
	l := New(t)
	for _, id := range []frame.PortID{l.Port("c1"), dataplane.MaxPorts, frame.NoPort} {
		p := porttest.New("late")
		if err := l.Switch.AddPort(id, porttest.Describe(p)); err == nil || p.Closed() {
			t.Errorf("port %d: %v, closed %t, want a refusal that leaves the port", id, err, p.Closed())
		}
	}
	const last = dataplane.MaxPorts - 1
	for range 2 { // a number that was given back may be given again
		if err := l.Switch.AddPort(last, porttest.Describe(porttest.New("last"))); err != nil {
			t.Fatal(err)
		}
		if err := l.Switch.RemovePort(last); err != nil {
			t.Fatal(err)
		}
	}
	l.Send("c1", UDP("c1", 1000, "10.1.0.12:2000", "still there"))
	l.Expect("c2")
}
