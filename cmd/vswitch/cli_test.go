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
	replayAll(t, "testdata/*.txtar", func(t *testing.T, f map[string]string) (string, string, int) {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(f["cmd"])[1:], strings.NewReader(""), &stdout, &stderr)
		return stdout.String(), stderr.String(), code
	})
}

// replayAll runs each of the files with a server that gives the answers written
// there, and compares what was asked and said with the rest of the file. do is
// given the sections by name.
func replayAll(t *testing.T, pattern string, do func(*testing.T, map[string]string) (stdout, stderr string, code int)) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { replay(t, file, do) })
	}
}

func replay(t *testing.T, file string, do func(*testing.T, map[string]string) (stdout, stderr string, code int)) {
	ar, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sections, answers := map[string]string{}, map[string]string{}
	for _, f := range ar.Files {
		if kind, what, _ := strings.Cut(f.Name, " "); kind == "answer" {
			answers[what] = string(f.Data)
		} else {
			sections[f.Name] = string(f.Data)
		}
	}
	d := newFakeDaemon(t, answers)
	stdout, stderr, code := do(t, sections)
	plain := strings.NewReplacer(d.socket, "$SOCKET")
	got := map[string]string{"stdout": plain.Replace(stdout), "stderr": plain.Replace(stderr), "exit": fmt.Sprintln(code)}
	d.mu.Lock()
	for what, body := range d.requests {
		got["request "+what] = body
	}
	d.mu.Unlock()
	for i, f := range ar.Files {
		switch kind, _, _ := strings.Cut(f.Name, " "); kind {
		case "request", "stdout", "stderr", "exit":
		default:
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
			if *update {
				ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(text)})
			} else {
				t.Errorf("%s is not in the file: %s", name, text)
			}
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(ar), 0o644); err != nil {
			t.Fatal(err)
		}
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
