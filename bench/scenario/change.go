package scenario

import (
	"context"
	"fmt"
	"time"

	"github.com/vswitch/vswitch/bench/rig"
	"github.com/vswitch/vswitch/internal/netlab"
)

// change is something that happens beside a load and does not concern it: do and undo
// in turn, one of them every so often.
type change struct {
	name     string
	every    time.Duration
	do, undo func(context.Context, *rig.Rig) error
}

// Nothing below is an address or a port that a load uses.
const (
	unusedAddr  = "192.0.2.5/32"
	unusedRoute = "192.0.2.128/25"
	unusedPort  = "9000:9000"
)

// visits are a container that is attached and detached, so many of both a second.
func visits(name string, perSecond int) change {
	return change{
		name: name, every: time.Second / time.Duration(perSecond),
		do: func(ctx context.Context, r *rig.Rig) error {
			v, err := r.Visitor()
			if err != nil {
				return err
			}
			return v.Attach(ctx)
		},
		undo: func(ctx context.Context, r *rig.Rig) error {
			v, err := r.Visitor()
			if err != nil {
				return err
			}
			return v.Detach(ctx)
		},
	}
}

const manyVisits = 10 // attaches and detaches a second

// changes are those of vswitch and of the host that it stands in.
func changes() []change {
	return []change{
		visits("an attach or a detach a second", 1),
		visits("10 attaches and detaches a second", manyVisits),
		{
			name: "an unrelated address of the uplink, 5 changes a second", every: time.Second / 5,
			do:   func(_ context.Context, r *rig.Rig) error { return r.World.Host.AddAddr("eth0", unusedAddr) },
			undo: func(_ context.Context, r *rig.Rig) error { return r.World.Host.DelAddr("eth0", unusedAddr) },
		},
		{
			name: "an unrelated route, 5 changes a second", every: time.Second / 5,
			do: func(_ context.Context, r *rig.Rig) error {
				return r.World.Host.AddRoute(unusedRoute, netlab.OutsideAddr, "eth0")
			},
			undo: func(_ context.Context, r *rig.Rig) error {
				return r.World.Host.DelRoute(unusedRoute, netlab.OutsideAddr, "eth0")
			},
		},
		{
			name: "an unrelated port published or withdrawn, 2 a second", every: time.Second / 2,
			do: func(ctx context.Context, r *rig.Rig) error {
				_, err := r.API.Publish(ctx, "a", []string{unusedPort})
				return err
			},
			undo: func(ctx context.Context, r *rig.Rig) error { return r.API.Unpublish(ctx, "a", []string{unusedPort}) },
		},
	}
}

// beside begins the changes. end lets the one that is under way come to its end,
// leaves r as it was, and says how many there were.
func (c change) beside(ctx context.Context, r *rig.Rig) (end func() (made int, err error)) {
	stop, ended := make(chan struct{}), make(chan struct{})
	var made int
	var err error
	go func() {
		defer close(ended)
		tick := time.NewTicker(c.every)
		defer tick.Stop()
		for steps := [2]func(context.Context, *rig.Rig) error{c.do, c.undo}; ; made++ {
			select {
			case <-stop:
				return
			default:
			}
			if err = steps[made%2](ctx, r); err != nil {
				return
			}
			select {
			case <-stop:
			case <-tick.C:
			}
		}
	}()
	return func() (int, error) {
		close(stop)
		<-ended
		if err == nil && made%2 == 1 {
			err = c.undo(context.WithoutCancel(ctx), r)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", c.name, err)
		}
		return made, err
	}
}

// changing is the path between two containers while others come and go as often on
// either side. What takes longer to attach must not have it easier: who makes less than
// half of the changes has no sample.
func changing() Scenario {
	s := containers()
	s.Name, s.Title, s.Others = "changing", "container to container, beside 10 attaches and detaches a second", nil
	s.Loads = []Load{bulk(1, false, goal{docker: 0.95}, goal{})}
	s.Around = visitedMeanwhile(s.Title)
	return s
}

func visitedMeanwhile(title string) func(context.Context, *rig.Rig, bool) (func() error, error) {
	return func(ctx context.Context, r *rig.Rig, _ bool) (func() error, error) {
		c := visits(title, manyVisits)
		start, end := time.Now(), c.beside(ctx, r)
		return func() error {
			took := time.Since(start)
			made, err := end()
			if want := int(took / c.every); err == nil && made < want/2 {
				err = fmt.Errorf("%s: %d of %d in %v", c.name, made, want, took)
			}
			return err
		}, nil
	}
}
