package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/pcapng"
)

// evil is a text that sets a terminal's title, begins a line, goes back on it, uses the
// C1 form of CSI, reorders what follows and hides.
const evil = "\x1b]0;pwn\a\nvswitch: all is well\r\t\u009b31m\u202egnp\u2066\u200b\x7f"

// filled is a value of type T whose every text is evil.
func filled[T any]() T {
	var v T
	fill(reflect.ValueOf(&v).Elem())
	return v
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(evil)
	case reflect.Int, reflect.Int64, reflect.Int32, reflect.Int16, reflect.Int8:
		v.SetInt(7)
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16, reflect.Uint8:
		v.SetUint(7)
	case reflect.Float64:
		v.SetFloat(7)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(k)
		fill(e)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(k, e)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Unix(1_700_000_000, 0).UTC()))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

// harmless fails for what acts on a terminal. Columns may be drawn over several lines,
// but the text of a stranger begins none.
func harmless(t *testing.T, what, got string) {
	t.Helper()
	if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
		t.Errorf("%s acts on a terminal: %q", what, got)
	}
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "vswitch: all is well") {
			t.Errorf("%s has a line of a stranger: %q", what, got)
		}
	}
}

// What the daemon tells of strangers reaches the terminal as text, whichever command
// shows it, and programs get it as it is.
func TestS72TextOfStrangersOnTheTerminal(t *testing.T) {
	containers, networks := []api.Container{filled[api.Container]()}, []api.Network{filled[api.Network]()}
	containers[0].Mode = api.ModeBridge
	for _, tc := range []struct {
		cmd    string
		answer any
		path   string
	}{
		{"ps", containers, "/v1/containers"},
		{"inspect x", containers[0], "/v1/containers?select=x"},
		{"network ls", networks, "/v1/networks"},
		{"network inspect x", networks[0], "/v1/networks/x"},
		{"port ls x", []api.PortMapping{filled[api.PortMapping]()}, "/v1/containers/x/ports"},
		{"flows", []api.Flow{filled[api.Flow]()}, "/v1/flows"},
		{"nat ls", []api.NATEntry{filled[api.NATEntry]()}, "/v1/nat"},
		{"fdb", []api.FDBEntry{filled[api.FDBEntry]()}, "/v1/fdb"},
		{"stats", filled[api.Stats](), "/v1/stats"},
		{"why x y", filled[api.Why](), "/v1/why?from=x&to=y"},
		{"why --last-drops", []api.Drop{filled[api.Drop]()}, "/v1/drops"},
		{"page", filled[api.Page](), "/v1/page"},
		{"events --follow=false", filled[api.Event](), "/v1/events?follow=false&since=0"},
	} {
		t.Run(tc.cmd, func(t *testing.T) {
			body, err := json.Marshal(tc.answer)
			if err != nil {
				t.Fatal(err)
			}
			sent := string(body)
			if strings.Contains(tc.path, "select=") { // one of a list
				sent = "[" + sent + "]"
			}
			newFakeDaemon(t, map[string]string{"GET " + tc.path: "200\n" + sent + "\n"})
			var stdout, stderr bytes.Buffer
			run(t.Context(), strings.Fields(tc.cmd), strings.NewReader(""), &stdout, &stderr)
			harmless(t, tc.cmd, stdout.String()+stderr.String())
			if !strings.Contains(stdout.String(), `\x1b]0;pwn\x07`) && tc.cmd != "page" || stderr.Len() > 0 {
				t.Errorf("got %q and %q, want the text escaped", stdout.String(), stderr.String())
			}

			stdout.Reset()
			run(t.Context(), append(strings.Fields(tc.cmd), "--format", "json"), strings.NewReader(""), &stdout, &stderr)
			harmless(t, tc.cmd+" --format json", stdout.String())
			was, is := reflect.New(reflect.TypeOf(tc.answer)), reflect.New(reflect.TypeOf(tc.answer))
			if err := json.Unmarshal(body, was.Interface()); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(stdout.Bytes(), is.Interface()); err != nil {
				t.Fatalf("%q: %v", stdout.String(), err)
			}
			if diff := cmp.Diff(was.Interface(), is.Interface()); diff != "" {
				t.Errorf("programs get another value (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("top", func(t *testing.T) {
		st, err := json.Marshal(filled[api.Stats]())
		if err != nil {
			t.Fatal(err)
		}
		flows, err := json.Marshal([]api.Flow{filled[api.Flow]()})
		if err != nil {
			t.Fatal(err)
		}
		newFakeDaemon(t, map[string]string{"GET /v1/stats": "200\n" + string(st), "GET /v1/flows?limit=50": "200\n" + string(flows)})
		var stdout, stderr bytes.Buffer
		run(t.Context(), []string{"top"}, strings.NewReader(""), &stdout, &stderr)
		harmless(t, "top", stdout.String()+stderr.String())
		if !strings.Contains(stdout.String(), `\x1b]0;pwn\x07`) {
			t.Errorf("got %q and %q", stdout.String(), stderr.String())
		}
	})
}

// Errors too, those of the daemon and those about what was typed or found in a file.
func TestS72ErrorsOnTheTerminal(t *testing.T) {
	body, err := json.Marshal(api.Error{Message: "container x: held by " + evil})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte("\"upl\\u001b[31m\\u009bink\" = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"inspect", "x"}, {"inspect", "x", "--format", "json"}, {"port", "add", "x", "80:80"},
		{evil}, {"ps", evil}, {"ps", "--" + evil}, {"ps", "--format", evil}, {"run", "--label", evil, "--", "true"}, {"\xff\x9b31m"},
		{"daemon", "--config", file}, {"daemon", "--config", "/nosuch/" + evil}, {"daemon", "--uplink", evil, "--pool", evil},
	} {
		newFakeDaemon(t, map[string]string{"GET /v1/containers?select=x": "409\n" + string(body), "GET /v1/containers?select=" + url.QueryEscape(evil): "409\n" + string(body), "POST /v1/containers/x/ports": "409\n" + string(body)})
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); code == exitOK {
			t.Errorf("%q: exit code 0", args)
		}
		harmless(t, fmt.Sprintf("%q", args), stdout.String()+stderr.String())
		if n := strings.Count(stderr.String(), "\n"); n != 1 {
			t.Errorf("%q: %d lines of errors: %q", args, n, stderr.String())
		}
	}
}

// A capture's lines: the names of interfaces and hosts, and the comments.
func TestS72CapturedTextOnTheTerminal(t *testing.T) {
	var stream, lines bytes.Buffer
	addr := netip.MustParseAddr("10.88.0.2")
	hostile := evil + "\xff\x9b31m"
	w, err := pcapng.NewWriter(&stream, hostile)
	if err != nil {
		t.Fatal(err)
	}
	frame := []byte("\xff\xff\xff\xff\xff\xff\x02\x00\x00\x00\x00\x01\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01\x02\x00\x00\x00\x00\x01\x0a\x58\x00\x02\x00\x00\x00\x00\x00\x00\x0a\x58\x00\x01")
	for _, step := range []error{
		w.WriteInterface(pcapng.Interface{Name: hostile + " rx", Description: hostile}),
		w.WriteName(addr, strings.ReplaceAll(hostile, "\x00", "")),
		w.WritePacket(pcapng.Packet{Time: time.Unix(1_700_000_000, 0), Data: frame, OrigLen: len(frame), Comment: hostile}),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	if err := printPackets(&lines, bytes.NewReader(stream.Bytes()), false); err != nil {
		t.Fatal(err)
	}
	harmless(t, "capture", lines.String())
	if got := lines.String(); strings.Count(got, `\x1b]0;pwn\x07`) != 3 || strings.Count(got, "\n") != 1 {
		t.Errorf("got %q, want one line with interface, name and comment escaped", got)
	}
}

// A log in JSON is read on terminals as well.
func TestS72LogOnTheTerminal(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		var stderr bytes.Buffer
		log, err := newLog(&stderr, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		log.Warn("a program "+evil, "program", evil, "err", fmt.Errorf("held by %s", evil))
		harmless(t, format, stderr.String())
		if strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: got %q, want one line", format, stderr.String())
		}
	}
}

// printers are the files that may write to a stream without sayf or a table.
var printers = map[string]string{
	"format.go":    "has sayf and table",
	"template.go":  "prints what a template makes, each column harmless",
	"screen.go":    "steers the terminal; what it draws comes from tables",
	"man.go":       "no part of the program",
	"demo_box.go":  "speaks to its parent through a pipe",
	"demo_site.go": "answers on sockets",
	"runinit.go":   "speaks to its parent through a pipe",
	"extcap.go":    "hands Wireshark a constant",
}

// Nothing is printed past sayf and table.
func TestOnePlacePrints(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") || printers[file] != "" {
			continue
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			fn, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, _ := fn.X.(*ast.Ident)
			if pkg == nil || !slices.Contains([]string{"fmt.Print", "fmt.Printf", "fmt.Println", "fmt.Fprint", "fmt.Fprintf", "fmt.Fprintln", "io.WriteString"}, pkg.Name+"."+fn.Sel.Name) {
				return true
			}
			if _, buffer := call.Args[0].(*ast.UnaryExpr); !buffer { // &b, a strings.Builder
				t.Errorf("%s: %s.%s: print by sayf or a table, or add the file to printers with the reason", fset.Position(n.Pos()), pkg.Name, fn.Sel.Name)
			}
			return true
		})
	}
}
