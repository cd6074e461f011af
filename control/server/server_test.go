package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/control/pcapng"
)

// echo is a Backend that remembers what it was asked and says what it is told.
type echo struct {
	Backend // nil: a method that is not here must not be called
	asked   []any
	err     error
	frames  []Frame
}

func (e *echo) note(a ...any) error { e.asked = append(e.asked, a...); return e.err }

func (e *echo) Info(context.Context) (api.Info, error) { return api.Info{PID: 7}, e.note("info") }
func (e *echo) Attach(_ context.Context, in api.Attach) (api.Container, error) {
	return api.Container{Name: in.Name}, e.note(in)
}
func (e *echo) Detach(_ context.Context, name string) error { return e.note("detach", name) }
func (e *echo) Disconnect(_ context.Context, name, network string) error {
	return e.note("disconnect", name, network)
}
func (e *echo) Containers(_ context.Context, f api.ContainerFilter) ([]api.Container, error) {
	return []api.Container{}, e.note(f)
}
func (e *echo) Container(_ context.Context, name string) (api.Container, error) {
	return api.Container{Name: name}, nil
}
func (e *echo) Check(_ context.Context, name string) error      { return e.note("check", name) }
func (e *echo) Release(_ context.Context, in api.Release) error { return e.note(in) }
func (e *echo) GC(_ context.Context, in api.GC) (api.Collected, error) {
	return api.Collected{}, e.note(in)
}
func (e *echo) Unpublish(_ context.Context, name string, rules []string) error {
	return e.note("unpublish", name, rules)
}
func (e *echo) PruneNetworks(context.Context) (api.Pruned, error) { panic("broken invariant") }
func (e *echo) Capture(_ context.Context, cfg CaptureConfig) (Capture, error) {
	return &tape{frames: e.frames}, e.note(cfg)
}

type tape struct{ frames []Frame }

func (t *tape) Interfaces() []pcapng.Interface {
	return []pcapng.Interface{{Name: "web/eth0 (bridge) rx", Description: "d", Filter: "tcp"}, {Name: "uplink/eth0 tx", SnapLen: 61}}
}
func (t *tape) Names() []Name {
	return []Name{{netip.MustParseAddr("10.88.0.2"), "web"}, {netip.MustParseAddr("fd00::2"), "web"}}
}
func (t *tape) Counts(int) (uint64, uint64) { return 4, 3 }
func (t *tape) Close()                      {}
func (t *tape) Release()                    {}
func (t *tape) Next(context.Context) (Frame, bool, error) {
	if len(t.frames) == 0 {
		return Frame{}, false, nil
	}
	f := t.frames[0]
	t.frames = t.frames[1:]
	return f, true, nil
}

func (t *tape) Doze(time.Duration) {}
func (t *tape) Ready() (f Frame, ok bool) {
	f, ok, _ = t.Next(context.Background())
	return f, ok
}

var quiet = slog.New(slog.DiscardHandler)

func TestStatuses(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("x: %w", api.ErrInvalid), 400},
		{fmt.Errorf("x: %w", api.ErrNotFound), 404},
		{fmt.Errorf("x: %w", api.ErrConflict), 409},
		{fmt.Errorf("x: %w", api.ErrFull), 507},
		{errors.New("two\nlines"), 500},
		{nil, 201},
	} {
		w := httptest.NewRecorder()
		Handler(&echo{err: tc.err}, nil, quiet).ServeHTTP(w, httptest.NewRequest("POST", "/v1/containers", strings.NewReader(`{"name":"web"}`)))
		if w.Code != tc.want {
			t.Errorf("%v: status %d, want %d", tc.err, w.Code, tc.want)
		}
		var e api.Error
		if err := json.Unmarshal(w.Body.Bytes(), &e); tc.err != nil && (err != nil || e.Message == "" || strings.Contains(e.Message, "\n")) {
			t.Errorf("%v: body %q, %v, want one line", tc.err, w.Body, err)
		}
	}
}

func TestBodies(t *testing.T) {
	ok := `{"name":"web","networks":[{"network":"blue"}]}`
	for _, tc := range []struct {
		name, body string
		want       int
	}{
		{"right", ok, 201},
		{"blanks behind", ok + " \n", 201},
		{"unknown field", `{"name":"web","nmae":"x"}`, 400},
		{"wrong type", `{"name":7}`, 400},
		{"two values", ok + ok, 400},
		{"rubbish behind", ok + "}", 400},
		{"cut", ok[:20], 400},
		{"an array", `[]`, 400},
		{"deep", strings.Repeat(`[`, 100000), 400},
		{"too large", `{"name":"` + strings.Repeat("x", MaxBody) + `"}`, 413},
		{"too large behind", ok + strings.Repeat(" ", MaxBody), 413},
	} {
		e := &echo{}
		w := httptest.NewRecorder()
		Handler(e, nil, quiet).ServeHTTP(w, httptest.NewRequest("POST", "/v1/containers", strings.NewReader(tc.body)))
		if w.Code != tc.want {
			t.Errorf("%s: status %d, want %d: %s", tc.name, w.Code, tc.want, w.Body)
		}
		if called := len(e.asked) > 0; called != (tc.want == 201) {
			t.Errorf("%s: the backend was called: %v", tc.name, called)
		}
	}
}

func TestPaths(t *testing.T) {
	for _, tc := range []struct {
		method, path, body string
		want               int
		asked              []any
	}{
		{"GET", "/v1/info", "", 200, []any{"info"}},
		{"DELETE", "/v1/containers/web", "", 204, []any{"detach", "web"}},
		{"DELETE", "/v1/containers/a%2Fb", "", 204, []any{"detach", "a/b"}},
		{"DELETE", "/v1/containers/web/networks/blue", "", 204, []any{"disconnect", "web", "blue"}},
		{"DELETE", "/v1/containers/web/ports", `{"ports":["80"]}`, 204, []any{"unpublish", "web", []string{"80"}}},
		{"GET", "/v1/containers?runtime=cni&runtime_id=x&network=blue", "", 200, []any{api.ContainerFilter{Runtime: "cni", RuntimeID: "x", Network: "blue"}}},
		{"GET", "/v1/containers?runtimes=cni", "", 400, nil},
		{"GET", "/v1/containers/web/check", "", 204, []any{"check", "web"}},
		{"POST", "/v1/release", `{"runtime":"cni","runtime_id":"x","ifname":"eth0"}`, 204, []any{api.Release{Runtime: "cni", RuntimeID: "x", Ifname: "eth0"}}},
		{"POST", "/v1/gc", `{"runtime":"cni","valid":[]}`, 200, []any{api.GC{Runtime: "cni", Valid: []api.Attachment{}}}},
		{"POST", "/v1/gc", `{"runtime":"cni","valid":null}`, 200, []any{api.GC{Runtime: "cni"}}},
		{"POST", "/v1/networks/prune", "", 500, nil}, // panics inside
		{"GET", "/v1/nosuch", "", 404, nil},
		{"GET", "/", "", 404, nil},
		{"GET", "/v1/capture?snaplen=x", "", 400, nil},
		{"GET", "/v1/capture?segment=perhaps", "", 400, nil},
		{"GET", "/v1/capture?last=-3s", "", 400, nil},
		{"DELETE", "/v1/capture/7", "", 404, nil},
	} {
		e := &echo{}
		w := httptest.NewRecorder()
		Handler(e, nil, quiet).ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
		if d := cmp.Diff(tc.asked, e.asked); w.Code != tc.want || d != "" {
			t.Errorf("%s %s: status %d, want %d (-want +got):\n%s", tc.method, tc.path, w.Code, tc.want, d)
		}
	}
}

func TestCaptureStream(t *testing.T) {
	at := time.Unix(1700000000, 123456789)
	e := &echo{frames: []Frame{
		{Time: at, Interface: 1, Direction: pcapng.Outbound, Data: bytes.Repeat([]byte{1}, 61), OrigLen: 1500, Comment: "in veth1 (web)"},
		{Time: at.Add(time.Nanosecond), Interface: 0, Direction: pcapng.Inbound, Data: bytes.Repeat([]byte{2}, 60), OrigLen: 60, Comment: "dropped: guard-spoofed-ip"},
	}}
	w := httptest.NewRecorder()
	Handler(e, nil, quiet).ServeHTTP(w, httptest.NewRequest("GET", "/v1/capture?target=web&target=uplink&snaplen=61&filter=tcp+port+80&point=rx&point=drop&segment=true&wait=1&last=30s", nil))
	if d := cmp.Diff([]any{CaptureConfig{
		Targets: []string{"web", "uplink"}, Filter: "tcp port 80", Points: []string{"rx", "drop"}, SnapLen: 61, Segment: true, Wait: true, Last: 30 * time.Second,
	}}, e.asked); d != "" || w.Code != 200 {
		t.Fatalf("status %d (-want +got):\n%s", w.Code, d)
	}
	ng, err := pcapgo.NewNgReader(w.Body, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		nic, dir, size, orig int
		comment              string
	}{{1, 2, 61, 1500, "in veth1 (web)"}, {0, 1, 60, 60, "dropped: guard-spoofed-ip"}} {
		data, ci, opts, err := ng.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatal(err)
		}
		if ci.InterfaceIndex != want.nic || opts.Flags == nil || int(opts.Flags.Direction) != want.dir || len(data) != want.size || ci.Length != want.orig || !slices.Equal(opts.Comments, []string{want.comment}) {
			t.Errorf("frame %d: %+v %+v, want %+v", i, ci, opts, want)
		}
		if !ci.Timestamp.Equal(at.Add(time.Duration(i))) {
			t.Errorf("frame %d at %v, want nanoseconds kept", i, ci.Timestamp)
		}
	}
	if _, _, err := ng.ReadPacketData(); err != io.EOF {
		t.Errorf("behind the last frame: %v", err)
	}
	if n, err := ng.Interface(1); err != nil || n.Name != "uplink/eth0 tx" || n.Statistics.PacketsDropped != 3 || n.SnapLength != 61 {
		t.Errorf("interface 1 is %+v, %v", n, err)
	}
	if n, err := ng.Interface(0); err != nil || n.Filter != "tcp" || n.Description != "d" {
		t.Errorf("interface 0 is %+v, %v", n, err)
	}
	if n, err := ng.Name(1); err != nil || ng.NNames() != 2 || n.Addr.(*pcapgo.NgIPAddress).Addr.String() != "fd00::2" || n.Names[0] != "web" {
		t.Errorf("name 1 of %d is %+v, %v", ng.NNames(), n, err)
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir() + "/run"
	path := dir + "/vswitch.sock"
	for range 2 { // the second replaces what a dead daemon left
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		fi, err := os.Stat(path)
		if err != nil || fi.Mode() != os.ModeSocket|0o660 {
			t.Errorf("socket %v, %v, want 0660", fi.Mode(), err)
		}
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o750 {
			t.Errorf("directory %v, %v, want 0750", fi.Mode(), err)
		}
		l.Close()
	}
	if _, err := client.New(path).Info(t.Context()); !errors.Is(err, client.ErrNoDaemon) {
		t.Errorf("a socket that nobody listens on: %v, want ErrNoDaemon", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "something else") {
		t.Errorf("a file in the way: %v", err)
	}
}

func TestClientSpeaksToServer(t *testing.T) {
	path := t.TempDir() + "/s/vswitch.sock"
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{}
	srv := New(Handler(e, nil, quiet), quiet)
	go srv.Serve(l)
	defer srv.Close()
	c := client.New(path)
	defer c.Close()
	if info, err := c.Info(t.Context()); err != nil || info.PID != 7 {
		t.Errorf("info %+v, %v", info, err)
	}
	in := api.Attach{Name: "web", Netns: "/run/netns/web", Publish: []string{"80"}, Labels: map[string]string{"a": "b"}}
	if _, err := c.Attach(t.Context(), in); err != nil {
		t.Error(err)
	}
	if err := c.Disconnect(t.Context(), "a/b", "c?d"); err != nil {
		t.Error(err)
	}
	if d := cmp.Diff([]any{"info", in, "disconnect", "a/b", "c?d"}, e.asked); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	e.err = fmt.Errorf("container web is attached already: detach it first%w", errKind{api.ErrConflict})
	_, err = c.Attach(t.Context(), in)
	if !client.IsConflict(err) || err.Error() != "container web is attached already: detach it first" {
		t.Errorf("got %v", err)
	}
}

// errKind is a kind without a text.
type errKind struct{ error }

func (errKind) Error() string   { return "" }
func (e errKind) Unwrap() error { return e.error }

// A parameter that is not known would select more than was meant.
func TestUnknownParameters(t *testing.T) {
	b := &echo{}
	h := Handler(b, nil, quiet)
	for _, path := range []string{"flows?container=web", "nat?container=web", "flows/log?container=web", "events?sinse=7", "containers?name=web", "flows/log?limit=1"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/"+path, nil))
		if w.Code != 400 || !strings.Contains(w.Body.String(), "use ") || len(b.asked) > 0 {
			t.Errorf("%s: %d, %s, and asked %v", path, w.Code, w.Body, b.asked)
		}
	}
}
