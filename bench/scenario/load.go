package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
)

// bounds are the targets of a scenario: ratios to the kernel, 0 for none.
type bounds struct {
	bulk, cpu, requests, p99, connections, frames64 float64
}

// loads are those that every path can carry, in the order they are shown.
func (b bounds) loads() []Load {
	return []Load{
		bulk(1, false, b), bulk(1, true, b), bulk(8, false, b), bulk(8, true, b),
		requestResponse(b), connections(b), udpRequestResponse(),
	}
}

// bulk is a TCP transfer, to the server or, reverse, from it.
func bulk(streams int, reverse bool, b bounds) Load {
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
			{Name: name, Unit: report.BitsPerSecond, Bound: b.bulk},
			{Name: name + ": CPU, whole machine", Unit: report.SecondsPerGB, LowerIsBetter: true, Bound: b.cpu, Detail: !first},
		},
		Quick: first, Others: first,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			t, err := send(ctx, e.client, e.target(port), window, streams)
			if err != nil {
				return nil, err
			}
			return []float64{t.BitsPerSecond(), t.CPUPerGB()}, nil
		},
	}
}

// requestResponse bounces one byte on one connection.
func requestResponse(b bounds) Load {
	const name = "TCP request/response"
	return Load{
		Name:     name,
		Measures: exchangeMeasures(name, b.requests, b.p99),
		Quick:    true, Others: true,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			x, err := gen.Ping(ctx, e.client, e.target(gen.PingPort), window)
			return exchangeValues(x, err)
		},
	}
}

// udpRequestResponse bounces one byte in datagrams.
func udpRequestResponse() Load {
	const name = "UDP request/response"
	return Load{
		Name:     name,
		Measures: exchangeMeasures(name, 0, 0),
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			x, err := gen.UDPPing(ctx, e.client, e.target(gen.PingPort), window)
			return exchangeValues(x, err)
		},
	}
}

// connections opens a connection for each byte.
func connections(b bounds) Load {
	const name = "TCP connect+request"
	return Load{
		Name:     name,
		Measures: exchangeMeasures(name, b.connections, 0),
		Quick:    true, Others: true,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			x, err := gen.Connect(ctx, e.client, e.target(gen.ConnectPort), window)
			return exchangeValues(x, err)
		},
	}
}

func exchangeMeasures(name string, atLeast, p99 float64) []report.Measure {
	return []report.Measure{
		{Name: name, Unit: report.PerSecond, Bound: atLeast},
		{Name: name + ": p50", Unit: report.Seconds, LowerIsBetter: true, Detail: true},
		{Name: name + ": p99", Unit: report.Seconds, LowerIsBetter: true, Bound: p99, Detail: p99 == 0},
		{Name: name + ": p99.9", Unit: report.Seconds, LowerIsBetter: true, Detail: true},
	}
}

func exchangeValues(x gen.Exchanges, err error) ([]float64, error) {
	if err != nil {
		return nil, err
	}
	return []float64{x.PerSecond(), x.P50.Seconds(), x.P99.Seconds(), x.P999.Seconds()}, nil
}
