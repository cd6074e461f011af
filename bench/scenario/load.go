package scenario

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
)

// goal are targets of one measure: ratios to Docker's bridge and rules, and to the kernel's bridge
// that netfilter does not see; 0 for none.
type goal struct{ docker, plain float64 }

// bounds are the targets of a path.
type bounds struct {
	sameCPU, twoCPUs, free goal // connect+request
	requests               goal // request/response on one CPU, TCP and UDP
	bulk                   goal // on one CPU, and by eight streams
	cpu                    goal // of bulk on one CPU
	spun                   goal // connect+request on one CPU beside spinning processes
}

// loads are those that every path can carry, in the order they are shown. Pinned rows decide:
// left alone the scheduler pulls both ends to one CPU or not, by chance, and a round trip then takes
// 10 or 60 us.
func (b bounds) loads() []Load {
	same := func(l Load) Load { return placed(l, oneCPU) }
	return []Load{
		same(connections(b.sameCPU)), aside(placed(connections(b.twoCPUs), twoCPUs)), short(aside(connections(b.free))),
		same(requestResponse(b.requests)), aside(placed(requestResponse(goal{}), twoCPUs)), aside(requestResponse(goal{})),
		same(udpRequestResponse(b.requests)), udpRequestResponse(goal{}),
		long(same(bulk(1, false, b.bulk, b.cpu))), short(aside(bulk(1, false, goal{}, goal{}))), bulk(1, true, goal{}, goal{}),
		bulk(8, false, b.bulk, goal{}), bulk(8, true, goal{}, goal{}),
		besideSpinning(same(connections(b.spun))),
	}
}

// aside is l for the full table, and for kernel and subject only.
func aside(l Load) Load {
	l.Quick, l.Others = false, false
	return l
}

// short puts l into the short table, long takes it out.
func short(l Load) Load { l.Quick = true; return l }
func long(l Load) Load  { l.Quick = false; return l }

// place says on which CPUs the two ends of a load run.
type place int

const (
	anywhere place = iota
	oneCPU         // both on the first
	twoCPUs        // the client on the first, the server on the second
)

// placed is l in a place. Its rows say so.
func placed(l Load, at place) Load {
	l.place = at
	return l.named(l.Name + map[place]string{oneCPU: " @s", twoCPUs: " @x"}[at])
}

// named is l by another name, with which its measures' names begin.
func (l Load) named(name string) Load {
	measures := append([]report.Measure(nil), l.Measures...)
	for i := range measures {
		measures[i].Name = name + measures[i].Name[len(l.Name):]
	}
	l.Name, l.Measures = name, measures
	return l
}

// besideSpinning is l while a process on each CPU takes what it gets.
func besideSpinning(l Load) Load {
	run := l.run
	l.run = func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
		for n := range runtime.NumCPU() {
			s, err := gen.Spin(ctx, e.client, n+1)
			if err != nil {
				return nil, err
			}
			defer s.Close()
		}
		return run(ctx, e, window)
	}
	return aside(l).named(l.Name + " beside spinning processes")
}

// bulk is a TCP transfer, to the server or, reverse, from it.
func bulk(streams int, reverse bool, rate, cpu goal) Load {
	name := "TCP bulk"
	send, port := gen.Bulk, uint16(gen.BulkPort)
	if reverse {
		name += " back"
		send, port = gen.Fetch, gen.SourcePort
	}
	if streams > 1 {
		name = fmt.Sprintf("%s, %d streams", name, streams)
	}
	first := streams == 1 && !reverse
	return Load{
		Name: name,
		Measures: []report.Measure{
			{Name: name, Unit: report.BitsPerSecond, Bound: rate.docker},
			{Name: name + ": CPU, whole machine", Unit: report.SecondsPerGB, LowerIsBetter: true, Bound: cpu.docker, Detail: !first},
		},
		Quick: first, Others: first, plain: rate.plain,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			t, err := send(ctx, e.from(), e.target(port), window, streams)
			if err != nil {
				return nil, err
			}
			return []float64{t.BitsPerSecond(), t.CPUPerGB()}, nil
		},
	}
}

// requestResponse bounces one byte on one connection.
func requestResponse(g goal) Load {
	const name = "TCP request/response"
	return Load{
		Name:     name,
		Measures: exchangeMeasures(name, g),
		Quick:    true, Others: true, plain: g.plain,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			x, err := gen.Ping(ctx, e.from(), e.target(gen.PingPort), window)
			return exchangeValues(x, err)
		},
	}
}

// udpRequestResponse bounces one byte in datagrams.
func udpRequestResponse(g goal) Load {
	const name = "UDP request/response"
	return Load{
		Name:     name,
		Measures: exchangeMeasures(name, g),
		plain:    g.plain,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			x, err := gen.UDPPing(ctx, e.from(), e.target(gen.PingPort), window)
			return exchangeValues(x, err)
		},
	}
}

// connections opens a connection for each byte.
func connections(g goal) Load {
	const name = "TCP connect+request"
	return Load{
		Name:     name,
		Measures: exchangeMeasures(name, g),
		Quick:    true, Others: true, plain: g.plain, Connects: true,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			x, err := gen.Connect(ctx, e.from(), e.target(gen.ConnectPort), window)
			return exchangeValues(x, err)
		},
	}
}

// visited is how many short connections a second all of a crowd begin together.
const visited = 10_000

// crowded has each of a crowd of containers connect now and then.
func crowded(g goal) Load {
	name := fmt.Sprintf("%d short connections a second", visited)
	return Load{
		Name: name,
		Measures: []report.Measure{
			{Name: name, Unit: report.PerSecond, Bound: g.docker},
			{Name: name + ": CPU, whole machine", Unit: report.Seconds, LowerIsBetter: true},
			{Name: name + ": failed", Unit: report.PerSecond, LowerIsBetter: true, Detail: true},
		},
		plain: g.plain, Connects: true,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			all := make([]gen.Exchanges, len(e.crowd))
			var g errgroup.Group
			used := gen.Use()
			for i, c := range e.crowd {
				g.Go(func() (err error) {
					all[i], err = gen.Visits(ctx, c, e.target(gen.ConnectPort), visited/float64(len(e.crowd)), window)
					return err
				})
			}
			err := g.Wait()
			cpu, failed := used()
			if err = errors.Join(err, failed); err != nil {
				return nil, err
			}
			made, refused := 0, 0
			for _, x := range all {
				made, refused = made+x.Count, refused+x.Failed
			}
			return []float64{float64(made) / window.Seconds(), cpu.Seconds(), float64(refused) / window.Seconds()}, nil
		},
	}
}

func exchangeMeasures(name string, g goal) []report.Measure {
	return []report.Measure{
		{Name: name, Unit: report.PerSecond, Bound: g.docker},
		{Name: name + ": p50", Unit: report.Seconds, LowerIsBetter: true, Detail: true},
		{Name: name + ": p99", Unit: report.Seconds, LowerIsBetter: true, Detail: true},
		{Name: name + ": p99.9", Unit: report.Seconds, LowerIsBetter: true, Detail: true},
	}
}

func exchangeValues(x gen.Exchanges, err error) ([]float64, error) {
	if err != nil {
		return nil, err
	}
	return []float64{x.PerSecond(), x.P50.Seconds(), x.P99.Seconds(), x.P999.Seconds()}, nil
}
