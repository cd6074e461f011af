package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/vswitch/vswitch/control/client"
)

// document is what these tests read of docs/openapi.yaml.
type document struct {
	Paths      map[string]map[string]yaml.Node `yaml:"paths"`
	Components struct {
		Schemas   map[string]*schema  `yaml:"schemas"`
		Responses map[string]response `yaml:"responses"`
	} `yaml:"components"`
	operations map[string]*operation // by pattern, "GET /v1/info"
}

type operation struct {
	ID          string `yaml:"operationId"`
	Summary     string `yaml:"summary"`
	Parameters  []parameter
	RequestBody *struct {
		Content map[string]media `yaml:"content"`
	} `yaml:"requestBody"`
	Responses map[string]response `yaml:"responses"`
}

type parameter struct {
	Name   string `yaml:"name"`
	In     string `yaml:"in"`
	Schema schema `yaml:"schema"`
}

type response struct {
	Ref         string           `yaml:"$ref"`
	Description string           `yaml:"description"`
	Content     map[string]media `yaml:"content"`
}

type media struct {
	Schema *schema `yaml:"schema"`
}

func openDocument(t *testing.T) *document {
	t.Helper()
	b, err := os.ReadFile("../../docs/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	doc := &document{operations: map[string]*operation{}}
	if err := yaml.Unmarshal(b, doc); err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths {
		var shared []parameter
		if n, ok := item["parameters"]; ok {
			if err := n.Decode(&shared); err != nil {
				t.Fatalf("%s: parameters: %v", path, err)
			}
		}
		for method, n := range item {
			if method == "parameters" {
				continue
			}
			op := new(operation)
			if err := n.Decode(op); err != nil {
				t.Fatalf("%s %s: %v", method, path, err)
			}
			op.Parameters = append(op.Parameters, shared...)
			doc.operations[strings.ToUpper(method)+" "+path] = op
		}
	}
	if len(doc.operations) == 0 {
		t.Fatal("docs/openapi.yaml has no operation")
	}
	return doc
}

// What is served is documented, and what is documented is served.
func TestOpenAPIPaths(t *testing.T) {
	doc := openDocument(t)
	var served []string
	for _, p := range Handler(&echo{}, nil, quiet).(*router).patterns {
		if p != "/" {
			served = append(served, p)
		}
	}
	slices.Sort(served)
	if d := cmp.Diff(slices.Sorted(maps.Keys(doc.operations)), served); d != "" {
		t.Errorf("(-docs/openapi.yaml +handlers):\n%s", d)
	}
	ids := map[string]string{}
	for pattern, op := range doc.operations {
		if op.ID == "" || op.Summary == "" || ids[op.ID] != "" {
			t.Errorf("%s: operationId %q, summary %q: both must be there, the ID once (%s)", pattern, op.ID, op.Summary, ids[op.ID])
		}
		ids[op.ID] = pattern
		var want []string
		for _, part := range strings.Split(pattern, "/") {
			if strings.HasPrefix(part, "{") {
				want = append(want, strings.Trim(part, "{}"))
			}
		}
		var got []string
		for _, p := range op.Parameters {
			if p.In == "path" {
				got = append(got, p.Name)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Errorf("%s: path parameters %v, want %v", pattern, got, want)
		}
		for status, r := range op.Responses {
			if name, ok := strings.CutPrefix(r.Ref, "#/components/responses/"); ok {
				if doc.Components.Responses[name].Description == "" {
					t.Errorf("%s: response %s is nowhere", pattern, r.Ref)
				}
			} else if r.Description == "" {
				t.Errorf("%s: response %s says nothing", pattern, status)
			}
		}
		if _, ok := op.Responses["default"]; !ok {
			t.Errorf("%s: no default response", pattern)
		}
	}
}

// clientMethods are the methods whose names are not the operation's.
var clientMethods = map[string]string{"containers": "ContainersOf"}

// scribe is a daemon that notes what the client asks and gives the answer that
// the document has as an example.
type scribe struct {
	pattern, query string
	body           []byte
	status         int
	kind           string // content type
	answer         []byte
}

func (s *scribe) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.query = r.URL.RawQuery
	s.body, _ = io.ReadAll(r.Body)
	w.Header().Set("Content-Type", s.kind)
	w.WriteHeader(s.status)
	w.Write(s.answer)
}

// Each operation has a method of the client. With everything set that its types
// have, the method sends what the document says and no more, finds all in the
// answer that the document promises, and the handler takes the document's request.
func TestOpenAPITypes(t *testing.T) {
	doc := openDocument(t)
	path := filepath.Join(t.TempDir(), "s", "vswitch.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	daemon := new(scribe)
	mux := http.NewServeMux()
	for pattern := range doc.operations {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			daemon.pattern = r.Pattern
			daemon.ServeHTTP(w, r)
		})
	}
	srv := &http.Server{Handler: mux}
	go srv.Serve(l)
	defer srv.Close()
	cl := client.New(path)
	defer cl.Close()

	used := map[string]bool{"Error": true}
	for pattern, op := range doc.operations {
		t.Run(op.ID, func(t *testing.T) {
			name := clientMethods[op.ID]
			for m := range reflect.TypeFor[*client.Client]().Methods() {
				if name == "" && strings.EqualFold(m.Name, op.ID) {
					name = m.Name
				}
			}
			method := reflect.ValueOf(cl).MethodByName(name)
			if !method.IsValid() {
				t.Fatalf("%s: the client has no such method", pattern)
			}
			var answer *schema
			for status, r := range op.Responses {
				if !strings.HasPrefix(status, "2") {
					continue
				}
				*daemon = scribe{}
				fmt.Sscan(status, &daemon.status)
				for kind, m := range r.Content {
					daemon.kind = kind
					if kind != "application/x-pcapng" && kind != "application/octet-stream" {
						answer = m.Schema
						daemon.answer = append(encode(t, doc.example(t, m.Schema, used)), '\n')
					}
				}
			}
			got := call(t, method)
			if daemon.pattern != pattern {
				t.Errorf("%s asks for %s, want %s", name, daemon.pattern, pattern)
			}
			if answer != nil {
				if d := cmp.Diff(decoded(t, daemon.answer), decoded(t, encode(t, got))); d != "" {
					t.Errorf("the answer (-docs/openapi.yaml +%s):\n%s", name, d)
				}
				doc.checkRequired(t, answer, reflect.TypeOf(got))
			}
			doc.checkQuery(t, op, daemon.query)
			if op.RequestBody == nil {
				if len(daemon.body) > 0 {
					t.Errorf("%s sends a body, which is not documented: %s", name, daemon.body)
				}
				return
			}
			request := op.RequestBody.Content["application/json"].Schema
			for _, problem := range doc.check(request, decoded(t, daemon.body), "body") {
				t.Errorf("%s sends %s", name, problem)
			}
			example := encode(t, doc.example(t, request, used))
			if want, got := keys(decoded(t, example), ""), keys(decoded(t, daemon.body), ""); !slices.Equal(want, got) {
				t.Errorf("the request (-docs/openapi.yaml +%s):\n%s", name, cmp.Diff(want, got))
			}
			// A backend that is not there fails inside, behind the decoder.
			w := httptest.NewRecorder()
			verb, target, _ := strings.Cut(pattern, " ")
			Handler(&echo{err: io.ErrUnexpectedEOF}, nil, quiet).ServeHTTP(w, httptest.NewRequest(verb, target, bytes.NewReader(example)))
			if w.Code != 500 {
				t.Errorf("the handler gives %d for %s: %s", w.Code, example, w.Body)
			}
		})
	}
	for name := range doc.Components.Schemas {
		if !used[name] {
			t.Errorf("schema %s is used by no operation", name)
		}
	}
}

// call calls a method of the client with every argument filled and returns the
// value it had from the answer.
func call(t *testing.T, method reflect.Value) (got any) {
	t.Helper()
	var args []reflect.Value
	typ := method.Type()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for i := range typ.NumIn() {
		switch in := typ.In(i); {
		case in == reflect.TypeFor[context.Context]():
			args = append(args, reflect.ValueOf(ctx))
		case in == reflect.TypeFor[io.Writer]():
			args = append(args, reflect.ValueOf(io.Discard))
		case in.Kind() == reflect.Func: // of a stream
			args = append(args, reflect.MakeFunc(in, func(v []reflect.Value) []reflect.Value {
				got = v[0].Interface()
				return []reflect.Value{reflect.Zero(in.Out(0))}
			}))
		default:
			v := reflect.New(in).Elem()
			fill(v)
			args = append(args, v)
		}
	}
	how := method.Call
	if typ.IsVariadic() {
		how = method.CallSlice
	}
	out := how(args)
	if err, _ := out[len(out)-1].Interface().(error); err != nil {
		t.Fatal(err)
	}
	if len(out) == 2 {
		return out[0].Interface()
	}
	return got
}

// fill sets everything in v to something that is not left out.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1700000000, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() && v.Field(i).Kind() != reflect.Func {
				fill(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value)
		v.SetMapIndex(reflect.ValueOf("key"), value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1.5)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	default:
		panic("no value for " + v.Type().String())
	}
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func decoded(t *testing.T, b []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %q", err, b)
	}
	return v
}
