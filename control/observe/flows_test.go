package observe

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// What first keeps is the beginning of all that was sorted.
func TestFirstIsTheBeginningOfTheSorted(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 7, 100, 1000} {
		f := first[int]{n: n, order: func(a, b *int) int { return *a - *b }}
		var all []int
		for range 500 {
			v := r.IntN(300)
			all = append(all, v)
			f.add(&v)
		}
		slices.Sort(all)
		if n > 0 && n < len(all) {
			all = all[:n]
		}
		if got := f.sorted(); !slices.Equal(got, all) {
			t.Errorf("%d: got %v, want %v", n, got, all)
		}
	}
}

// withFlows is an observer of a switch in memory that tracks flows from outside.
func withFlows(tb testing.TB, flows int) (*Observer, *switchtest.Lab) {
	l := switchtest.NewSized(tb, 1<<18, nil)
	l.Publish(8080, "c1", 80)
	for name := range switchtest.Stations {
		l.Memory(name).SetSink(func([]byte, frame.Offload) {})
	}
	for i := range flows {
		from := fmt.Sprintf("203.0.%d.%d:%d", i>>16, 1+i>>9&127, 1024+i&0x1ff)
		l.Send("up", switchtest.Inbound(header.ProtoUDP, from, switchtest.HostAddr+":8080", 0, "x"))
		// With an answer it is no longer one of those that are limited.
		l.Send("c1", switchtest.UDP("c1", 80, from, "y"))
	}
	if n := l.Switch.Stats().Conns; n != flows {
		tb.Fatalf("%d flows are tracked, want %d", n, flows)
	}
	return &Observer{sw: l.Switch, dir: new(directory.Live)}, l
}

// BenchmarkFlows is what the ten busiest of 100,000 flows cost, and all of them; and
// how long a worker is kept from a turn meanwhile, at most.
func BenchmarkFlows(b *testing.B) {
	c, l := withFlows(b, 100_000)
	for _, limit := range []int{10, 0} {
		b.Run(fmt.Sprint("limit=", limit), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if n := count(b, c, limit); limit > 0 && n != limit {
					b.Fatalf("%d flows", n)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(slowestTurn(l, func() { count(b, c, limit) }).Microseconds()), "turn-us")
		})
	}
}

// count reads flows and says how many they are.
func count(tb testing.TB, c *Observer, limit int) (n int) {
	rows, err := c.Flows(tb.Context(), api.FlowQuery{Limit: limit})
	if err != nil {
		tb.Fatal(err)
	}
	for piece := range rows {
		n += len(piece)
	}
	return n
}

// slowestTurn is how long a turn with a new flow takes at most while something goes on.
func slowestTurn(l *switchtest.Lab, during func()) (most time.Duration) {
	end := make(chan struct{})
	go func() { during(); close(end) }()
	for i := 0; ; i++ {
		select {
		case <-end:
			return most
		default:
		}
		f := switchtest.Inbound(header.ProtoUDP, fmt.Sprintf("203.0.113.%d:%d", 1+i>>15&127, 1024+i&0x7fff), switchtest.HostAddr+":8080", 0, "x")
		l.Memory("up").Inject(f, frame.Offload{})
		start := time.Now()
		l.Switch.Step()
		most = max(most, time.Since(start))
	}
}
