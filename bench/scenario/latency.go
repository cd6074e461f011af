package scenario

import (
	"context"
	"errors"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
)

// lowRate is one at which every frame finds everybody asleep; stamps is the
// number of frames per second that are timed at the higher rate.
const lowRate, stamps = 1000, 2000

// latency is the time that a frame takes from the sender's system call to the
// receiver's interface, at a low rate or at half of what the same system
// delivers at full speed.
func latency(busy bool) Load {
	name := "latency at 1,000 frames/s"
	if busy {
		name = "latency at half its rate"
	}
	return Load{
		Name: name,
		Measures: []report.Measure{
			{Name: name + ": p50", Unit: report.Seconds, LowerIsBetter: true},
			{Name: name + ": p99", Unit: report.Seconds, LowerIsBetter: true, Detail: true},
		},
		Quick: busy,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			if e.frames == nil {
				return nil, errNoFrames
			}
			l, err := e.frames.latency(ctx, busy, window)
			return []float64{l.P50.Seconds(), l.P99.Seconds()}, err
		},
	}
}

func (f *frameEnds) latency(ctx context.Context, busy bool, window time.Duration) (l gen.Latency, err error) {
	spec := gen.FrameSpec{Size: 64, Rate: lowRate, Stamp: lowRate}
	if busy {
		t, err := f.send(ctx, gen.FrameSpec{Size: 64}, max(window/4, shortest))
		if err != nil {
			return l, err
		}
		spec.Rate, spec.Stamp = t.delivered()/2, stamps
	}
	var c *gen.Clock
	err = f.receiver.Do(func() error { c, err = gen.OpenClock(f.receiverIfname); return err })
	if err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if _, err := f.send(ctx, spec, window); err != nil {
		return l, err
	}
	return c.Read()
}
