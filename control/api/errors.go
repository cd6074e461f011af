package api

import (
	"errors"
	"net/http"
)

// Kinds of refusal. The daemon's errors wrap one of them; everything else is a
// failure of the daemon itself.
var (
	ErrInvalid  = errors.New("bad input") // 400
	ErrNotFound = errors.New("not found") // 404
	ErrConflict = errors.New("conflict")  // 409
	ErrFull     = errors.New("full")      // 507
	ErrBusy     = errors.New("busy")      // 503: others, or the same reader, have what there is
)

// Kind is the kind of refusal that an HTTP status says, nil when it says none.
func Kind(status int) error {
	for _, kind := range []error{ErrInvalid, ErrNotFound, ErrConflict, ErrFull, ErrBusy} {
		if Status(kind) == status {
			return kind
		}
	}
	return nil
}

// Status is the HTTP status that says err.
func Status(err error) int {
	switch {
	case err == nil:
		return http.StatusOK
	case errors.Is(err, ErrInvalid):
		return http.StatusBadRequest
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrConflict):
		return http.StatusConflict
	case errors.Is(err, ErrFull):
		return http.StatusInsufficientStorage
	case errors.Is(err, ErrBusy):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// UserAgent is that of a client which speaks as the command line does: errors name its flags to it,
// and fields of requests to others.
const UserAgent = "vswitch"
