package control_test

import (
	"context"

	"github.com/vswitch/vswitch/control"
	"github.com/vswitch/vswitch/control/daemon"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/holder"
)

func init() {
	control.RunDaemon = func(ctx context.Context, runDir string, cfg control.Config, open func(*holder.Holder) (edge.Edge, error)) error {
		return daemon.Run(ctx, daemon.Config{Config: cfg, RunDir: runDir, OpenEdge: open})
	}
}
