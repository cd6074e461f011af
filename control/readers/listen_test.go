package readers

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serve serves h to readers on loopback, whom the port of a client tells: an even one is user
// 1's, an odd one another host's.
func serve(t *testing.T, r *Readers, most int, h http.Handler, who func(net.Conn) Reader) (addr string, l *Listener) {
	t.Helper()
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = r.Listen(tcp, most, who)
	srv := &http.Server{
		Handler: r.Handler(h), ReadHeaderTimeout: 20 * time.Second, MaxHeaderBytes: 1 << 20,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return c.(*Conn).Context(ctx) },
	}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return tcp.Addr().String(), l
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.DialTimeout("tcp4", addr, 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// get sends a request on a connection and returns the status, 0 when that has ended.
func get(c net.Conn, path, head string) int {
	go fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, head)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

var hello = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintf(w, "%d", len(r.Header.Get("Cookie")))
})

// turns tells readers apart by the order in which they come.
func turns(list ...Reader) func(net.Conn) Reader {
	var n atomic.Int64
	return func(net.Conn) Reader { return list[min(int(n.Add(1)), len(list))-1] }
}

func repeat(r Reader, n int) (list []Reader) {
	for range n {
		list = append(list, r)
	}
	return list
}

// TestConnectionsOfReaders: one who opens connections and says nothing has half of them, and
// others get in.
func TestConnectionsOfReaders(t *testing.T) {
	hog, other := Reader{Page: true, UID: 7, Known: true}, visitor("192.0.2.1/32")
	r := New(BoundsFor(0), nil)
	addr, l := serve(t, r, 8, hello, turns(append(repeat(hog, 20), other)...))
	var list []net.Conn
	for i := range 20 {
		c := dial(t, addr)
		fmt.Fprint(c, "GET / HT") // slowloris
		list = append(list, c)
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) { // accepted in this order
			l.mu.Lock()
			n := l.conns.Len() + int(l.conns.Gave())
			l.mu.Unlock()
			if n > i {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("not accepted")
			}
		}
	}
	for range 4 {
		if got := get(dial(t, addr), "/", ""); got != 200 {
			t.Errorf("another reader: status %d", got)
		}
	}
	ended := 0
	for _, c := range list {
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 1)); !os.IsTimeout(err) {
			ended++
		}
	}
	if ended < 16 {
		t.Errorf("%d of the hog's 20 connections have ended, want 16 at least", ended)
	}
}

// TestLargeHeads: cookies of a browser are read, and gone before the answer begins; many such
// requests at once are refused.
func TestLargeHeads(t *testing.T) {
	hog, other := Reader{Page: true, UID: 7, Known: true}, visitor("192.0.2.1/32")
	r := New(BoundsFor(0), nil)
	each := r.bounds[Heads].Each
	hold := make(chan struct{})
	var under atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			under.Add(1)
			<-hold
		}
		hello(w, r)
	})
	addr, _ := serve(t, r, 100, h, turns(append(repeat(hog, 2*each), other)...))
	cookies := strings.Repeat("Cookie: a="+strings.Repeat("x", 4000)+"\r\n", 180) // as a browser keeps for a host
	var list []net.Conn
	for range 2 * each { // heads that never end
		c := dial(t, addr)
		go fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n%s", cookies)
		list = append(list, c)
	}
	deadline := time.Now().Add(20 * time.Second)
	for r.Uses()[Heads].Held < each || r.Uses()[Heads].Refused < uint64(each) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", r.Uses()[Heads])
		}
		time.Sleep(time.Millisecond)
	}
	if got := get(dial(t, addr), "/", cookies); got != 200 {
		t.Errorf("another reader's cookies: status %d", got)
	}
	c := dial(t, addr)
	go get(c, "/hold", cookies)
	for under.Load() == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the request does not begin")
		}
		time.Sleep(time.Millisecond)
	}
	if held := r.Uses()[Heads].Held; held != each {
		t.Errorf("%d heads are held, want %d: an answer under way holds none", held, each)
	}
	close(hold)
	for _, c := range list {
		c.Close()
	}
	for r.Uses()[Heads].Held > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("after their connections: %+v", r.Uses()[Heads])
		}
		time.Sleep(time.Millisecond)
	}
	if got := get(dial(t, addr), "/?q="+strings.Repeat("x", longestURL), ""); got != http.StatusRequestURITooLong {
		t.Errorf("a huge query: status %d", got)
	}
}

// TestPipelining: requests on one connection wait for their turn as others do.
func TestPipelining(t *testing.T) {
	r := New(BoundsFor(0), nil)
	var served atomic.Int64
	addr, _ := serve(t, r, 8, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) }), turns(Reader{Page: true}))
	c := dial(t, addr)
	go fmt.Fprint(c, strings.Repeat("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 10*requestBurst))
	begin := time.Now()
	b := bufio.NewReader(c)
	for range requestBurst + 20 {
		resp, err := http.ReadResponse(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if d := time.Since(begin); d < 19*requestPause {
		t.Errorf("%d requests were served in %v: nobody waited", served.Load(), d)
	}
}

// TestSlowReaders: who does not read what is written loses the connection.
func TestSlowReaders(t *testing.T) {
	r := New(BoundsFor(0), nil)
	ended := make(chan error, 1)
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.(*paced).patience = 200 * time.Millisecond
		b := make([]byte, 32<<10)
		for {
			if _, err := w.Write(b); err != nil {
				ended <- err
				return
			}
		}
	})
	addr, _ := serve(t, r, 8, h, turns(Reader{Page: true}))
	fmt.Fprint(dial(t, addr), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case err := <-ended:
		if !os.IsTimeout(err) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("a reader that reads nothing keeps its answer")
	}
}

func TestPeerAndVisitor(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go net.Dial("unix", l.Addr().String())
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := Peer(c); got != (Reader{UID: uint32(os.Getuid()), Known: true}) {
		t.Errorf("got %+v", got)
	}
	if (Reader{Page: true, Known: true}).Root() || (Reader{}).Root() || !(Reader{Known: true}).Root() {
		t.Error("who is root")
	}
	visit := Visitor(func(_ uint8, from, _ netip.AddrPort) (uint32, bool) { return 42, from.Port()%2 == 0 })
	for from, want := range map[string]string{
		"127.0.0.1:2": "user 42", "127.9.8.7:1": "an unknown user", "[::1]:1": "an unknown user", "192.0.2.7:1": "192.0.2.7",
		"[2001:db8::1:2:3:4]:1": "2001:db8::/64", "[::ffff:192.0.2.7]:1": "192.0.2.7", "[fe80::1%eth0]:1": "fe80::/64", "192.0.2.7:2": "user 42",
	} {
		a := netip.MustParseAddrPort(from)
		if got := visit(ends{net.TCPAddrFromAddrPort(a)}); got.String() != want || !got.Page {
			t.Errorf("%s: %s, want %s", from, got, want)
		}
	}
}

// ends is a connection with an address.
type ends struct{ from *net.TCPAddr }

func (e ends) RemoteAddr() net.Addr             { return e.from }
func (e ends) LocalAddr() net.Addr              { return e.from }
func (ends) Read([]byte) (int, error)           { return 0, io.EOF }
func (ends) Write([]byte) (int, error)          { return 0, io.EOF }
func (ends) Close() error                       { return nil }
func (ends) SetDeadline(time.Time) error        { return nil }
func (ends) SetReadDeadline(time.Time) error    { return nil }
func (ends) SetWriteDeadline(t time.Time) error { return nil }

// TestAnswersTakeTurns: answers are made one at a time, as pieces of work, and one that is not
// read is nobody's concern.
func TestAnswersTakeTurns(t *testing.T) {
	r := New(BoundsFor(0), nil)
	var inside, overlaps, made atomic.Int64
	h := r.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if inside.Add(1) > 1 {
			overlaps.Add(1)
		}
		time.Sleep(time.Millisecond)
		inside.Add(-1)
		made.Add(1)
		w.Header().Set("X-Kind", "scrape")
		w.WriteHeader(http.StatusTeapot)
		w.Write(make([]byte, 8<<20)) // more than the sockets take
	}))
	readers := []Reader{{Page: true, UID: 7, Known: true}, {Page: true, UID: 8, Known: true}}
	addr, _ := serve(t, r, 100, h, turns(append(repeat(readers[0], 2), repeat(readers[1], 2)...)...))
	var list []net.Conn
	for range 4 {
		c := dial(t, addr)
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		list = append(list, c)
	}
	for deadline := time.Now().Add(20 * time.Second); made.Load() < 4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 4 answers are made: they wait for one that nobody reads", made.Load())
		}
	}
	if overlaps.Load() > 0 {
		t.Errorf("%d were made while another was", overlaps.Load())
	}
	resp, err := http.ReadResponse(bufio.NewReader(list[3]), nil)
	if err != nil || resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Kind") != "scrape" {
		t.Fatalf("%+v, %v", resp, err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != 8<<20 || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestAnswerCutOff: a request that ends before its turn does not look like an empty answer, and
// one that ends while its answer is made has all of it.
func TestAnswerCutOff(t *testing.T) {
	const text = "everything"
	who := Reader{Page: true, UID: 7, Known: true}
	for _, early := range []bool{true, false} {
		r := New(BoundsFor(0), nil)
		ended := func(end context.CancelFunc) http.Handler {
			return r.Answer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				end()
				io.WriteString(w, text)
			}))
		}
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			ctx, cancel := context.WithCancel(With(req.Context(), who))
			defer cancel()
			if early {
				cancel()
				defer occupy(r)()
			}
			ended(cancel).ServeHTTP(w, req.WithContext(ctx))
		}))
		resp, err := http.Get(srv.URL)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if early && err == nil || !early && (err != nil || string(got) != text) {
			t.Errorf("ended before its turn %t: %q, %v", early, got, err)
		}
		srv.Close()
		for _, u := range r.Uses() {
			if u.Held != 0 {
				t.Errorf("ended before its turn %t: held %+v", early, u)
			}
		}
	}
	// Who has to wait as he asks too often, and ends, has no answer either.
	h := New(BoundsFor(0), nil).Handler(hello)
	ctx, cancel := context.WithCancel(With(t.Context(), who))
	cancel()
	for range 2 * requestBurst {
		if aborts(h, httptest.NewRequest("GET", "/", nil).WithContext(ctx)) {
			return
		}
	}
	t.Errorf("all of %d requests at once were answered", 2*requestBurst)
}

// occupy has the turn of all others until it is left.
func occupy(r *Readers) (leave func()) {
	has, end, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(left)
		r.Work(context.Background(), func() { close(has); <-end })
	}()
	<-has
	return func() { close(end); <-left }
}

// aborts reports whether a handler ends the connection in place of an answer.
func aborts(h http.Handler, req *http.Request) (yes bool) {
	defer func() { yes = recover() == http.ErrAbortHandler }()
	h.ServeHTTP(httptest.NewRecorder(), req)
	return false
}
