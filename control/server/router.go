package server

import "net/http"

// router is a ServeMux that remembers its patterns, against which a test holds
// docs/openapi.yaml.
type router struct {
	http.ServeMux
	patterns []string
}

// Handle is ServeMux.Handle.
func (r *router) Handle(pattern string, h http.Handler) {
	r.patterns = append(r.patterns, pattern)
	r.ServeMux.Handle(pattern, h)
}

// HandleFunc is ServeMux.HandleFunc.
func (r *router) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	r.Handle(pattern, http.HandlerFunc(h))
}
