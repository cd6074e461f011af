package control

import (
	"errors"
	"time"
)

// Alive says what does not move within the limit: a worker, or who holds the controller's
// memory, which is never locked across a system call.
func (c *Controller) Alive(limit time.Duration) error {
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
