package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write what was got into testdata")

// TestCommandLine runs the command lines of testdata/*.txtar against a server
// that gives the answers written there. The sections of a file:
//
//	cmd                   the command line; words are split at blanks
//	answer METHOD PATH    status and body that the daemon gives
//	request METHOD PATH   body that it must get
//	stdout, stderr, exit  what must come of it
func TestCommandLine(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var args []string
			answers := map[string]string{}
			for _, f := range ar.Files {
				if kind, what, _ := strings.Cut(f.Name, " "); kind == "answer" {
					answers[what] = string(f.Data)
				} else if kind == "cmd" {
					args = strings.Fields(string(f.Data))[1:]
				}
			}
			d := newFakeDaemon(t, answers)
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr)

			plain := strings.NewReplacer(d.socket, "$SOCKET")
			got := map[string]string{
				"stdout": plain.Replace(stdout.String()),
				"stderr": plain.Replace(stderr.String()),
				"exit":   fmt.Sprintln(code),
			}
			d.mu.Lock()
			for what, body := range d.requests {
				got["request "+what] = body
			}
			d.mu.Unlock()
			for i, f := range ar.Files {
				if kind, _, _ := strings.Cut(f.Name, " "); kind == "answer" || kind == "cmd" {
					continue
				}
				if diff := cmp.Diff(string(f.Data), got[f.Name]); diff != "" {
					if !*update {
						t.Errorf("%s (-want +got):\n%s", f.Name, diff)
					}
					ar.Files[i].Data = []byte(got[f.Name])
				}
				delete(got, f.Name)
			}
			for name, text := range got {
				if text != "" {
					t.Errorf("%s is not in the file: %s", name, text)
				}
			}
			if *update {
				if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// fakeDaemon answers on a unix socket what a test tells it to; anything else is
// an error of the test.
type fakeDaemon struct {
	socket string

	mu       sync.Mutex
	requests map[string]string // "METHOD PATH" -> body, indented
}

// newFakeDaemon serves answers, "METHOD PATH" -> "STATUS\nBODY".
func newFakeDaemon(t *testing.T, answers map[string]string) *fakeDaemon {
	t.Helper()
	d := &fakeDaemon{
		socket:   filepath.Join(t.TempDir(), "s"),
		requests: map[string]string{},
	}
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		what := r.Method + " " + r.URL.RequestURI()
		answer, ok := answers[what]
		if !ok {
			t.Errorf("unexpected request %s", what)
		}
		if body, _ := io.ReadAll(r.Body); len(body) > 0 {
			var b bytes.Buffer
			if err := json.Indent(&b, body, "", "  "); err != nil {
				t.Errorf("%s: body %q: %v", what, body, err)
			}
			d.mu.Lock()
			d.requests[what] = b.String() + "\n"
			d.mu.Unlock()
		}
		status, body, _ := strings.Cut(answer, "\n")
		var code int
		fmt.Sscan(status, &code)
		w.WriteHeader(code)
		io.WriteString(w, body)
	}))
	srv.Listener.Close()
	srv.Listener = l
	srv.Start()
	t.Cleanup(srv.Close)
	t.Setenv("VSWITCH_SOCKET", d.socket)
	return d
}
