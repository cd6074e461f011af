package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/directory"
	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/dataplane/switchtest"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// watching is a daemon that can only be watched.
type watching struct {
	server.Backend
	o *Observer
}

func (w watching) Flows(ctx context.Context, q api.FlowQuery) (server.Rows[api.Flow], error) {
	return w.o.Flows(ctx, q)
}
func (w watching) NAT(ctx context.Context, q api.NATQuery) (server.Rows[api.NATEntry], error) {
	return w.o.NAT(ctx, q)
}
func (w watching) FDB(ctx context.Context) (server.Rows[api.FDBEntry], error) { return w.o.FDB(ctx) }
func (w watching) Capture(ctx context.Context, cfg server.CaptureConfig) (server.Capture, error) {
	return w.o.Capture(ctx, cfg)
}

// served is an observer that readers reach, whom who tells apart.
func served(t *testing.T, o *Observer, r *readers.Readers, who func(net.Conn) readers.Reader) *httptest.Server {
	o.readers = r
	quiet := server.Handler(watching{o: o}, r, nil)
	srv := httptest.NewUnstartedServer(r.Handler(quiet))
	srv.Listener = r.Listen(srv.Listener, 1000, func(c net.Conn) readers.Reader {
		if err := c.(*net.TCPConn).SetWriteBuffer(64 << 10); err != nil { // or it takes megabytes of a table
			t.Error(err)
		}
		return who(c)
	})
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return c.(*readers.Conn).Context(ctx) }
	srv.Start()
	t.Cleanup(srv.Close)
	return srv
}

// inUse is the memory that is in use when all garbage is gone.
func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// ask opens an answer and does not read it.
func ask(t *testing.T, srv *httptest.Server, path string) (status int, body io.ReadCloser) {
	t.Helper()
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(srv.URL + path)
	if err != nil {
		t.Error(err)
		return 0, http.NoBody
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp.StatusCode, resp.Body
}

// TestReadersOfAFullTable: 64 readers who ask for a table of 262,144 flows and do not read it
// take little memory; most are refused, as one user and as many.
func TestReadersOfAFullTable(t *testing.T) {
	const limit = 64 << 20
	flows := 1 << 18
	if labtest.UnderRace {
		flows = sortedRows + 2*pageSize
	}
	o, _ := withFlows(t, flows)
	var one atomic.Bool
	var n atomic.Uint32
	who := func(net.Conn) readers.Reader {
		if one.Load() {
			return readers.Reader{Page: true, UID: 7, Known: true}
		}
		return readers.Reader{Page: true, UID: 1000 + n.Add(1), Known: true}
	}
	r := readers.New(readers.BoundsFor(0), nil)
	srv := served(t, o, r, who)
	before := inUse()
	for _, c := range []struct {
		one        bool
		want, most int // that are answered, and at a time those of the case before included
	}{{true, 6, 6}, {false, 18, 24}} {
		one.Store(c.one)
		var got atomic.Int32
		var asking sync.WaitGroup
		for i := range 32 {
			asking.Go(func() {
				status, body := ask(t, srv, []string{"/v1/nat", "/v1/flows"}[i%2])
				switch status {
				case 200:
					got.Add(1)
					if use := r.Uses()[readers.Answers]; use.Held > c.most {
						t.Errorf("one reader %v: %d answers at a time, want %d at most", c.one, use.Held, c.most)
					}
				case 503:
					var e api.Error
					if err := json.NewDecoder(body).Decode(&e); err != nil || e.Message == "" {
						t.Errorf("a refusal says %+v, %v", e, err)
					}
					body.Close()
				default:
					t.Errorf("status %d", status)
				}
			})
		}
		asking.Wait()
		// On a slow machine some have ended by now, as nobody reads them, and others came.
		if n := int(got.Load()); n < c.want {
			t.Errorf("one reader %v: %d have an answer, want %d", c.one, n, c.want)
		}
	}
	time.Sleep(300 * time.Millisecond) // until what fits into the sockets is written
	if more := inUse() - before; more > limit {
		t.Errorf("24 readers who do not read take %d MiB, want %d at most", more>>20, limit>>20)
	}

	// root on the API's socket is no reader of the page, and gets all of it.
	root := served(t, o, r, func(net.Conn) readers.Reader { return readers.Reader{Known: true} })
	for _, path := range []string{"/v1/nat", "/v1/flows", "/v1/flows?limit=10"} {
		_, body := ask(t, root, path)
		want := flows
		if path == "/v1/flows?limit=10" {
			want = 10
		}
		d, rows, most := json.NewDecoder(body), 0, int64(0)
		if tok, err := d.Token(); err != nil || tok != json.Delim('[') {
			t.Fatalf("%s begins with %v, %v", path, tok, err)
		}
		for d.More() {
			var f struct{ Proto string }
			if err := d.Decode(&f); err != nil || f.Proto != "udp" {
				t.Fatalf("%s: row %d is %+v, %v", path, rows, f, err)
			}
			if rows++; rows == flows/2 {
				most = inUse() - before
			}
		}
		if rows != want {
			t.Errorf("%s: %d rows, want %d", path, rows, want)
		}
		if most > limit {
			t.Errorf("%s takes %d MiB, want %d at most", path, most>>20, limit>>20)
		}
	}
	resp, err := http.Head(root.URL + "/v1/flows")
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("HEAD: %v, %v", resp, err)
	}
}

// TestOrderOfRows: few are sorted, of more those that a limit names.
func TestOrderOfRows(t *testing.T) {
	for _, flows := range []int{0, 1, 300, sortedRows, sortedRows + 1, 3 * sortedRows, server.MaxSorted + 400} {
		o, l := withFlows(t, flows)
		if flows > 200 { // some are busier than others, and older
			for i := range 100 {
				from := fmt.Sprintf("203.0.0.1:%d", 1024+i)
				for range 1 + i%7 {
					l.Send("up", switchtest.Inbound(17, from, switchtest.HostAddr+":8080", 0, "more"))
				}
			}
		}
		for _, limit := range []int{0, 1, 50, 300, server.MaxSorted + 1} {
			rows, err := o.Flows(t.Context(), api.FlowQuery{Limit: limit})
			if err != nil {
				t.Fatal(err)
			}
			var list []api.Flow
			for piece := range rows {
				if len(piece) > pageSize {
					t.Fatalf("a piece of %d rows", len(piece))
				}
				list = append(list, piece...)
			}
			want := flows
			if limit > 0 {
				want = min(want, limit)
			}
			if len(list) != want {
				t.Errorf("%d flows, limit %d: %d rows", flows, limit, len(list))
			}
			seen := make(map[string]bool)
			for i := range list {
				seen[list[i].Address] = true
				if i > 0 && (limit > 0 && limit <= server.MaxSorted || flows <= sortedRows) && list[i].SentBytes+list[i].ReceivedBytes > list[i-1].SentBytes+list[i-1].ReceivedBytes && list[i].Rate >= list[i-1].Rate {
					t.Errorf("%d flows, limit %d: row %d is busier than the one before", flows, limit, i)
				}
			}
			if len(seen) != len(list) {
				t.Errorf("%d flows, limit %d: a flow is listed twice", flows, limit)
			}
		}
	}
}

// TestCapturesOfReaders: one reader has as many captures as his memory holds, with filters
// that cost a frame no more than his part, and the page has its part; root goes on.
func TestCapturesOfReaders(t *testing.T) {
	sw := switchtest.New(t).Switch
	r := readers.New(readers.BoundsFor(0), nil)
	dir := new(directory.Live)
	dir.PutUplink(8, "eth0")
	o := &Observer{sw: sw, dir: dir, readers: r}
	open := func(who readers.Reader, filter string) (server.Capture, error) {
		return o.Capture(readers.With(t.Context(), who), server.CaptureConfig{Filter: filter})
	}
	user := func(n uint32) readers.Reader { return readers.Reader{Page: true, UID: n, Known: true} }
	before := inUse()
	var list []server.Capture
	for n := range 110 {
		if c, err := open(user(7), "tcp port 80"); err == nil {
			list = append(list, c)
		} else if api.Status(err) != 503 {
			t.Fatalf("capture %d: %v", n, err)
		}
	}
	if len(list) != 4 {
		t.Errorf("one reader has %d captures, want 4", len(list))
	}
	for n := range uint32(110) {
		if c, err := open(user(100+n), "tcp port 80"); err == nil {
			list = append(list, c)
		}
	}
	if len(list) != 8 {
		t.Errorf("the page has %d captures, want 8", len(list))
	}
	if c, err := open(readers.Reader{Known: true}, "tcp port 80"); err != nil {
		t.Errorf("root: %v", err)
	} else {
		list = append(list, c)
	}
	if more := inUse() - before; more > 80<<20 {
		t.Errorf("nine captures take %d MiB", more>>20)
	}
	for _, c := range list {
		c.Close()
		c.Release()
	}
	list = nil

	// Filters: a frame passes so many instructions and no more.
	long := "host 203.0.113.1"
	for i := range 80 {
		long += fmt.Sprintf(" or host 198.51.%d.%d and port %d", i, i+1, i+1)
	}
	if _, err := open(user(7), long); api.Status(err) != 400 {
		t.Errorf("a filter that is longer than one may have: %v", err)
	}
	if _, err := open(readers.Reader{Known: true}, long); err != nil {
		t.Errorf("root's long filter: %v", err)
	}
	some, n := "", 0
	for i := range 10 {
		some += fmt.Sprintf("host 198.51.100.%d or ", i)
	}
	for i := range uint32(100) {
		if _, err := open(user(200+i/2), some+"port 9"); err == nil {
			n++
		}
	}
	if use := r.Uses()[readers.Filter]; n < 2 || n > 12 || use.Held > 4096 {
		t.Errorf("%d captures, use %+v", n, use)
	}
	begin := time.Now()
	if _, err := open(readers.Reader{Known: true}, string(make([]byte, 1<<20))); api.Status(err) != 400 {
		t.Errorf("a filter of 1 MiB: %v", err)
	}
	if d := time.Since(begin); d > 5*time.Second {
		t.Errorf("it took %v to refuse it", d)
	}
}

// TestThousandCaptures: what a thousand readers began and left leaves nothing, neither what
// was captured nor what was recalled.
func TestThousandCaptures(t *testing.T) {
	l := switchtest.New(t)
	dir := new(directory.Live)
	for _, n := range []string{"c1", "c2"} {
		dir.PutContainer(directory.Container{ID: n, Name: n, Ready: true, Endpoints: []directory.Endpoint{{
			Network: "bridge", Ifname: "eth0", Veth: "veth" + n, Port: l.Port(n), Plugged: true,
		}}})
	}
	r := readers.New(readers.BoundsFor(0), nil)
	o := &Observer{sw: l.Switch, dir: dir, readers: r}
	if err := o.startRecorder(1<<20, []string{"all"}); err != nil {
		t.Fatal(err)
	}
	send := func() { l.Send("c1", switchtest.UDP("c1", 5000, "10.1.0.12:53", "x")) }
	for range 100 {
		send()
	}
	ctx := readers.With(t.Context(), readers.Reader{Page: true, UID: 7, Known: true})
	before, goroutines := inUse(), runtime.NumGoroutine()
	for n := range 1000 {
		cfg := server.CaptureConfig{Filter: "udp"}
		if n%2 == 1 {
			cfg.Last = time.Hour
		}
		c, err := o.Capture(ctx, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if send(); n%3 > 0 { // some read a bit of it
			if _, ok, err := c.Next(t.Context()); !ok || err != nil {
				t.Fatalf("capture %d, %+v: no frame, %v", n, cfg, err)
			}
		}
		c.Close()
		c.Release()
	}
	if more := inUse() - before; more > 4<<20 {
		t.Errorf("%d MiB stay", more>>20)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, before %d", n, goroutines)
	}
	for _, u := range r.Uses() {
		if u.Held != 0 {
			t.Errorf("held: %+v", u)
		}
	}
}
