package rig

import (
	"context"

	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/control/api"
)

// Counts are what has come in at all ports, and what of it the kernel's side has carried; zero
// where there is no daemon.
func (r *Rig) Counts(ctx context.Context) (c report.Counts) {
	if r.API == nil {
		return c
	}
	st, err := r.API.Stats(ctx, api.StatsQuery{})
	if err != nil {
		return c // the row has no share then
	}
	for _, p := range st.Ports {
		c.Came += p.RxFrames
	}
	c.Carried = st.Flows.Frames
	return c
}
