package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vswitch/vswitch/bench/report"
	"github.com/vswitch/vswitch/bench/rig"
)

// publish publishes a range of 50,001 ports in one request.
func publish(ctx context.Context, opt rig.Options, _ Extent) (found Findings, err error) {
	const first, last = 10000, 60000
	r, err := rig.Build(ctx, rig.VSwitch, opt)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	before, err := r.RSS()
	if err != nil {
		return found, err
	}
	start := time.Now()
	_, err = r.API.Publish(ctx, "a", []string{fmt.Sprintf("%d-%d:%d-%d/tcp", first, last, first, last)})
	took := time.Since(start)
	if err != nil {
		return found, fmt.Errorf("publish %d-%d: %w", first, last, err)
	}
	after, err := r.RSS()
	if err != nil {
		return found, err
	}
	const title = "publish 50,001 ports"
	found.Figures = []report.Figure{
		figure("publish", title, "time", report.Seconds, 50e-3, took.Seconds(), "one range, over the API"),
		figure("publish", title, "RSS growth", report.Bytes, 5e6, float64(after)-float64(before), "right after"),
	}
	return found, nil
}
