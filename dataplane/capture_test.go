package dataplane_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/pcapfilter"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/filter"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

func compiled(t testing.TB, expr string) *filter.Program {
	t.Helper()
	prog, err := pcapfilter.Compile(expr, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := filter.New(prog)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func openCapture(t testing.TB, l *Lab, cfg dataplane.CaptureConfig, ports ...string) *dataplane.Capture {
	t.Helper()
	for _, p := range ports {
		cfg.Ports = append(cfg.Ports, l.Port(p))
	}
	c, err := dataplane.StartCapture(l.Switch, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// all ends a capture and returns what it holds.
func all(t testing.TB, c *dataplane.Capture) (list []dataplane.CaptureRecord) {
	t.Helper()
	c.Close()
	for {
		r, ok, err := c.Next(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return list
		}
		list = append(list, r)
	}
}

// tell prints what matters of a record: point, port, fate, translation.
func tell(l *Lab, r dataplane.CaptureRecord) string {
	name := func(id frame.PortID) string {
		for n := range Stations {
			if l.Port(n) == id {
				return n
			}
		}
		return "-"
	}
	v := r.Verdict
	s := fmt.Sprintf("%s %s: %s>%s", r.Point, name(r.Port), name(v.In), name(v.Out))
	switch v.Fate {
	case dataplane.FateSent:
		s += fmt.Sprintf(" sent %d", v.Copies)
	case dataplane.FateDropped:
		s += " " + v.Reason.String()
	case dataplane.FateAnswered:
		s += " answered"
	case dataplane.FateHeld:
		s += " held"
	case dataplane.FateOwn:
		s += " own"
	}
	if v.Translated {
		s += fmt.Sprintf(" %s %s:%d>%s:%d = %s:%d>%s:%d", v.Kind, v.From.Src, v.From.SrcPort, v.From.Dst, v.From.DstPort, v.To.Src, v.To.SrcPort, v.To.Dst, v.To.DstPort)
	}
	return s
}

// The record of each point says what was decided about the frame.
func TestCaptureTellsTheVerdict(t *testing.T) {
	for name, tc := range map[string]struct {
		from string
		f    []byte
		want []string
	}{
		"published": {"up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, ""), []string{
			"rx up: up>c1 sent 1 publish 203.0.113.9:4000>198.51.100.1:8080 = 203.0.113.9:4000>10.1.0.11:80",
			"prenat up: up>c1 sent 1 publish 203.0.113.9:4000>198.51.100.1:8080 = 203.0.113.9:4000>10.1.0.11:80",
			"postnat c1: up>c1 sent 1 publish 203.0.113.9:4000>198.51.100.1:8080 = 203.0.113.9:4000>10.1.0.11:80",
			"tx c1: up>c1 sent 1 publish 203.0.113.9:4000>198.51.100.1:8080 = 203.0.113.9:4000>10.1.0.11:80",
		}},
		"unclaimed": {"up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":9", SYN, ""), []string{
			"rx up: up>- prerouting-unclaimed", "drop up: up>- prerouting-unclaimed",
		}},
		"bridged": {"c1", l2(MAC("c2"), MAC("c1"), "x"), []string{"rx c1: c1>c2 sent 1", "tx c2: c1>c2 sent 1"}},
		"flooded": {"c1", l2(header.Broadcast, MAC("c1"), "x"), []string{
			"rx c1: c1>host1 sent 3", "tx host1: c1>host1 sent 3", "tx c2: c1>host1 sent 3", "tx c3: c1>host1 sent 3",
		}},
		"malformed": {"c1", append(l2(MAC("c2"), MAC("c1"), "")[:12], 8, 0, 0x45), []string{"rx c1: c1>- parse-malformed", "drop c1: c1>- parse-malformed"}},
		"refused": {"c1", UDP("c1", 5000, "10.2.0.11:53", "x"), []string{
			"rx c1: c1>- route-isolated", "drop c1: c1>- route-isolated", "tx c1: ->c1 own",
		}},
		"to the host": {"c1", UDP("c1", 5000, "10.1.0.1:53", "x"), []string{"rx c1: c1>host1 sent 1", "tx host1: c1>host1 sent 1"}},
		"hairpin": {"c2", TCP("c2", 5000, HostAddr+":8080", SYN, ""), []string{
			"rx c2: c2>c1 sent 1 hairpin 10.1.0.12:5000>198.51.100.1:8080 = 198.51.100.1:P>10.1.0.11:80",
			"prenat c2: c2>c1 sent 1 hairpin 10.1.0.12:5000>198.51.100.1:8080 = 198.51.100.1:P>10.1.0.11:80",
			"postnat c1: c2>c1 sent 1 hairpin 10.1.0.12:5000>198.51.100.1:8080 = 198.51.100.1:P>10.1.0.11:80",
			"tx c1: c2>c1 sent 1 hairpin 10.1.0.12:5000>198.51.100.1:8080 = 198.51.100.1:P>10.1.0.11:80",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			l := New(t)
			l.Publish(8080, "c1", 80)
			for _, s := range []string{"c1", "c2", "c3"} { // known stations
				l.Send(s, l2(MAC("host1"), MAC(s), "x"))
			}
			c := openCapture(t, l, dataplane.CaptureConfig{Points: dataplane.AllPoints}, "c1", "c2", "c3", "c4", "host1", "up")
			l.Send(tc.from, bytes.Clone(tc.f))
			var got []string
			for _, r := range all(t, c) {
				if v := r.Verdict; v.Kind == conntrack.KindHairpin && v.Translated {
					got = append(got, strings.Replace(tell(l, r), fmt.Sprint(":", v.To.SrcPort, ">10"), ":P>10", 1))
					continue
				}
				got = append(got, tell(l, r))
			}
			if a, b := strings.Join(got, "\n"), strings.Join(tc.want, "\n"); a != b {
				t.Errorf("got\n%s\nwant\n%s", a, b)
			}
		})
	}
}

// Before and after the translation the bytes are those of that place.
func TestCaptureBeforeAndAfterNAT(t *testing.T) {
	l := New(t)
	c := openCapture(t, l, dataplane.CaptureConfig{Points: 1<<dataplane.PointPreNAT | 1<<dataplane.PointPostNAT}, "c1")
	l.Send("c1", UDP("c1", 5000, web, "ping"))
	out := See(t, l.Expect("up"))
	got := all(t, c)
	if len(got) != 2 {
		t.Fatalf("%d records, want one before and one after", len(got))
	}
	if s := See(t, got[0].Data); s.From() != "10.1.0.11:5000" || s.To() != web {
		t.Errorf("before: %+v", s)
	}
	if s := See(t, got[1].Data); s.From() != out.From() || s.To() != web {
		t.Errorf("after: %+v, want what went out, %+v", s, out)
	}
	CheckSums(t, got[1].Data)
}

// What is asked for by name is taken, of each point, and nothing else; the
// filter sees the tag that the vlan stage takes out.
func TestCaptureFilters(t *testing.T) {
	l := New(t)
	l.Configure("c3", func(p *dataplane.PortConfig) {
		p.Trunk, p.VLAN = []dataplane.VLANRange{{First: 10, Last: 10}}, 5
	})
	tagged := func(vlan byte, f []byte) []byte {
		return append(append(bytes.Clone(f[:12]), 0x81, 0, 0, vlan), f[12:]...)
	}
	for expr, want := range map[string]int{"": 4, "vlan": 2, "vlan 10": 2, "vlan and udp": 2, "udp": 0, "arp": 0, "vlan 11": 0} {
		c := openCapture(t, l, dataplane.CaptureConfig{Points: 1<<dataplane.PointRx | 1<<dataplane.PointDrop, Filter: compiled(t, expr)}, "c3")
		l.Send("c3", tagged(10, Bytes(Packet{EthSrc: MAC("c3"), EthDst: MAC("host1"), Src: "127.0.0.1:5", Dst: web, Proto: header.ProtoUDP})))
		l.Send("c3", l2(MAC("c3"), MAC("c3"), "to itself"))
		got := all(t, c)
		if len(got) != want {
			t.Errorf("%q: %d records, want %d: %v", expr, len(got), want, l.Drops())
		}
		for _, r := range got {
			if strings.HasPrefix(expr, "vlan") && (r.Data[12] != 0x81 || r.Data[15] != 10) {
				t.Errorf("%q, %s: the tag is not in its place: % x", expr, r.Point, r.Data[:20])
			}
		}
	}
}

// A port that comes while a capture runs is taken from there on.
func TestCaptureFiltersByDirection(t *testing.T) {
	for expr, want := range map[string][]string{
		"outbound":        {"postnat c1", "tx c1"},
		"inbound":         {"rx up", "prenat up"},
		"inbound and udp": nil,
		"outbound or tcp": {"rx up", "prenat up", "postnat c1", "tx c1"},
		"not outbound":    {"rx up", "prenat up"},
	} {
		l := New(t)
		l.Publish(8080, "c1", 80)
		c := openCapture(t, l, dataplane.CaptureConfig{Points: dataplane.AllPoints, Filter: compiled(t, expr)}, "up", "c1")
		l.Send("up", Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, ""))
		var got []string
		for _, r := range all(t, c) {
			at, _, _ := strings.Cut(tell(l, r), ":")
			got = append(got, at)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}

// A reader that dozes is woken before its capture is full.
func TestDozeEndsWhenThereIsMuch(t *testing.T) {
	l := New(t)
	c := openCapture(t, l, dataplane.CaptureConfig{BufferBytes: 200_000}, "c1")
	done := make(chan time.Duration, 1)
	start := time.Now()
	go func() {
		c.Doze(time.Minute)
		done <- time.Since(start)
	}()
	for i := 0; ; i++ {
		select {
		case <-done:
			if c.Dropped() > 0 || i == 0 {
				t.Errorf("woken after %d frames, %d lost", i, c.Dropped())
			}
			return
		case <-time.After(time.Millisecond):
		}
		if i < 1000 { // of 184 bytes: an eighth are 136
			l.Send("c1", l2(MAC("c2"), MAC("c1"), "forty-six bytes of payload make the smallest one"))
		} else if time.Since(start) > 20*time.Second {
			t.Fatal("nobody woke the reader")
		}
	}
}

func TestCaptureOfALaterPort(t *testing.T) {
	l := New(t)
	c := openCapture(t, l, dataplane.CaptureConfig{Points: 1 << dataplane.PointRx})
	l.Send("c1", UDP("c1", 5000, web, "before"))
	c.SetPorts([]frame.PortID{l.Port("c1")})
	l.Send("c1", UDP("c1", 5000, web, "within"))
	c.SetPorts(nil)
	l.Send("c1", UDP("c1", 5000, web, "after"))
	got := all(t, c)
	if len(got) != 1 || See(t, got[0].Data).Payload != "within" {
		t.Errorf("got %d records, want one, of the time it had the port", len(got))
	}
	if taken, lost := c.Counts(l.Port("c1"), dataplane.PointRx); taken != 1 || lost != 0 {
		t.Errorf("counted %d, lost %d, want 1, 0", taken, lost)
	}
}

// A recorder holds the newest frames, whatever their number and sizes, and can
// be read while it goes on.
func TestRecorder(t *testing.T) {
	l := New(t)
	c := openCapture(t, l, dataplane.CaptureConfig{Points: 1 << dataplane.PointRx, Recorder: true, BufferBytes: 140_000}, "c1")
	recent := func() (list []string) {
		c.Recent(time.Time{}, func(r dataplane.CaptureRecord) bool {
			list = append(list, strings.TrimRight(See(t, r.Data).Payload, "."))
			return true
		})
		return list
	}
	if got := recent(); len(got) != 0 {
		t.Errorf("at first %q", got)
	}
	for i := range 2000 {
		l.Send("c1", UDP("c1", 5000, web, fmt.Sprint(i)+strings.Repeat(".", i*37%1400)))
		l.Got("up")
		if i%97 != 0 && i != 1999 {
			continue
		}
		got := recent()
		for j, s := range got {
			if s != fmt.Sprint(i-len(got)+1+j) {
				t.Fatalf("after %d: record %d of %d is %q", i, j, len(got), s)
			}
		}
		if len(got) != i+1 && len(got) < 100 {
			t.Fatalf("after %d only %d are kept", i, len(got))
		}
	}
	if c.Dropped() != 0 {
		t.Errorf("%d lost, want none", c.Dropped())
	}
	l.Advance(time.Minute)
	l.Send("c1", UDP("c1", 5000, web, "late"))
	all, late := 0, 0
	c.Recent(time.Time{}, func(dataplane.CaptureRecord) bool { all++; return true })
	c.Recent(time.Now().Add(30*time.Second), func(dataplane.CaptureRecord) bool { late++; return true })
	if all < 100 || late != 1 {
		t.Errorf("%d in all, %d of the last seconds, want 1", all, late)
	}
}

// The whole turn allocates nothing beside a capture that wants none of its
// frames, of every point of every port, and one that nobody reads.
func TestTurnNoAllocsUnderCapture(t *testing.T) {
	l := New(t)
	l.Publish(8080, "c1", 80)
	every := []string{"c1", "c2", "c3", "c4", "c5", "host1", "up"}
	none := openCapture(t, l, dataplane.CaptureConfig{Points: dataplane.AllPoints, Filter: compiled(t, "tcp port 4 and host 10.1.0.1 or vlan")}, every...)
	openCapture(t, l, dataplane.CaptureConfig{Points: dataplane.AllPoints}, every...)
	frames := map[string][]byte{
		"c1": UDP("c1", 5000, web, "masquerade"),
		"c2": l2(MAC("c3"), MAC("c2"), "bridged"),
		"c3": l2(header.Broadcast, MAC("c3"), "flooded"),
		"c4": UDP("c4", 5000, HostAddr+":8080", "hairpin"),
		"c5": UDP("c5", 5000, "10.1.0.11:53", "refused"),
		"up": Inbound(header.ProtoTCP, World+":4000", HostAddr+":8080", SYN, "published"),
	}
	const turns = 20
	for name, f := range frames {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
		for range (turns + 5) * frame.BatchSize {
			l.Memory(name).Inject(f, frame.Offload{})
		}
	}
	l.Memory("host1").SetSink(func([]byte, frame.Offload) {})
	for range 4 {
		l.Switch.Step()
	}
	if allocs := testing.AllocsPerRun(turns, func() { l.Switch.Step() }); allocs != 0 {
		t.Errorf("%v allocations in a turn of each port, want none", allocs)
	}
	if got := all(t, none); len(got) != 0 {
		t.Errorf("%d frames passed a filter for none", len(got))
	}
}
