package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/control/api"
)

// pacedRate is that of the flow whose frames are counted, bits per second.
const pacedRate = 300e6

// carried is which share of a flow's frames the kernel's side carries while nothing
// happens, and beside changes that do not concern it. The flow is one between two
// containers, then one that is masqueraded.
func carried(ctx context.Context, opt rig.Options, x Extent) (found Findings, err error) {
	r, err := rig.Build(ctx, rig.VSwitch, opt)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	window := 4 * x.Window
	if x.Quick {
		window = 2 * x.Window // each change begins with the first, and is undone after the last
	}
	for _, flow := range []struct {
		path   Scenario
		enters func(api.PortStats) bool
	}{
		{containers(), func(p api.PortStats) bool { return p.Container == "a" || p.Container == "b" }},
		{masquerade(), func(p api.PortStats) bool { return p.Container == "a" || p.Kind == "uplink" }},
	} {
		figures, err := carriedOn(ctx, r, flow.path, flow.enters, window)
		found.Figures = append(found.Figures, figures...)
		if err != nil {
			return found, fmt.Errorf("%s: %w", flow.path.Name, err)
		}
	}
	for _, s := range []Scenario{containers(), published()} {
		for _, n := range x.of([]int{1000}, []int{1000, 20_000}) {
			f, err := carriedOf(ctx, r, s, n, window)
			if err != nil {
				return found, fmt.Errorf("%d flows, %s: %w", n, s.Name, err)
			}
			found.Figures = append(found.Figures, f...)
		}
	}
	return found, nil
}

// worthMany is how many frames of each of many flows are sent before it is asked which share of the
// next ones is carried: some more than make a flow worth a row.
const worthMany = 40

// memoryOfFlow is what a flow takes of the daemon: a connection, two rows and their entries.
const memoryOfFlow = 3e3

// carriedOf is which share of the frames of so many equal flows is carried on the path of s, one
// frame of each in turn, and how much the daemon grows by them.
func carriedOf(ctx context.Context, r *rig.Rig, s Scenario, n int, window time.Duration) (f []report.Figure, err error) {
	e, err := s.ends(r)
	if err != nil {
		return f, err
	}
	idle, err := r.RSS()
	if err != nil {
		return f, err
	}
	spec := gen.FrameSpec{Size: 64, Flows: n, Frames: uint64(worthMany * n)}
	if _, err := e.frames.send(ctx, spec, time.Minute); err != nil {
		return f, err
	}
	spec.Frames = 0
	before := r.Counts(ctx)
	if _, err := e.frames.send(ctx, spec, window); err != nil {
		return f, err
	}
	c := r.Counts(ctx).Since(before)
	if c.Came == 0 {
		return f, errors.New("no frame came in")
	}
	rss, err := r.RSS()
	if err != nil {
		return f, err
	}
	title, name := "share carried of equal flows, "+s.Title, fmt.Sprintf("%d flows", n)
	return []report.Figure{{
		Scenario: "carried", Title: title,
		Measure: report.Measure{Name: name, Unit: report.Share, Bound: 0.95},
		Value:   min(1, float64(c.Carried)/float64(c.Came)), Note: fmt.Sprintf("%d of %d frames", c.Carried, c.Came),
	}, figure("carried", title, name+", RSS growth", report.Bytes, float64(n)*memoryOfFlow+4e6, float64(rss)-float64(idle), "of the daemon")}, nil
}

// carriedOn is carried for a flow on the path of s, whose frames come in by the ports
// that enters knows.
func carriedOn(ctx context.Context, r *rig.Rig, s Scenario, enters func(api.PortStats) bool, window time.Duration) (figures []report.Figure, err error) {
	e, err := s.ends(r)
	if err != nil {
		return nil, err
	}
	flowing, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := gen.Paced(flowing, e.client, e.target(gen.BulkPort), pacedRate, time.Hour)
		if flowing.Err() != nil {
			err = nil
		}
		done <- err
	}()
	defer func() { stop(); err = errors.Join(err, <-done) }()
	// The agent starts, and TCP finds its pace.
	if err := sleep(ctx, time.Second/2); err != nil {
		return nil, err
	}
	for _, c := range append([]change{{name: "quiet"}}, changes()...) {
		f := report.Figure{
			Scenario: "carried", Title: "share carried beside changes, " + s.Title,
			Measure: report.Measure{Name: c.name, Unit: report.Share, Bound: 0.95},
		}
		if f.Value, f.Note, err = share(ctx, r, c, enters, window); err != nil {
			return figures, err
		}
		figures = append(figures, f)
	}
	return figures, nil
}

// share is the share that is carried while c happens.
func share(ctx context.Context, r *rig.Rig, c change, enters func(api.PortStats) bool, window time.Duration) (value float64, note string, err error) {
	before, err := r.API.Stats(ctx, api.StatsQuery{})
	if err != nil {
		return 0, "", err
	}
	made := 0
	end := func() (int, error) { return 0, nil }
	if c.do != nil {
		end = c.beside(ctx, r)
	}
	err = sleep(ctx, window)
	made, failed := end()
	if err = errors.Join(err, failed); err != nil {
		return 0, "", err
	}
	after, err := r.API.Stats(ctx, api.StatsQuery{})
	if err != nil {
		return 0, "", err
	}
	came := framesIn(after, enters) - framesIn(before, enters)
	if came == 0 {
		return 0, "", errors.New("no frame of the flow came in")
	}
	carried := after.Flows.Frames - before.Flows.Frames
	return float64(carried) / float64(came), fmt.Sprintf("%d of %d frames, %d changes in %v", carried, came, made, window), nil
}

// framesIn is how many frames came in by the ports that enters knows.
func framesIn(st api.Stats, enters func(api.PortStats) bool) (frames uint64) {
	for _, p := range st.Ports {
		if enters(p) {
			frames += p.RxFrames
		}
	}
	return frames
}
