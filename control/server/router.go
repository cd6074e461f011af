package server

import (
	"net/http"
	"slices"
)

// router is a ServeMux that remembers its patterns, against which a test holds
// docs/openapi.yaml. It refuses parameters that a path does not take.
type router struct {
	http.ServeMux
	patterns []string
	refuse   func(http.ResponseWriter, *http.Request, error)
}

// Handle is ServeMux.Handle.
func (m *router) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	if !slices.Contains(looking, pattern) {
		inner, keys := h, parameters[pattern]
		h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := known(r.URL.Query(), keys...); err != nil {
				m.refuse(w, r, err)
				return
			}
			inner.ServeHTTP(w, r)
		})
	}
	m.ServeMux.Handle(pattern, h)
}

// HandleFunc is ServeMux.HandleFunc.
func (m *router) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.Handle(pattern, http.HandlerFunc(h))
}
