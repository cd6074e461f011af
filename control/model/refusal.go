package model

import (
	"fmt"

	"github.com/vswitch/vswitch/control/api"
)

// refusal is an error with one of the kinds of control/api, which the server
// turns into a status.
type refusal struct {
	kind error
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }

func (r *refusal) Unwrap() []error { return []error{r.kind, r.err} }

// Invalidf is an error of the kind api.ErrInvalid.
func Invalidf(format string, a ...any) error { return Refuse(api.ErrInvalid, fmt.Errorf(format, a...)) }

// NotFoundf is an error of the kind api.ErrNotFound.
func NotFoundf(format string, a ...any) error {
	return Refuse(api.ErrNotFound, fmt.Errorf(format, a...))
}

// Conflictf is an error of the kind api.ErrConflict.
func Conflictf(format string, a ...any) error {
	return Refuse(api.ErrConflict, fmt.Errorf(format, a...))
}

// Fullf is an error of the kind api.ErrFull.
func Fullf(format string, a ...any) error { return Refuse(api.ErrFull, fmt.Errorf(format, a...)) }

// Refuse gives an error a kind.
func Refuse(kind, err error) error { return &refusal{kind, err} }
