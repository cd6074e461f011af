package scenario

import (
	"context"
	"errors"
	"net/netip"
	"regexp"
	"time"

	"github.com/vswitch/vswitch/bench/gen"
	"github.com/vswitch/vswitch/bench/rig"
)

// observed is what it costs to look at the switch, with and without its flow table:
// its counters, read by Prometheus every second, against a daemon that was built
// without them and without captures; the ring of the newest frames; and captures of
// another container and of the one that sends, to a file, to nobody and to a full
// disk, against none.
func observed() (list []Scenario) {
	for _, side := range []struct{ ours, uncounted, ring, without string }{
		{rig.Userspace, rig.UncountedUserspace, rig.RingUserspace, ", no flow table"},
		{rig.VSwitch, rig.Uncounted, rig.Ring, ""},
	} {
		add := func(name, title string, s Scenario, atLeast float64) {
			g := goal{docker: atLeast}
			s.Name, s.Title = "observed, "+name+side.without, title+side.without
			s.Loads = []Load{frameRate(64, g), bulk(1, false, g, goal{})}
			for i := range s.Loads {
				s.Loads[i].Quick, s.Loads[i].Others = false, false
			}
			s.Finer, s.ends = 10, containers().ends
			list = append(list, s)
		}
		add("counted", "counted and scraped, against neither", Scenario{Baseline: side.uncounted, Subject: side.ours, Around: scraped}, 0.98)
		for _, c := range []struct {
			reader  rig.Reader
			atLeast float64
		}{{rig.ToFile, 0.97}, {rig.Stalled, 0.95}, {rig.FullDisk, 0.95}} {
			add("another "+string(c.reader), "beside a capture of another "+string(c.reader),
				Scenario{Baseline: side.ours, Subject: side.ours, Around: capturedBeside(c.reader)}, c.atLeast)
		}
		for _, reader := range []rig.Reader{rig.ToFile, rig.Stalled, rig.FullDisk} {
			add("itself "+string(reader), "captured "+string(reader),
				Scenario{Baseline: side.ours, Subject: side.ours, Around: captured(reader)}, 0)
		}
		add("ring", "with a ring of all ports", Scenario{Baseline: side.ours, Subject: side.ring}, 0)
	}
	return list
}

// scraped reads the subject's metrics every second, as often as nobody does.
func scraped(ctx context.Context, r *rig.Rig, subject bool) (func() error, error) {
	if !subject {
		return func() error { return nil }, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		for {
			if _, err := r.Scrape(ctx); err != nil && ctx.Err() == nil {
				done <- err
				return
			}
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-time.After(time.Second):
			}
		}
	}()
	return func() error { cancel(); return <-done }, nil
}

// besideRate is what the captured container sends, frames a second.
const besideRate = 1000

// capturedBeside has two more containers talk, and captures one of them for the
// subject.
func capturedBeside(reader rig.Reader) func(context.Context, *rig.Rig, bool) (func() error, error) {
	return func(ctx context.Context, r *rig.Rig, subject bool) (func() error, error) {
		c, err := r.Further(ctx, "c")
		if err != nil {
			return nil, err
		}
		d, err := r.Further(ctx, "d")
		if err != nil {
			return nil, err
		}
		talk := func(ctx context.Context, rate float64, window time.Duration) error {
			_, err := gen.Frames(ctx, c.NS, gen.FrameSpec{
				Ifname: c.Ifname, Src: c.MAC, Dst: d.MAC, From: netip.AddrPortFrom(c.Addr, framePort), To: netip.AddrPortFrom(d.Addr, gen.DiscardPort),
				Size: 64, Rate: rate,
			}, window)
			return err
		}
		end := func() error { return nil }
		if subject {
			if end, err = r.Capture(ctx, "c", reader); err != nil {
				return nil, err
			}
			if reader == rig.Stalled {
				if err := overflow(ctx, r, func() error { return talk(ctx, 0, 100*time.Millisecond) }); err != nil {
					return nil, errors.Join(err, end())
				}
			}
		}
		ctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			err := talk(ctx, besideRate, time.Minute)
			if ctx.Err() != nil {
				err = nil
			}
			done <- err
		}()
		// The agent is a process that has to start.
		err = sleep(ctx, 50*time.Millisecond)
		return func() error { cancel(); return errors.Join(<-done, end()) }, err
	}
}

// captured captures the sender.
func captured(reader rig.Reader) func(context.Context, *rig.Rig, bool) (func() error, error) {
	return func(ctx context.Context, r *rig.Rig, subject bool) (func() error, error) {
		if !subject {
			return func() error { return nil }, nil
		}
		return r.Capture(ctx, "a", reader)
	}
}

var lostFrames = regexp.MustCompile(`(?m)^vswitch_capture_lost_frames_total .*$`)

// overflow sends until captures lose frames: only one that is full is stalled.
func overflow(ctx context.Context, r *rig.Rig, send func() error) error {
	was := ""
	for range 50 {
		text, err := r.Scrape(ctx)
		if err != nil {
			return err
		}
		is := lostFrames.FindString(text)
		if was != "" && is != was {
			return nil
		}
		was = is
		if err := send(); err != nil {
			return err
		}
	}
	return errors.New("a capture that nobody reads loses no frames")
}
