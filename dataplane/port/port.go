package port

import (
	"errors"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// ErrGone is returned when the device behind a port has vanished (its namespace
// was deleted, for instance). The port must be removed.
var ErrGone = errors.New("device is gone")

// Port is one edge of the switch. Receive and Release belong to the one worker
// that owns the port; Send may be called by several workers at once, each with
// its own Tx.
type Port interface {
	// Receive fills the free places of b with frames that are ready, until it is full, and
	// returns at once; it charges b for each, sets Buf and Offload and leaves In to the
	// worker. What it drops itself it tells b by Refuse. Large frames lie in a. Frames are borrowed until Release or a.Reset,
	// whichever comes first. It returns ErrGone when it happens to learn that the device
	// is gone; a Receive that finds nothing may cost no more than a load from memory.
	Receive(b *frame.Batch, a *Arena) error

	// Release gives the memory of all received frames back to the kernel. No
	// frame of an earlier Receive may be referenced after it.
	Release()

	// Check clears a transient error (ENETDOWN), which would keep FD ready, and
	// returns ErrGone when the device is gone. It is due when FD is ready and
	// Receive finds nothing, and once a second: when the error of a deleted device
	// arrives it still exists for some milliseconds, and the end of one that was
	// down is not announced at all. Safe for concurrent use, except with Close.
	Check() error

	// Send transmits frames in their order and returns how many the device took;
	// the rest is dropped, the caller counts. It never blocks and never spins: a
	// full device drops. Frames are borrowed for the length of the call; Send
	// writes their virtio header into the headroom.
	Send(tx *Tx, frames []*frame.Frame) int

	// FD is the descriptor a worker polls for readability.
	FD() int

	// KernelDrops is the number of frames lost on the way in since the port was
	// opened, because the ring or the receive buffer was full. Safe for
	// concurrent use.
	KernelDrops() uint64

	// InvalidDrops is the number of frames that Receive refused because their
	// virtio header or length cannot be true. Safe for concurrent use.
	InvalidDrops() uint64

	// Close ends the port. The caller has made sure that no worker uses it any
	// more (see dataplane.Switch.RemovePort).
	Close() error
}
