package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
)

// The loss search is the throughput test of RFC 2544, section 26.1, with the
// bounds that a software switch and a short run need: a thousandth of the
// frames may be lost, where the RFC allows none, and a trial takes a part of
// the window, where it asks for 60 seconds.
const (
	lossAllowed  = 0.001
	searchTrials = 7 // the last step is 1/128 of the first rate
	shortest     = 100 * time.Millisecond
)

// lossless finds the highest rate at which next to nothing is lost.
func lossless(size int, g goal) Load {
	name := fmt.Sprintf("%d-byte frames without loss", size)
	return Load{
		Name:     name,
		Measures: []report.Measure{{Name: name, Unit: report.FramesPerSec, Bound: g.docker}},
		Quick:    size == 64, plain: g.plain,
		run: func(ctx context.Context, e ends, window time.Duration) ([]float64, error) {
			if e.frames == nil {
				return nil, errNoFrames
			}
			rate, err := search(func(rate float64) (trial, error) {
				return e.frames.send(ctx, gen.FrameSpec{Size: size, Rate: rate}, max(window/4, shortest))
			})
			return []float64{rate}, err
		},
	}
}

// search halves the interval between a rate that passes and one that does not.
// The rates are those that the generator reached, not those it was asked for.
func search(send func(rate float64) (trial, error)) (float64, error) {
	first, err := send(0)
	if err != nil {
		return 0, err
	}
	if first.loss() <= lossAllowed {
		return first.sent.PerSecond(), nil
	}
	low, high := 0.0, first.sent.PerSecond()
	for range searchTrials {
		t, err := send((low + high) / 2)
		if err != nil {
			return 0, err
		}
		if t.loss() <= lossAllowed {
			low = max(low, t.sent.PerSecond())
		} else {
			high = (low + high) / 2
		}
	}
	if low == 0 {
		return 0, fmt.Errorf("frames are lost at every rate down to %.0f per second", high)
	}
	return low, nil
}
