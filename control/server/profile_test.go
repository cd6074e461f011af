package server

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// TestProfiles: a profile of the time it was asked for has what happened in it.
func TestProfiles(t *testing.T) {
	h := Handler(&echo{}, nil, quiet)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer func() { close(stop); wg.Wait() }()
	var mu sync.Mutex
	// Two, so that now and then nobody waits: the runtime does not see those who wait in
	// a queue that has not been empty since before the profile.
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					contended(&mu)
				}
			}
		})
	}
	for _, c := range []struct {
		path string
		code int
		has  string
	}{
		{"mutex?seconds=1", 200, "contended"},
		{"block?seconds=1", 200, "contended"},
		{"cpu?seconds=1", 200, ""},
		{"goroutine", 200, "TestProfiles"},
		{"heap?seconds=1", 200, ""},
		{"mutex?seconds=0", 400, ""},
		{"mutex?seconds=301", 400, ""},
		{"mutex?seconds=x", 400, ""},
		{"cmdline", 404, ""},
		{"", 404, ""},
	} {
		var said []byte
		for try := 0; try == 0 || try < 5 && !bytes.Contains(said, []byte(c.has)); try++ { // a second without a CPU has no events
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/debug/pprof/"+c.path, nil))
			if w.Code != c.code {
				t.Fatalf("%s: %d, want %d: %s", c.path, w.Code, c.code, w.Body)
			}
			if c.code != 200 {
				break
			}
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatalf("%s: %v", c.path, err)
			}
			if said, err = io.ReadAll(z); err != nil {
				t.Fatalf("%s: %v", c.path, err)
			}
		}
		if !bytes.Contains(said, []byte(c.has)) {
			t.Errorf("%s: no %q in %d bytes", c.path, c.has, len(said))
		}
	}
}

func contended(mu *sync.Mutex) {
	mu.Lock()
	time.Sleep(time.Millisecond)
	mu.Unlock()
}
