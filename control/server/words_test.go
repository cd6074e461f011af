package server

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

// No path takes a parameter that it does not know, and none says so by doing something else.
func TestNoPathIgnoresParameters(t *testing.T) {
	b := &echo{}
	mux := Handler(b, nil, quiet).(*router)
	for _, p := range mux.patterns {
		method, path, _ := strings.Cut(p, " ")
		path = strings.NewReplacer("{name}", "web", "{network}", "blue", "{id}", "1", "{address}", "10.0.0.1", "{profile}", "heap").Replace(path)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(method, path+"?nosuch=1", strings.NewReader("{}")))
		if w.Code != 400 || !strings.Contains(w.Body.String(), "nosuch") || len(b.asked) > 0 {
			t.Errorf("%s: %d, %s, and asked %v", p, w.Code, w.Body, b.asked)
		}
		b.asked = nil
	}
}

// What the document says that a path takes it takes.
func TestDocumentedParametersAreTaken(t *testing.T) {
	h := Handler(&echo{}, nil, quiet)
	for pattern, op := range openDocument(t).operations {
		for _, p := range op.Parameters {
			if p.In != "query" {
				continue
			}
			method, path, _ := strings.Cut(pattern, " ")
			path = strings.NewReplacer("{name}", "web", "{network}", "blue", "{id}", "1", "{address}", "10.0.0.1", "{profile}", "nosuch").Replace(path)
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // of streams the beginning is enough
			w := httptest.NewRecorder()
			func() {
				defer func() { _ = recover() }() // what echo does not answer was asked
				h.ServeHTTP(w, httptest.NewRequest(method, path+"?"+p.Name+"=?", strings.NewReader("{}")).WithContext(ctx))
			}()
			if body := w.Body.String(); strings.Contains(body, "query \\\"") {
				t.Errorf("%s: %s: %s", pattern, p.Name, body)
			}
		}
	}
}

// A method that a path does not take is told with those that it takes.
func TestMethods(t *testing.T) {
	h := Handler(&echo{}, nil, quiet)
	for ask, allow := range map[string]string{
		"PUT /v1/networks": "GET, POST", "PUT /v1/flows": "GET", "DELETE /v1/info": "GET", "POST /v1/containers/web": "GET, PATCH, DELETE",
	} {
		method, path, _ := strings.Cut(ask, " ")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != 405 || w.Header().Get("Allow") != allow || !strings.Contains(w.Body.String(), strings.ReplaceAll(allow, ", ", " or ")) {
			t.Errorf("%s: %d, Allow %q, %s", ask, w.Code, w.Header().Get("Allow"), w.Body)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("PUT", "/v1/nosuch", nil))
	if body := w.Body.String(); w.Code != 404 || !strings.Contains(body, "/v1/networks") || strings.Contains(body, "docs/") {
		t.Errorf("a path that is not there: %d, %s", w.Code, body)
	}
}

// What is wrong with a body is said in the words of JSON.
func TestBodiesInWordsOfJSON(t *testing.T) {
	h := Handler(&echo{}, nil, quiet)
	for body, want := range map[string]string{
		`{"name":5}`:             "field name: number is given, and a string is wanted",
		`{"name":"a","mtu":"x"}`: "field mtu: string is given, and a whole number is wanted",
		`{"name":"a","ipv6":1}`:  "field ipv6: number is given, and true or false is wanted",
		`{"nam":"a"}`:            `unknown field \"nam\"`,
		`{"name"`:                "",
		`{name}`:                 "is no JSON at byte 2",
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/networks", strings.NewReader(body)))
		if text := w.Body.String(); w.Code != 400 || !strings.Contains(text, want) || strings.Contains(text, "Go ") || strings.Contains(text, "json:") {
			t.Errorf("%s: %d, %s, want %s", body, w.Code, text, want)
		}
	}
}

// A program hears of fields, and the command line of its flags.
func TestErrorsInTheWordsOfWhoAsks(t *testing.T) {
	for text, want := range map[string]string{
		"container a: no namespace: give --netns PATH or --pid N":                       "container a: no namespace: give netns PATH or pid N",
		"network a: address x is outside: choose another with --ip-range":               "network a: address x is outside: choose another with ip_range",
		"make one: vswitch network create --ipv6 NAME, or leave --mode-ipv6 out":        "make one: vswitch network create --ipv6 NAME, or leave mode_ipv6 out",
		"the daemon serves no page: start it with --http 127.0.0.1:9595":                "the daemon serves no page: start it with --http 127.0.0.1:9595",
		"network nope does not exist: make it with vswitch network create nope --mtu 5": "network nope does not exist: make it with vswitch network create nope --mtu 5",
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if got := inWordsOf(r, text); got != want {
			t.Errorf("a program: %q, want %q", got, want)
		}
		r.Header.Set("User-Agent", api.UserAgent)
		if got := inWordsOf(r, text); got != text {
			t.Errorf("the command line: %q, want %q", got, text)
		}
	}
}
