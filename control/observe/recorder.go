package observe

import (
	"fmt"
	"sync"

	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
)

// What the recorder keeps: enough of a frame for its headers.
const (
	recorderPoints = 1<<dataplane.PointRx | 1<<dataplane.PointTx | 1<<dataplane.PointDrop
	recorderSnap   = 192
)

// recorder keeps the newest frames of what its targets name. It keeps no names: the
// directory has those of ports that are gone.
type recorder struct {
	*dataplane.Capture

	mu   sync.Mutex
	seen sight
	// ever are the ports it has or had, until their number is that of a port it does
	// not see.
	ever map[frame.PortID]bool
}

// startRecorder keeps the newest frames of what words name, in so much memory.
func (o *Observer) startRecorder(bytes int, words []string) error {
	targets, err := targetsOf(words)
	if err != nil {
		return fmt.Errorf("--capture-ring-of: %w", err)
	}
	r := &recorder{seen: sight{targets: targets}, ever: make(map[frame.PortID]bool)}
	r.Capture, err = dataplane.StartCapture(o.sw, dataplane.CaptureConfig{Points: recorderPoints, Recorder: true, SnapLen: recorderSnap, BufferBytes: bytes})
	if err != nil {
		return err
	}
	o.recorder = r
	o.dir.Follow(r.follow)
	return nil
}

func (r *recorder) follow(names *directory.Directory, changed []frame.PortID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	differs := r.seen.update(names, changed)
	for _, id := range changed {
		if r.seen.has(id) {
			r.ever[id] = true
		} else if _, other := names.Port(id); other {
			delete(r.ever, id)
		}
	}
	if differs {
		r.SetPorts(r.seen.list())
	}
}

// saw reports whether there may be frames of a port.
func (r *recorder) saw(id frame.PortID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ever[id]
}
