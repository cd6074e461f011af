package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/readers"
)

// endless is a daemon whose streams say nothing and go on.
type endless struct {
	echo
	open atomic.Int64
}

type stillness[T any] struct{ open *atomic.Int64 }

func (s stillness[T]) Next(ctx context.Context) ([]T, error) { <-ctx.Done(); return nil, ctx.Err() }
func (s stillness[T]) Close()                                { s.open.Add(-1) }

func (e *endless) Events(context.Context, api.EventQuery) (Stream[api.Event], error) {
	e.open.Add(1)
	return stillness[api.Event]{&e.open}, nil
}
func (e *endless) FlowLog(context.Context, api.FlowQuery) (Stream[api.Flow], error) {
	e.open.Add(1)
	return stillness[api.Flow]{&e.open}, nil
}
func (e *endless) Flows(context.Context, api.FlowQuery) (Rows[api.Flow], error) {
	return func(func([]api.Flow) bool) {}, nil
}

// asked serves a request of a reader until the end of ctx.
func asked(ctx context.Context, h http.Handler, who readers.Reader, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil).WithContext(readers.With(ctx, who)))
	return w
}

// TestStreamsOfReaders: one reader has some streams, and what he may not have is told to him
// in one line; others get theirs. A stream that was left is no one's.
func TestStreamsOfReaders(t *testing.T) {
	r := readers.New(readers.BoundsFor(0), nil)
	e := new(endless)
	h := Handler(e, r, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	hog, other := readers.Reader{UID: 7, Known: true}, readers.Reader{UID: 8, Known: true}
	done := make(chan int, 100)
	for i := range 40 {
		go func() {
			done <- asked(ctx, h, hog, "GET", []string{"/v1/events", "/v1/flows/log?name=web"}[i%2]).Code
		}()
	}
	for range 24 {
		if code := <-done; code != 503 {
			t.Errorf("status %d, want 503", code)
		}
	}
	for deadline := time.Now().Add(20 * time.Second); e.open.Load() != 16; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("one reader has %d streams, want 16", e.open.Load())
		}
	}
	more, leave := context.WithCancel(t.Context())
	go func() { done <- asked(more, h, other, "GET", "/v1/events").Code }()
	for deadline := time.Now().Add(20 * time.Second); e.open.Load() < 17; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("another reader gets no stream")
		}
	}
	leave()
	cancel()
	for range 17 {
		<-done
	}
	if n := e.open.Load(); n != 0 || r.Uses()[readers.Streams].Held != 0 {
		t.Errorf("%d streams are left, %+v", n, r.Uses()[readers.Streams])
	}
}

// TestHead: who asks for the head of something without an end gets it, and nothing goes on.
func TestHead(t *testing.T) {
	r := readers.New(readers.BoundsFor(0), nil)
	e := &endless{echo: echo{frames: make([]Frame, 3)}}
	h := Handler(e, r, quiet)
	for _, path := range []string{"/v1/events", "/v1/flows/log", "/v1/capture?target=all"} {
		for i := range 50 {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			w := asked(ctx, h, readers.Reader{UID: 7, Known: true}, "HEAD", path)
			if w.Code != 200 || w.Body.Len() != 0 || ctx.Err() != nil {
				t.Fatalf("HEAD %s, the %d. time: status %d, %d bytes, %v", path, i, w.Code, w.Body.Len(), ctx.Err())
			}
			cancel()
		}
	}
	for _, u := range r.Uses() {
		if u.Held != 0 {
			t.Errorf("held: %+v", u)
		}
	}
	if w := asked(t.Context(), h, readers.Reader{}, "OPTIONS", "/v1/flows"); w.Code/100 != 4 {
		t.Errorf("OPTIONS: status %d", w.Code)
	}
	for _, limit := range []int{MaxSorted, 300_000, 1 << 30} { // no more memory than without
		for uid := range uint32(2) {
			if w := asked(t.Context(), h, readers.Reader{UID: uid, Known: true}, "GET", fmt.Sprint("/v1/flows?limit=", limit)); w.Code != 200 {
				t.Errorf("limit %d by user %d: status %d, %s", limit, uid, w.Code, w.Body)
			}
		}
	}
}

// cut is a daemon whose table ends its reader's request after the first piece, or has a row
// that cannot be encoded.
type cut struct {
	echo
	end  context.CancelFunc
	rate float64
}

func (c *cut) Flows(context.Context, api.FlowQuery) (Rows[api.Flow], error) {
	return func(yield func([]api.Flow) bool) {
		list := make([]api.Flow, 256)
		list[200].Rate = c.rate
		if yield(list) && c.end != nil {
			c.end()
			yield(list)
		}
	}, nil
}

// TestCutTable: half a table does not look like a whole one.
func TestCutTable(t *testing.T) {
	for _, rate := range []float64{0, math.NaN()} {
		c := &cut{rate: rate}
		h := Handler(c, readers.New(readers.BoundsFor(0), nil), quiet)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			defer cancel()
			if c.end = cancel; rate != 0 {
				c.end = nil
			}
			h.ServeHTTP(w, r.WithContext(ctx))
		}))
		resp, err := http.Get(srv.URL + "/v1/flows")
		if err == nil {
			var text []byte
			text, err = io.ReadAll(resp.Body)
			resp.Body.Close()
			if err == nil {
				t.Errorf("rate %v: %d bytes as a whole answer, the end %q", rate, len(text), text[max(0, len(text)-20):])
			}
		}
		srv.Close()
	}
}

// gone is a daemon whose reader's request ends while it answers.
type gone struct {
	echo
	end context.CancelFunc
}

func (g *gone) Info(context.Context) (api.Info, error) { g.end(); return api.Info{PID: 7}, nil }

// TestCutAnswer: a request of the page that ends before its turn does not look like an empty
// answer, and one that ends while its answer is made has all of it.
func TestCutAnswer(t *testing.T) {
	for _, early := range []bool{true, false} {
		g, bounds := new(gone), readers.New(readers.BoundsFor(0), nil)
		h := Handler(g, bounds, quiet)
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithCancel(readers.With(r.Context(), readers.Reader{Page: true, UID: 7, Known: true}))
			defer cancel()
			if g.end = cancel; early {
				cancel()
				has, end, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
				go func() {
					defer close(left)
					bounds.Work(context.Background(), func() { close(has); <-end })
				}()
				<-has // somebody else's turn
				defer func() { close(end); <-left }()
			}
			h.ServeHTTP(w, r.WithContext(ctx))
		}))
		resp, err := http.Get(srv.URL + "/v1/info")
		var in api.Info
		if err == nil {
			err = json.NewDecoder(resp.Body).Decode(&in)
			resp.Body.Close()
			if early {
				t.Errorf("ended before its turn: status %d, %v", resp.StatusCode, err)
			}
		} else if early {
			err = nil
		}
		if err != nil || !early && in.PID != 7 {
			t.Errorf("ended before its turn %t: %+v, %v", early, in, err)
		}
		srv.Close()
	}
}
