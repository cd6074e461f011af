package edgetest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/host"
)

// HeldFor implements edge.Edge.
func (e *Edge) HeldFor() (identity, directory string) {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	return e.k.heldFor, e.k.heldIn
}

// HoldState implements edge.Edge.
func (e *Edge) HoldState(b []byte) (*os.File, error) {
	unlock, err := e.enter("HoldState")
	if err != nil {
		return nil, err
	}
	defer unlock()
	f, err := os.CreateTemp("", "state")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	if _, err := f.Write(b); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	again, err := os.OpenFile(f.Name(), os.O_RDWR, 0)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	e.k.forgetState()
	e.k.heldState = again
	return f, nil
}

// HeldState implements edge.Edge.
func (e *Edge) HeldState() *os.File {
	e.k.mu.Lock()
	defer e.k.mu.Unlock()
	if e.k.heldState == nil {
		return nil
	}
	f, _ := os.Open(fmt.Sprintf("/proc/self/fd/%d", e.k.heldState.Fd()))
	return f
}

// forgetState holds mu.
func (k *Kernel) forgetState() {
	if k.heldState != nil {
		k.heldState.Close()
		k.heldState = nil
	}
}

// EndHolder ends what outlives a process, as when it is killed with it.
func (k *Kernel) EndHolder() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.heldFor, k.heldIn = "", ""
	k.forgetState()
}

// DropHeld implements edge.Edge.
func (e *Edge) DropHeld() error {
	unlock, err := e.enter("DropHeld")
	if err != nil {
		return err
	}
	defer unlock()
	e.k.heldFor, e.k.heldIn = "", ""
	for _, l := range slices.Clone(e.k.host.links) {
		if l.Kind == "tun" && l.queue == nil && strings.HasPrefix(l.Alias, host.AliasOf(e.owner.Identity)) {
			e.k.removeLink(l)
		}
	}
	if len(e.owner.Reserved) == 0 {
		return nil
	}
	e.k.unreserve(e.owner.Reserved)
	e.owner.Reserved = nil
	return e.put(e.largeLocked())
}
