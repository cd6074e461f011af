package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab"
)

// inHost is a browser on the host, with cookies.
func inHost(t *testing.T, ns *netlab.NS) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Jar: jar, Timeout: 30 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (net.Conn, error) {
			return ns.Dial(network, addr, 10*time.Second)
		},
	}}
}

// ask returns the status and the head of an answer.
func ask(t *testing.T, c *http.Client, url string, head ...string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(head); i += 2 {
		req.Header.Set(head[i], head[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, res.Body)
	return res.StatusCode, res.Header
}

// TestS71PageOfTheDaemon: the daemon's page on loopback wants a token by default, which holds
// over a restart; no cookie has it, so that what a container serves at another port of the same
// name is sent nothing, and a page from there may read no answer.
func TestS71PageOfTheDaemon(t *testing.T) {
	const page, shop = "http://127.0.0.1:9595", "http://127.0.0.1:8080"
	r := newRig(t, "--http", "127.0.0.1:9595")
	link := strings.TrimSpace(r.must("page"))
	_, token, ok := strings.Cut(link, "#token=")
	if !ok || len(token) < 16 {
		t.Fatalf("the link is %q", link)
	}
	// What a container serves at a port of the host: all that reaches it is kept.
	l, err := r.world.Host.Listen("tcp", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var sent strings.Builder
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		q.Header.Write(&sent)
		http.SetCookie(w, &http.Cookie{Name: "vswitch", Value: "stolen", Path: "/"})
		http.SetCookie(w, &http.Cookie{Name: "token", Value: "stolen", Path: "/"})
	})}
	go srv.Serve(l)
	defer srv.Close()

	browser := inHost(t, r.world.Host)
	try := func(when string) {
		t.Helper()
		for _, tc := range []struct {
			url  string
			head []string
			want int
		}{
			{page + "/v1/info", nil, http.StatusUnauthorized},
			{page + "/v1/info", []string{"Authorization", "Bearer " + token}, http.StatusOK},
			{page + "/v1/info", []string{"Authorization", "Bearer x" + token}, http.StatusUnauthorized},
			{page + "/v1/info", []string{"Cookie", "token=" + token + "; vswitch=" + token}, http.StatusUnauthorized},
			{page + "/v1/info?token=" + token, nil, http.StatusUnauthorized},
			{page + "/metrics", nil, http.StatusOK},
		} {
			code, head := ask(t, browser, tc.url, tc.head...)
			if code != tc.want {
				t.Errorf("%s: %s with %q: %d, want %d", when, tc.url, tc.head, code, tc.want)
			}
			if c := head.Get("Set-Cookie"); c != "" {
				t.Errorf("%s: %s sets a cookie, %q", when, tc.url, c)
			}
		}
		_, head := ask(t, browser, page+"/v1/info", "Authorization", "Bearer "+token, "Origin", shop)
		if o := head.Get("Access-Control-Allow-Origin"); o != "" {
			t.Errorf("%s: a page of %s may read the answer, as %q", when, shop, o)
		}
		ask(t, browser, page+"/")
		ask(t, browser, shop+"/")
	}
	try("at first")
	r.stop()
	r.start()
	if again := strings.TrimSpace(r.must("page")); again != link {
		t.Errorf("after a restart the link is %q, before %q", again, link)
	}
	try("after a restart")
	mu.Lock()
	defer mu.Unlock()
	if strings.Contains(sent.String(), token) {
		t.Errorf("the container was sent %q", sent.String())
	}
}

// TestS73CaptureOfTheDaemon: what a capture of the running daemon writes is its owner's alone,
// whatever the umask.
func TestS73CaptureOfTheDaemon(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	r := newRig(t)
	file := filepath.Join(t.TempDir(), "packets.pcapng")
	c := r.record("uplink", "-w", file)
	if !eventually(func() bool {
		o, err := r.world.Outside.Dial("tcp", netlab.HostAddr+":9", time.Second)
		if err == nil {
			o.Close()
		}
		fi, err := os.Stat(file)
		return err == nil && fi.Size() > 0
	}) {
		t.Fatal("nothing was written")
	}
	c.Process.Signal(unix.SIGINT)
	if code := wait(t, c.Cmd); code != 0 {
		t.Errorf("capture: exit code %d", code)
	}
	fi, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if m := fi.Mode().Perm(); m != 0o600 {
		t.Errorf("the file has mode %v", m)
	}
}
