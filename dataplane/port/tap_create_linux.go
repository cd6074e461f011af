package port

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"
)

func (t *TAP) exists() (bool, error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, os.NewSyscallError("socket", err)
	}
	defer unix.Close(s)
	ifr, err := unix.NewIfreq(t.name)
	if err != nil {
		return false, err
	}
	err = unix.IoctlIfreq(s, unix.SIOCGIFINDEX, ifr)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return err == nil, os.NewSyscallError("SIOCGIFINDEX", err)
}

// create makes the device. It has to outlive the descriptor it is made through,
// which knows nothing of virtio headers and cannot be taught: the flags of a
// device change only when its first queue is attached.
func (t *TAP) create() error {
	// A child forked just now would inherit the descriptor and keep a queue that
	// nobody reads: water opens it without O_CLOEXEC.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	dev, err := water.New(water.Config{
		DeviceType:             water.TAP,
		PlatformSpecificParams: water.PlatformSpecificParams{Name: t.name, Persist: true, MultiQueue: true},
	})
	switch {
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("create: %w: needs CAP_NET_ADMIN and access to /dev/net/tun", err)
	case err != nil:
		return fmt.Errorf("create: %w", err)
	}
	return dev.Close()
}

// unpersist lets the device end with its last descriptor.
func (t *TAP) unpersist() error {
	if err := unix.IoctlSetInt(t.fd, unix.TUNSETPERSIST, 0); err != nil {
		return fmt.Errorf("set TUNSETPERSIST: %w", err)
	}
	return nil
}
