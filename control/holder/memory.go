package holder

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// PutMemory has a file in memory that begins with b kept under a name, in place of what was there,
// and returns it for who writes on. Without a holder there is none.
func (h *Holder) PutMemory(name string, b []byte) (*os.File, error) {
	if h == nil {
		return nil, nil
	}
	fd, err := unix.MemfdCreate("vswitch-"+name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("holder: %s in memory: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err = f.Write(b); err == nil {
		err = h.Put(name, fd, "")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
