package control

import (
	"errors"
	"log/slog"
	"slices"

	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// warnUnstored tells of a full disk: the number holds as long as the process.
func warnUnstored(log *slog.Logger, what string, err error) {
	if err != nil {
		log.Warn("a number is not stored: the next daemon gives another", "of", what, "err", err)
	}
}

// storeNumbers stores the numbers of uplinks and addresses, unless they are stored.
func (c *Controller) storeNumbers() {
	c.storing.Lock()
	defer c.storing.Unlock()
	c.mu.Lock()
	now := state.Numbers{Uplinks: c.inv.Numbers.Uplinks()}
	c.mu.Unlock()
	for _, k := range c.claims.Slots() {
		now.Slots = append(now.Slots, state.SlotNumber{Addr: k.Key, Number: k.Number})
	}
	// An address that comes and goes is not worth a write for the order alone.
	if sameSet(now.Uplinks, c.stored.Uplinks) && sameSet(now.Slots, c.stored.Slots) {
		return
	}
	err := c.store.PutNumbers(now)
	if warnUnstored(c.log, "uplinks and addresses", err); err == nil {
		c.stored = now
	}
}

// sameSet compares two lists without repetitions.
func sameSet[T comparable](a, b []T) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(v T) bool { return !slices.Contains(b, v) })
}

// openPort opens an interface under the number of its key and gives it to the switch.
// closePort undoes it, and nothing is left after an error.
func (c *Controller) openPort(key string, at edge.Port, open func(edge.Port) (edge.Socket, error)) (frame.PortID, error) {
	c.mu.Lock()
	id, err := c.inv.Numbers.TakePort(key)
	c.mu.Unlock()
	if err != nil {
		return frame.NoPort, err
	}
	at.Number = int(id)
	k, err := open(at)
	if err == nil {
		if err = c.sw.AddPort(id, k.Descriptor()); err != nil {
			err = errors.Join(model.Fullf("%w", err), k.Close())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.inv.Numbers.Ports.GiveBack(int(id))
		return frame.NoPort, err
	}
	c.sockets[id] = k
	return id, nil
}

// closePort is the end of a port that no snapshot names any more. Its key keeps the
// number until it is needed.
func (c *Controller) closePort(id frame.PortID) error {
	err := c.sw.RemovePort(id)
	c.mu.Lock()
	k := c.sockets[id]
	delete(c.sockets, id)
	c.mu.Unlock()
	if k != nil {
		err = errors.Join(err, k.Close())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inv.Numbers.Ports.GiveBack(int(id))
	return err
}
