package control

import (
	"errors"
	"fmt"
)

// undo is what has been done so far, to be taken back in reverse when a later
// step fails. Not safe for concurrent use.
type undo struct {
	// fault, when not nil, is asked before each step; its error fails the step.
	// Only tests set it.
	fault func(step string) error
	back  []undoStep
}

type undoStep struct {
	name string
	fn   func() error
}

// do performs one step and remembers how to take it back; back may be nil.
func (u *undo) do(name string, step func() error, back func() error) error {
	if u.fault != nil {
		if err := u.fault(name); err != nil {
			return err
		}
	}
	if err := step(); err != nil {
		return err
	}
	if back != nil {
		u.back = append(u.back, undoStep{name, back})
	}
	return nil
}

// rollback takes every step back, newest first, and goes on after errors.
func (u *undo) rollback() error {
	var errs []error
	for i := len(u.back) - 1; i >= 0; i-- {
		if err := u.back[i].fn(); err != nil {
			errs = append(errs, fmt.Errorf("undo %s: %w", u.back[i].name, err))
		}
	}
	u.back = nil
	return errors.Join(errs...)
}
