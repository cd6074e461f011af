package server

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
)

// The directory and the socket are checked before anybody is listened to: rights
// that let others in refuse the start (CVE-2022-29178).
func TestC17SocketRights(t *testing.T) {
	for _, mode := range []os.FileMode{0o777, 0o757, 0o1777, 0o752} {
		dir := filepath.Join(t.TempDir(), "run")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		l, err := Listen(filepath.Join(dir, "s"))
		if err == nil {
			l.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "writable for everybody") {
			t.Errorf("directory %#o: %v", mode, err)
		}
	}
	// A default access list stands in place of the umask for what is made below it.
	// bind(2) has taken the umask off by then, so the kernel may make a sealed socket
	// all the same: an open one must not be listened on.
	if _, err := exec.LookPath("setfacl"); err == nil {
		dir := t.TempDir()
		path := filepath.Join(dir, "s")
		if out, err := exec.Command("setfacl", "-d", "-m", "o::rw", dir).CombinedOutput(); err != nil {
			t.Logf("setfacl: %v: %s", err, out)
		} else if l, err := Listen(path); err == nil {
			if fi, err := os.Lstat(path); err != nil || fi.Mode().Perm()&0o007 != 0 {
				t.Errorf("listening on a socket of mode %v that everybody may use (%v)", fi.Mode().Perm(), err)
			}
			l.Close()
		}
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := checkSocket(path); err != nil {
		t.Errorf("a fresh socket: %v", err)
	}
	for _, mode := range []os.FileMode{0o666, 0o661, 0o664, 0o662} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := checkSocket(path); err == nil || !strings.Contains(err.Error(), "open to everybody") {
			t.Errorf("socket %#o: %v", mode, err)
		}
	}
}

// A body is read whole or the request is refused; two lengths that contradict each
// other never leave an empty one (CVE-2024-41110).
func TestC18Bodies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s", "vswitch.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{}
	srv := New(Handler(e, nil, quiet), quiet)
	go srv.Serve(l)
	defer srv.Close()
	in := api.Attach{Name: "web", Networks: []api.Connect{{Network: "blue"}}}
	text, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	body := string(text)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	large := body + strings.Repeat(" ", MaxBody)
	for _, tc := range []struct {
		name, headers, body string
		want                int // 0: the connection may be cut
		asked               bool
	}{
		{"right", fmt.Sprintf("Content-Length: %d\r\n", len(body)), body, 201, true},
		{"chunked", "Transfer-Encoding: chunked\r\n", chunked, 201, true},
		{"no length and chunked", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", chunked, 0, true},
		{"two lengths", fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n", len(body)), body, 400, false},
		{"a length that is too short", fmt.Sprintf("Content-Length: %d\r\n", len(body)-1), body, 400, false},
		{"negative length", "Content-Length: -1\r\n", body, 400, false},
		{"unknown coding", "Transfer-Encoding: gzip, chunked\r\n", chunked, 501, false},
		{"broken chunk", "Transfer-Encoding: chunked\r\n", "zz\r\n" + body + "\r\n0\r\n\r\n", 400, false},
		{"more than 1 MiB", fmt.Sprintf("Content-Length: %d\r\n", len(large)), large, 413, false},
		{"more than 1 MiB, chunked", "Transfer-Encoding: chunked\r\n", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(large), large), 413, false},
		{"deep", "Content-Length: 100000\r\n", strings.Repeat("[", 100000), 400, false},
	} {
		e.asked = nil
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(c, "POST /v1/containers HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"+tc.headers+"\r\n"+tc.body)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		status := 0
		if err == nil {
			status = resp.StatusCode
			io.Copy(io.Discard, resp.Body)
		} else if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v", tc.name, err)
		}
		c.Close()
		if tc.want != 0 && status != tc.want {
			t.Errorf("%s: status %d, want %d", tc.name, status, tc.want)
		}
		switch {
		case !tc.asked && len(e.asked) > 0:
			t.Errorf("%s: the backend was asked %+v", tc.name, e.asked)
		case tc.asked && len(e.asked) > 0: // refused is fine, half of it is not
			if d := cmp.Diff([]any{in}, e.asked); d != "" {
				t.Errorf("%s (-want +got):\n%s", tc.name, d)
			}
		}
	}
}
