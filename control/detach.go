package control

import (
	"context"
	"errors"
	"log/slog"

	"github.com/vswitch/vswitch/control/api"
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
	ct := c.containers[name] // also one that is still being attached
	if ct == nil {
		ct, err = c.findContainerLocked(name)
	}
	c.mu.Unlock()
	if errors.Is(err, api.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.releaseHeld(ct, "detach")
}

// releaseHeld releases a container once no other operation on it runs, if it is
// still there.
func (c *Controller) releaseHeld(ct *container, why string) error {
	unlock, ok := c.holdContainer(ct)
	defer unlock()
	if !ok {
		return nil
	}
	name := ct.rec.Name
	err := c.release(ct)
	c.log.Info("released", "container", name, "reason", why)
	c.emitDetach(name, why)
	return err
}

// release takes back all that attach made, in the reverse order, and goes on
// after errors: what cannot be undone now is found at the next start. The
// caller holds the name.
func (c *Controller) release(ct *container) error {
	c.mu.Lock()
	ct.show(false)
	endpoints, mappings := ct.endpoints, ct.mappings
	c.mu.Unlock()
	errs := []error{c.rebuild()}
	for _, m := range mappings {
		c.unclaim(m)
	}
	errs = append(errs, c.store.DeleteContainer(ct.rec.ID))
	for _, e := range endpoints {
		if ct.rec.Handover {
			c.dropCable(e)
		} else {
			errs = append(errs, c.unplug(e), c.host.DelLink(e.veth, e.index))
		}
	}
	for _, m := range mappings {
		errs = append(errs, c.releasePorts(m))
	}
	if ct.proc != nil {
		ct.proc.Close()
	}
	c.mu.Lock()
	for _, e := range endpoints {
		c.freeEndpointLocked(e)
	}
	ct.mappings = nil
	delete(c.containers, ct.rec.Name)
	c.mu.Unlock()
	for _, e := range endpoints {
		c.dropEphemeral(e.net.rec.Name)
	}
	if err := errors.Join(errs...); err != nil {
		return containerErr(ct.rec.Name, err)
	}
	return nil
}

// watchProcess releases a container when the process it is bound to has ended.
func (c *Controller) watchProcess(ct *container) {
	if ct.proc == nil {
		return
	}
	c.spawn(func() {
		select {
		case <-c.ctx.Done():
			return
		case <-ct.proc.Done():
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
func (c *Controller) linkGone(ct *container) {
	c.background(func() error {
		unlock, ok := c.holdContainer(ct)
		defer unlock()
		if !ok {
			return nil
		}
		name := ct.rec.Name
		var lost []*endpoint
		for _, e := range ct.endpoints {
			if l, err := c.host.Link(e.veth); err != nil || l.Index != e.index {
				lost = append(lost, e)
			}
		}
		if len(lost) == 0 {
			return nil
		}
		if len(lost) == len(ct.endpoints) {
			// A process that ends takes its namespace along, and that may be heard
			// of first.
			level, why := slog.LevelWarn, "its interface or namespace has vanished"
			if ct.proc != nil && ct.proc.Ended() {
				level, why = slog.LevelInfo, "process ended"
			}
			err := c.release(ct)
			c.log.Log(c.ctx, level, "released", "container", name, "reason", why)
			c.emitDetach(name, why)
			return err
		}
		var errs []error
		for _, e := range lost {
			c.log.Warn("endpoint released", "container", name, "network", e.net.rec.Name, "reason", "interface "+e.ifname+" has vanished")
			c.emitConnect(api.EventDisconnect, e)
			errs = append(errs, c.leave(ct, e, nil))
		}
		return errors.Join(errs...)
	})
}
