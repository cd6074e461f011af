package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/vswitch/vswitch/control/api"
)

// flagWords are flags of the command line that mean a field of a request, outside of a whole
// command.
var flagWords = regexp.MustCompile(`vswitch [a-z][^;:,]*|--(netns|pid|network|subnet|gateway|ip-range|ip6|ip|mac|ifname|guard|vlan|trunk|mtu|mode-ipv4|mode-ipv6|mode|internal|icc|host-access|filter|exempt|label|reserve|expose)\b`)

// inWordsOf is an error in the words of who asked: the command line's flags are fields to others.
func inWordsOf(r *http.Request, text string) string {
	if r.UserAgent() == api.UserAgent {
		return text
	}
	return flagWords.ReplaceAllStringFunc(text, func(m string) string {
		if flag, ok := strings.CutPrefix(m, "--"); ok {
			return strings.ReplaceAll(flag, "-", "_")
		}
		return m
	})
}

// ofJSON says what is wrong with a body, in the words of JSON and not of a program's types.
func ofJSON(err error) string {
	var typ *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &typ):
		return fmt.Sprintf("field %s: %s is given, and %s is wanted", typ.Field, typ.Value, kindOf(typ.Type))
	case errors.As(err, &syntax):
		return fmt.Sprintf("is no JSON at byte %d", syntax.Offset)
	}
	return strings.TrimPrefix(err.Error(), "json: ")
}

func kindOf(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Pointer:
		return kindOf(t.Elem())
	}
	return "a whole number"
}

// parameters are those that a path takes, where its handler does not look itself.
var parameters = map[string][]string{
	"GET /v1/why": {"from", "to"}, "GET /v1/drops": {"name"}, "GET /v1/stats": {"name"},
	"GET /v1/capture":               {"target", "filter", "point", "snaplen", "segment", "wait", "last"},
	"GET /v1/debug/pprof/{profile}": {"seconds"},
}

// looking are the paths whose handlers look at their parameters themselves.
var looking = []string{
	"GET /v1/nat", "GET /v1/flows", "GET /v1/flows/log", "GET /v1/events", "GET /v1/containers",
	"DELETE /v1/containers/{name}", "DELETE /v1/networks/{name}",
}

// noPath answers what no pattern is for: a path that takes other methods, or none.
func (s *server) noPath(w http.ResponseWriter, r *http.Request, mux *router) {
	var methods []string
	for _, m := range []string{"GET", "POST", "PATCH", "DELETE"} {
		ask := r.Clone(r.Context())
		ask.Method = m
		if _, pattern := mux.ServeMux.Handler(ask); pattern != "/" && pattern != "" {
			methods = append(methods, m)
		}
	}
	if len(methods) > 0 {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		write(w, http.StatusMethodNotAllowed, api.Error{Message: fmt.Sprintf("%s %s: use %s", r.Method, r.URL.Path, strings.Join(methods, " or "))})
		return
	}
	var paths []string
	for _, p := range mux.patterns {
		if m, path, _ := strings.Cut(p, " "); m == "GET" && !strings.Contains(path, "{") {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	s.refuse(w, r, fmt.Errorf("%s %s: %w: there are %s, and what is below", r.Method, r.URL.Path, api.ErrNotFound, strings.Join(paths, ", ")))
}
