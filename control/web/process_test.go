package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"
	"testing"

	"github.com/vswitch/vswitch/control"
	"github.com/vswitch/vswitch/control/daemon"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// daemonEnv holds the configuration of a process of this binary that is to be a
// daemon.
const daemonEnv = "VSWITCH_TEST_DAEMON"

func TestMain(m *testing.M) {
	if env := os.Getenv(daemonEnv); env != "" {
		os.Exit(beDaemon(env))
	}
	labtest.Main(m)
}

// tellSignal has the daemon write into its log what its goroutines do.
const tellSignal = syscall.SIGUSR1

type daemonSpec struct {
	Dir, HTTP, TokenFile string
	NoToken              bool
}

func beDaemon(env string) int {
	var spec daemonSpec
	if err := json.Unmarshal([]byte(env), &spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	tell := make(chan os.Signal, 1)
	signal.Notify(tell, tellSignal)
	go func() {
		for range tell {
			pprof.Lookup("goroutine").WriteTo(os.Stderr, 1)
		}
	}()
	err := daemon.Run(ctx, daemon.Config{
		Config: control.Config{StateDir: filepath.Join(spec.Dir, "state"), Version: "test", Log: slog.New(slog.NewTextHandler(os.Stderr, nil))},
		RunDir: filepath.Join(spec.Dir, "run"), HTTP: spec.HTTP, HTTPTokenFile: spec.TokenFile, NoHTTPToken: spec.NoToken,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
