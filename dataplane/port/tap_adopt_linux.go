package port

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/dataplane/frame"
)

// AdoptTAP makes a port of a descriptor of the device that another process has opened, and
// takes it over in any case. The frames that have waited there are dropped when they are
// stale.
func AdoptTAP(name string, fd int, stale bool) (*TAP, error) {
	t := &TAP{name: name, fd: fd}
	err := t.adopt(stale)
	if err == nil {
		err = t.watch()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tap %s: take over: %w", name, err), t.Close())
	}
	return t, nil
}

func (t *TAP) adopt(stale bool) error {
	ifr, err := unix.NewIfreq(t.name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(t.fd, unix.TUNGETIFF, ifr); err != nil {
		return fmt.Errorf("TUNGETIFF: %w", err)
	}
	if ifr.Name() != t.name {
		return fmt.Errorf("the device is called %s by now", ifr.Name())
	}
	if ifr.Uint16()&tapFlags != tapFlags {
		return fmt.Errorf("the device has the flags %#x: it is another kind of device", ifr.Uint16())
	}
	if err := t.setup(); err != nil {
		return err
	}
	// A read takes a whole frame, however little there is room for. The host may send all the
	// while: what comes after as many frames as a queue holds is new.
	for b, n := make([]byte, frame.VnetHdrLen), 0; stale && n < staleFrames; n++ {
		if _, err := unix.Read(t.fd, b); err != nil && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return nil
}

// staleFrames bounds what is dropped from a queue: TUN_READQ_SIZE, the kernel's own length
// of it, and some.
const staleFrames = 4096
