package control

import (
	"context"
	"errors"
	"log/slog"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/inventory"
)

// Detach undoes Attach. A container that is not attached is no error, as with
// CNI's DEL: whoever cleans up may do so twice.
func (c *Controller) Detach(_ context.Context, name string) error {
	leave, err := c.enter()
	if err != nil {
		return err
	}
	defer leave()
	c.mu.Lock()
	list, err := c.inv.Meant(name)
	c.mu.Unlock()
	if errors.Is(err, api.ErrNotFound) {
		defer c.names.Lock(ofContainer(name))()
		return c.unrestored.bury(c, name)
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, ct := range list {
		errs = append(errs, c.releaseHeld(ct, "detach"))
	}
	return errors.Join(errs...)
}

// releaseHeld releases a container once no other operation on it runs, if it is
// still there.
func (c *Controller) releaseHeld(ct *inventory.Container, why string) error {
	unlock, ok := c.lockContainer(ct)
	defer unlock()
	if !ok {
		return nil
	}
	end := c.events.Ending(ct)
	err := newChange(c, ct).withdrawAll()
	c.log.Info("released", "container", end.Name, "reason", why)
	end.Tell(why)
	return err
}

// watchProcess releases a container when the process it is bound to has ended.
func (c *Controller) watchProcess(ct *inventory.Container) {
	if ct.Process == nil {
		return
	}
	c.spawn(func() {
		select {
		case <-c.ctx.Done():
			return
		case <-ct.Process.Done():
		}
		c.background(func() error {
			return c.releaseHeld(ct, "process ended")
		})
	})
}

// background runs an operation that nobody waits for.
func (c *Controller) background(fn func() error) {
	leave, err := c.enter()
	if err != nil {
		return
	}
	defer leave()
	if err := fn(); err != nil {
		c.log.Error("background work", "err", joined(err))
	}
}

// linkGone looks after the container whose cable has vanished: its namespace was
// deleted, or somebody removed an interface.
func (c *Controller) linkGone(ct *inventory.Container) {
	c.background(func() error {
		unlock, ok := c.lockContainer(ct)
		defer unlock()
		if !ok {
			return nil
		}
		end := c.events.Ending(ct)
		var lost []*inventory.Endpoint
		for _, e := range ct.Endpoints {
			if l, err := c.edge.Link(e.Veth); err != nil || l.Index != e.Index {
				lost = append(lost, e)
			}
		}
		if len(lost) == 0 {
			return nil
		}
		if len(lost) == len(ct.Endpoints) {
			// A process that ends takes its namespace along, and that may be heard
			// of first.
			level, why := slog.LevelWarn, "its interface or namespace has vanished"
			if ct.Process != nil && ct.Process.Ended() {
				level, why = slog.LevelInfo, "process ended"
			}
			err := newChange(c, ct).withdrawAll()
			c.log.Log(c.ctx, level, "released", "container", end.Name, "reason", why)
			end.Tell(why)
			return err
		}
		for _, e := range lost {
			c.log.Warn("endpoint released", "container", end.Name, "network", e.Network.Called(), "reason", "interface "+e.Ifname+" has vanished")
			c.events.Moved(api.EventDisconnect, e)
		}
		h := newChange(c, ct)
		h.force = true
		return h.withdraw(nil, lost, nil)
	})
}
