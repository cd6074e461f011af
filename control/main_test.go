package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/edge/linux"
	"github.com/vswitch/vswitch/control/holder"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// daemonEnv holds the configuration of a process of this test binary that is to
// be a daemon.
const daemonEnv = "VSWITCH_TEST_DAEMON"

// socketName is daemon.SocketName.
const socketName = "vswitch.sock"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(daemonEnv); cfg != "" {
		os.Exit(beDaemon(cfg))
	}
	labtest.Main(m)
}

// daemonSpec is what a test says of a daemon.Config.
type daemonSpec struct {
	RunDir, StateDir string
	Uplinks          []string
	NoTCX, IPv6      bool
	FlowLog, IPFIX   string
	NoFlowTable      bool
	Cgroup           string
	MasqueradePorts  []string
}

// RunDaemon is daemon.Run, which this package cannot import.
var RunDaemon func(ctx context.Context, runDir string, cfg Config, open func(*holder.Holder) (edge.Edge, error)) error

func beDaemon(env string) int {
	var spec daemonSpec
	if err := json.Unmarshal([]byte(env), &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cfg := Config{FlowLog: spec.FlowLog, IPFIX: spec.IPFIX, StateDir: spec.StateDir, Uplinks: spec.Uplinks, Version: "test", IPv6: spec.IPv6, MasqueradePorts: spec.MasqueradePorts}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := RunDaemon(ctx, spec.RunDir, cfg, func(h *holder.Holder) (edge.Edge, error) {
		return linux.Open(linux.Config{Holder: h, OwnRanges: len(spec.MasqueradePorts) > 0, NoFlowTable: spec.NoFlowTable, NoTCX: spec.NoTCX, Cgroup: spec.Cgroup, Log: cfg.Log})
	}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
