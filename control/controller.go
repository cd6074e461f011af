package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/byhand"
	"github.com/vswitch/vswitch/control/claims"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/edge"
	"github.com/vswitch/vswitch/control/events"
	"github.com/vswitch/vswitch/control/host"
	"github.com/vswitch/vswitch/control/inventory"
	"github.com/vswitch/vswitch/control/keyed"
	"github.com/vswitch/vswitch/control/model"
	"github.com/vswitch/vswitch/control/naming"
	"github.com/vswitch/vswitch/control/observe"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/relay"
	"github.com/vswitch/vswitch/control/reserve"
	"github.com/vswitch/vswitch/control/shaping"
	"github.com/vswitch/vswitch/control/state"
	"github.com/vswitch/vswitch/control/underlay"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// Controller is the one writer of the switch: requests of the API and events of
// the kernel end here. Its methods are safe for concurrent use; a request runs
// to its end even when its caller has gone away.
//
// Locks, in this order: ops (read: a request runs; write: shutdown), a name in
// names (held for the whole of an operation: a runtime's container, a container, a network, in this order),
// storing, mu (memory only, never across a system call that can wait).
type Controller struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	bootID  string

	edge  edge.Edge // the host's side: what is in the kernel
	sw    *dataplane.Switch
	heard chan struct{} // closed when followSwitch has ended; nil: never begun
	store *state.Store

	fault fault // fails steps of changes in tests

	ops      sync.RWMutex
	closing  bool
	names    keyed.Mutex
	builder  builder
	led      relay.Ways // where the host's own connections to published ports lead
	claims   *claims.Table
	byHand   *byhand.Ports // of containers that are away
	underlay *underlay.Underlay
	shaping  *shaping.Looks
	storing  sync.Mutex    // guards stored
	stored   state.Numbers // as they are in the state
	bgMu     sync.Mutex
	bgDone   bool // no new background work
	bg       sync.WaitGroup
	ctx      context.Context // of background work; ends with Close
	cancel   context.CancelFunc

	mu         sync.Mutex
	relay      edge.Relay // set once
	inv        *inventory.Inventory
	byPort     map[frame.PortID]portOwner
	sockets    map[frame.PortID]edge.Socket // of cables and uplinks
	unrestored unrestored
	recorded   []string // ways out of containers of their own on record, until those are restored
	revision   uint64

	// dir names all in inv. It is changed under mu, with that, and read without.
	dir      directory.Live
	observer *observe.Observer
	readers  *readers.Readers

	events *events.Log
	naming *naming.Naming // set once; nil: names are not answered
}

// enter begins a request; the result ends it.
func (c *Controller) enter() (leave func(), err error) {
	c.ops.RLock()
	if c.closing {
		c.ops.RUnlock()
		return nil, errShutdown
	}
	return c.ops.RUnlock, nil
}

// ofContainer and ofNetwork are the two families of keys in names.
func ofContainer(name string) string { return "container " + name }
func ofNetwork(name string) string   { return "network " + name }

// ofRuntime is the key under which a runtime's requests for one of its containers take turns,
// before that of the container's name: a Release that comes while Attach still runs waits for
// it, and finds what it made.
func ofRuntime(runtime, id string) string {
	if runtime == "" {
		return ""
	}
	return "runtime " + runtime + " " + id
}

// portOwner says what a port of the switch is.
type portOwner struct {
	ep     *inventory.Endpoint
	net    *inventory.Network // of a TAP
	uplink bool
}

// wrapHost gives errors of control/host a kind.
func wrapHost(err error) error {
	switch {
	case errors.Is(err, host.ErrNoNetns):
		return model.Refuse(api.ErrNotFound, err)
	case errors.Is(err, host.ErrExists), errors.Is(err, host.ErrHasDefault), errors.Is(err, reserve.ErrTaken):
		return model.Refuse(api.ErrConflict, err)
	}
	return err
}

func containerErr(name string, err error) error {
	return fmt.Errorf("container %s: %w", name, err)
}

// joined is the text of errors on one line.
func joined(err error) string {
	return strings.ReplaceAll(err.Error(), "\n", "; ")
}

var errShutdown = errors.New("the daemon is shutting down")
