package control

import (
	"context"
	"errors"
	"time"
)

// watchdog calls fed every interval for as long as the daemon does its work. What
// keeps it from that is logged, and nobody is told that all is well.
func (c *Controller) watchdog(ctx context.Context, interval time.Duration, fed func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		// The limit leaves time for the next try before the service manager, which
		// waits two intervals, gives up.
		if err := c.alive(interval / 2); err != nil {
			c.log.Error("the daemon makes no progress", "err", err)
		} else {
			fed()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// alive says what does not move: a worker, or who holds the controller's memory,
// which is never locked across a system call.
func (c *Controller) alive(limit time.Duration) error {
	if err := c.sw.Probe(limit); err != nil {
		return err
	}
	had := make(chan struct{})
	go func() { // stays with the lock if that never comes
		c.mu.Lock()
		defer c.mu.Unlock()
		close(had)
	}()
	select {
	case <-had:
		return nil
	case <-time.After(limit):
		return errors.New("the controller's lock is not let go")
	}
}
