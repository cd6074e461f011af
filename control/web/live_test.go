package web

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
)

// message is one of the stream.
type message struct{ name, data string }

// watch opens a stream and passes its messages on.
func watch(t *testing.T, h http.Handler) (messages <-chan message, leave func()) {
	t.Helper()
	// The namespace that tests run in has no loopback.
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	tr := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", path) }}
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://page/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	c := make(chan message, 1000)
	go func() {
		defer close(c)
		s := bufio.NewScanner(resp.Body)
		s.Buffer(nil, 16<<20)
		var m message
		for s.Scan() {
			switch k, v, _ := strings.Cut(s.Text(), ": "); k {
			case "event":
				m.name = v
			case "data":
				m.data = v
			case "":
				c <- m
			}
		}
	}()
	return c, func() { cancel(); resp.Body.Close(); srv.Close() }
}

func next[T any](t *testing.T, c <-chan message, name string) (v T) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case m, ok := <-c:
			if !ok {
				t.Fatalf("the stream ended, want %s", name)
			}
			if m.name != name {
				continue
			}
			if err := json.Unmarshal([]byte(m.data), &v); err != nil {
				t.Fatalf("%s: %v in %s", name, err, m.data)
			}
			return v
		case <-deadline:
			t.Fatalf("no %s", name)
		}
	}
}

func TestLiveBeginsWithEverything(t *testing.T) {
	f := newFake(3, 0)
	f.happen(api.Event{Seq: 7, Type: "attach", Message: "two\nlines", Container: "c1"})
	c, leave := watch(t, newHub(f, nil, quiet))
	defer leave()
	w := next[topology](t, c, "topology")
	if len(w.Containers) != 3 || len(w.Networks) != 1 || len(w.Ports) != 5 || w.Info.Version != "test" {
		t.Errorf("got topology %+v", w)
	}
	first := next[counts](t, c, "counts")
	if !first.Full || len(first.Ports) != 5 || first.Ports["vethc2"].RxBytes == 0 {
		t.Errorf("got %+v first", first)
	}
	if e := next[api.Event](t, c, "event"); e.Seq != 7 || e.Message != "two\nlines" {
		t.Errorf("got event %+v", e)
	}
	// From then on what has changed: the host's port and c0 are silent.
	second := next[counts](t, c, "counts")
	if _, ok := second.Ports["vethc0"]; second.Full || ok || len(second.Ports) != 3 {
		t.Errorf("got %+v second, want the three ports that had frames", second)
	}
	f.happen(api.Event{Seq: 8})
	if e := next[api.Event](t, c, "event"); e.Seq != 8 {
		t.Errorf("got event %+v", e)
	}
}

// However many look, the daemon is asked once a period, and not at all when
// nobody does.
func TestLiveAsksOnceForAll(t *testing.T) {
	f := newFake(1, 0)
	h := newHub(f, nil, quiet)
	begin := time.Now()
	a, leaveA := watch(t, h)
	b, leaveB := watch(t, h)
	next[counts](t, a, "counts")
	first := next[counts](t, b, "counts")
	if !first.Full {
		t.Error("the second viewer does not begin with everything")
	}
	for range 2 {
		next[counts](t, a, "counts")
		next[counts](t, b, "counts")
	}
	n := int(f.reads.Load())
	if took := time.Since(begin); n > 3+int(took/livePeriod) {
		t.Errorf("%d readings in %v, want one a period", n, took)
	}
	leaveA()
	leaveB()
	deadline := time.Now().Add(30 * time.Second)
	for {
		h.mu.Lock()
		running := h.running
		h.mu.Unlock()
		if !running {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the hub goes on without viewers")
		}
		time.Sleep(10 * time.Millisecond)
	}
	before := f.reads.Load()
	c, leave := watch(t, h) // and begins again
	defer leave()
	if got := next[counts](t, c, "counts"); !got.Full || f.reads.Load() == before {
		t.Errorf("after a pause: %+v", got)
	}
}

// A viewer that takes nothing costs no memory and misses nothing.
func TestLiveSlowViewer(t *testing.T) {
	h := newHub(newFake(2, 0), nil, quiet)
	v := &viewer{messages: make(chan []byte, 2), behind: true}
	h.viewers[v] = true
	for range 10 {
		if err := h.read(); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.messages) != 2 || !v.behind {
		t.Fatalf("%d messages wait, behind %v", len(v.messages), v.behind)
	}
	<-v.messages
	if err := h.read(); err != nil {
		t.Fatal(err)
	}
	<-v.messages
	if got := string(<-v.messages); !strings.HasPrefix(got, "event: topology\n") || !strings.Contains(got, `"full":true`) || v.behind {
		t.Errorf("after it fell behind it got %.60q", got)
	}
}

func BenchmarkLive(b *testing.B) {
	for _, n := range []int{10, 500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newHub(newFake(n, 0), nil, quiet)
			b.ReportAllocs()
			for b.Loop() {
				if err := h.read(); err != nil {
					b.Fatal(err)
				}
			}
			runtime.KeepAlive(h)
		})
	}
}
