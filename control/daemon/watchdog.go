package daemon

import (
	"context"
	"time"
)

// watchdog calls cfg.Alive every cfg.Watchdog for as long as alive says within its limit
// that the daemon does its work. What keeps it from that is logged, and nobody is told
// that all is well.
func watchdog(ctx context.Context, cfg *Config, alive func(limit time.Duration) error) {
	tick := time.NewTicker(cfg.Watchdog)
	defer tick.Stop()
	for {
		// The limit leaves time for the next try before the service manager, which
		// waits two intervals, gives up.
		if err := alive(cfg.Watchdog / 2); err != nil {
			cfg.Log.Error("the daemon makes no progress", "err", err)
		} else {
			cfg.Alive()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
