package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/readers"
)

// TestPagesOfReaders: one reader opens some pages and never reads them, as many readers do;
// another one gets a page, and the head of one holds nothing.
func TestPagesOfReaders(t *testing.T) {
	r := readers.New(readers.BoundsFor(0), nil)
	hub := newHub(newFake(10, 5), r, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	open := func(ctx context.Context, method string, uid uint32) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		who := readers.Reader{Page: true, UID: uid, Known: true}
		hub.ServeHTTP(w, httptest.NewRequest(method, "/page/live", nil).WithContext(readers.With(ctx, who)))
		return w
	}
	done := make(chan int, 100)
	for range 30 {
		go func() { done <- open(ctx, "GET", 7).Code }()
	}
	for range 14 {
		if code := <-done; code != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503", code)
		}
	}
	for range 16 { // another one who has many does not make it full
		go func() { done <- open(ctx, "GET", 9).Code }()
	}
	for deadline := time.Now().Add(20 * time.Second); r.Uses()[readers.Streams].Held != 32; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("two readers have %d pages, want 32", r.Uses()[readers.Streams].Held)
		}
	}
	if w := open(t.Context(), "HEAD", 8); w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("HEAD: status %d, %d bytes", w.Code, w.Body.Len())
	}
	other, leave := context.WithCancel(t.Context())
	time.AfterFunc(100*time.Millisecond, leave)
	if w := open(other, "GET", 8); w.Code != 200 {
		t.Errorf("another reader: status %d", w.Code)
	}
	cancel()
	for range 32 {
		<-done
	}
	if u := r.Uses()[readers.Streams]; u.Held != 0 {
		t.Errorf("use %+v", u)
	}
}

// TestTablesOfReaders: queries that all differ are answered one after the other, and those of
// one reader beyond his part refused.
func TestTablesOfReaders(t *testing.T) {
	r := readers.New(readers.BoundsFor(0), nil)
	ts := newTables(newFake(10, 20_000), r)
	done := make(chan int)
	ask := func(uid uint32, query string) {
		w := httptest.NewRecorder()
		req := httptest.NewRequest("GET", "/page/table/flows?"+query, nil)
		req.SetPathValue("table", "flows")
		ts.ServeHTTP(w, req.WithContext(readers.With(t.Context(), readers.Reader{Page: true, UID: uid, Known: true})))
		done <- w.Code
	}
	for i := range 30 {
		go ask(7, "q="+string(rune('a'+i%26)))
	}
	codes := make(map[int]int)
	for range 30 {
		codes[<-done]++
	}
	if codes[200] < 6 || codes[200]+codes[503] != 30 {
		t.Errorf("statuses %v", codes)
	}
	go ask(8, "q=c7&sort=rate&desc=1&offset=9000&limit=500")
	if code := <-done; code != 200 {
		t.Errorf("another reader: status %d", code)
	}
	for _, u := range r.Uses() {
		if u.Held != 0 {
			t.Errorf("use %+v", u)
		}
	}
}
