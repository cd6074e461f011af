package web_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/web"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

func TestListenRefuses(t *testing.T) {
	ns := labtest.New(t, "host")
	listen := func(addr, token string) (l *net.TCPListener, err error) {
		err = ns.Do(func() error { l, err = web.Listen(addr, token != ""); return err })
		return l, err
	}
	for _, tc := range []struct{ addr, token, want string }{
		{"0.0.0.0:9595", "", "--http-token=off"},
		{"[::]:9595", "", "--http-token=off"},
		{"192.0.2.1:9595", "", "--http-token=off"},
		{"192.0.2.1:0", web.Token, "no such address"},
		{"example.org:80", "", "in numbers"},
		{"9595", "", "ADDRESS:PORT"},
		{"127.0.0.1:x", "", "page at 127.0.0.1:x: not ADDRESS:PORT"},
		{":99999", "", "page at :99999: not ADDRESS:PORT"},
	} {
		l, err := listen(tc.addr, tc.token)
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want %q", tc.addr, err, tc.want)
		}
	}
	for _, addr := range []string{":0", "localhost:0", "127.0.0.1:0"} {
		l, err := listen(addr, "")
		if err != nil {
			t.Fatal(err)
		}
		if got := l.Addr().String(); !strings.HasPrefix(got, "127.0.0.1:") {
			t.Errorf("%s listens on %s, want loopback", addr, got)
		}
		if _, err := listen(l.Addr().String(), ""); err == nil || !strings.Contains(err.Error(), "another program") {
			t.Errorf("a port that is taken: %v", err)
		}
		l.Close()
	}
}

// The streams survive what wraps them.
func TestLiveThroughTheGuard(t *testing.T) {
	ns := labtest.New(t, "host")
	l, err := ns.Listen("tcp", pageAt)
	if err != nil {
		t.Fatal(err)
	}
	srv := web.New(web.HandlerOf(web.NewFake(1, 0), ""), quiet)
	go srv.Serve(l)
	defer srv.Close()
	c, err := ns.Dial("tcp", pageAt, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /page/live HTTP/1.1\r\nHost: %s\r\n\r\n", pageAt)
	var got strings.Builder
	b := make([]byte, 4096)
	for !strings.Contains(got.String(), "event: counts") {
		n, err := c.Read(b)
		if err != nil {
			t.Fatalf("%v after %q", err, got.String())
		}
		got.Write(b[:n])
	}
}
