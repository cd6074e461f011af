//go:build !race

package web_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/web"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestPageLosesAFile: a page that does not get one of its files, as when the network of the
// host changes meanwhile, comes by itself all the same, and its link is good for that.
func TestPageLosesAFile(t *testing.T) {
	link := api.Page{URL: "http://" + pageAt + "/", Token: web.Token}.Link()
	ns := labtest.New(t, "host")
	l, err := ns.Listen("tcp", pageAt)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	left := map[string]int{"/js/map.js": 2, "/views.css": 1}
	h := web.HandlerOf(web.NewFake(2, 3), web.Token)
	srv := web.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n := left[r.URL.Path]
		left[r.URL.Path] = n - 1
		mu.Unlock()
		if n > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	}), quiet)
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	b := openTab(t, ns)
	b.open(link)
	b.until(live)
	b.until("document.styleSheets.length === 2")
	mu.Lock()
	for path, n := range left {
		if n > 0 {
			t.Errorf("%s was never lost", path)
		}
	}
	mu.Unlock()

	// What a view asks for is asked once more, unless the view no longer wants it.
	for signal, want := range map[string]string{"new AbortController().signal": "200", "AbortSignal.abort()": "AbortError"} {
		got := js[string](b, fmt.Sprintf(`(async () => {
			const { ask } = await import('/js/ask.js');
			const real = fetch;
			let n = 0;
			window.fetch = (path, init) => (path === '/v1/info' && !init.signal.aborted && ++n === 1 ? Promise.reject(new TypeError('Failed to fetch')) : real(path, init));
			try { return String((await ask('/v1/info', { signal: %s })).status); } catch (e) { return e.name; } finally { window.fetch = real; }
		})()`, signal))
		if got != want {
			t.Errorf("with %s: %s, want %s", signal, got, want)
		}
	}

	// Addresses come and go, as they do with containers.
	other := labtest.New(t, "other")
	if err := errors.Join(netlab.Veth(ns, "d0", other, "d1", 0), ns.SetUp("d0"), other.SetUp("d1")); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for end := time.Now().Add(2 * time.Second); time.Now().Before(end); {
			for _, change := range []func(string, string) error{ns.AddAddr, ns.DelAddr} {
				if err := change("d0", "10.9.0.1/24"); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					return
				case <-time.After(30 * time.Millisecond):
				}
			}
		}
	}()
	defer func() { close(stop); <-done }()
	for range 2 {
		js[bool](b, "(localStorage.clear(), true)")
		b.open(link)
		b.until(live)
	}
}
