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

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// daemonEnv holds the configuration of a process of this test binary that is to
// be a daemon.
const daemonEnv = "VSWITCH_TEST_DAEMON"

func TestMain(m *testing.M) {
	if cfg := os.Getenv(daemonEnv); cfg != "" {
		os.Exit(beDaemon(cfg))
	}
	labtest.Main(m)
}

// daemonSpec is what a test says of a DaemonConfig.
type daemonSpec struct {
	RunDir, StateDir string
	Uplinks          []string
	NoTCX, IPv6      bool
	FlowLog, IPFIX   string
	NoFlowTable      bool
}

func beDaemon(env string) int {
	var spec daemonSpec
	if err := json.Unmarshal([]byte(env), &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	cfg := DaemonConfig{RunDir: spec.RunDir, FlowLog: spec.FlowLog, IPFIX: spec.IPFIX, StateDir: spec.StateDir, Uplinks: spec.Uplinks, Version: "test", noTCX: spec.NoTCX, IPv6: spec.IPv6, NoFlowTable: spec.NoFlowTable}
	cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := Run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
