package port

import (
	"os"

	"golang.org/x/sys/unix"
)

// Bell wakes a reader that may be in another process: the descriptor of an eventfd.
type Bell int

// NewBell returns a bell that has not rung.
func NewBell() (Bell, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return Bell(fd), os.NewSyscallError("eventfd", err)
}

// Ring makes every listener readable. It does not wait.
func (b Bell) Ring() {
	_, _ = unix.Write(int(b), []byte{1, 0, 0, 0, 0, 0, 0, 0}) // EAGAIN: it rings already
}

// Listener returns a descriptor that is readable, 8 bytes, when the bell has rung. The
// caller owns it.
func (b Bell) Listener() (int, error) {
	fd, err := unix.FcntlInt(uintptr(b), unix.F_DUPFD_CLOEXEC, 0)
	return fd, os.NewSyscallError("dup", err)
}

// Close ends the bell; listeners stay open.
func (b Bell) Close() error { return unix.Close(int(b)) }
