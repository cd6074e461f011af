package server

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/vswitch/vswitch/control/api"
)

// runtime serves what the front ends of container runtimes ask for.
func (s *server) runtime(mux *router) {
	mux.Handle("GET /v1/containers", s.answer(func(r *http.Request) (any, error) {
		f, err := containerFilter(r.URL.Query())
		if err != nil {
			return nil, err
		}
		return s.Containers(r.Context(), f)
	}, 200))
	mux.Handle("GET /v1/containers/{name}/check", s.answer(func(r *http.Request) (any, error) {
		return nil, s.Check(r.Context(), r.PathValue("name"))
	}, http.StatusNoContent))
	mux.Handle("POST /v1/release", s.answer(func(r *http.Request) (any, error) {
		var in api.Release
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return nil, s.Release(r.Context(), in)
	}, http.StatusNoContent))
	mux.Handle("POST /v1/gc", s.answer(func(r *http.Request) (any, error) {
		var in api.GC
		if err := decode(r, &in); err != nil {
			return nil, err
		}
		return s.GC(r.Context(), in)
	}, 200))
}

// containerFilter reads the query of GET /v1/containers. A word it does not know
// would select more than was meant.
func containerFilter(q url.Values) (f api.ContainerFilter, err error) {
	for key, values := range q {
		switch value := values[len(values)-1]; key {
		case "runtime":
			f.Runtime = value
		case "runtime_id":
			f.RuntimeID = value
		case "network":
			f.Network = value
		case "select":
			f.Select = value
		default:
			return f, fmt.Errorf("%w: query %q: use runtime, runtime_id, network or select", api.ErrInvalid, key)
		}
	}
	return f, nil
}
