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
	h := Handler(&echo{}, quiet)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer func() { close(stop); wg.Wait() }()
	var mu sync.Mutex
	for range 4 {
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
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/v1/debug/pprof/"+c.path, nil))
		if w.Code != c.code {
			t.Errorf("%s: %d, want %d: %s", c.path, w.Code, c.code, w.Body)
			continue
		}
		if c.code != 200 {
			continue
		}
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		b, err := io.ReadAll(z)
		if err != nil || !bytes.Contains(b, []byte(c.has)) {
			t.Errorf("%s: no %q in %d bytes, %v", c.path, c.has, len(b), err)
		}
	}
}

func contended(mu *sync.Mutex) {
	mu.Lock()
	time.Sleep(time.Millisecond)
	mu.Unlock()
}
