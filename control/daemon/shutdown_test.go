package daemon

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/readers"
	"github.com/vswitch/vswitch/control/roles"
	"github.com/vswitch/vswitch/control/server"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A client that does not send its request to the end, or does not read the answer, holds up
// the end of the daemon no longer than a moment; a request that is worked on is answered.
func TestF38SlowClientsHoldNoEndUp(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	inside := make(chan string, 3)
	finish, cut := make(chan struct{}), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("POST /body", func(w http.ResponseWriter, r *http.Request) {
		inside <- "body"
		io.ReadAll(r.Body)
	})
	mux.HandleFunc("GET /large", func(w http.ResponseWriter, r *http.Request) {
		inside <- "large"
		defer close(cut)
		b := make([]byte, 1<<20)
		for range 64 {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("GET /work", func(w http.ResponseWriter, r *http.Request) {
		inside <- "work"
		<-finish
		io.WriteString(w, "done")
	})
	end, _ := serveOn(server.New(readers.New(readers.BoundsFor(readers.DefaultMemory), func(readers.Reached) {}).Handler(mux), slog.New(slog.DiscardHandler)), l, roles.Find())
	conns := make(map[string]net.Conn)
	for what, text := range map[string]string{
		"body":  "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
		"head":  "POST /body HTTP/1.1\r\nHo",
		"large": "GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
		"work":  "GET /work HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		conns[what] = c
	}
	for range 3 {
		<-inside
	}
	ended := make(chan struct{})
	go func() { defer close(ended); end() }()
	// The slow ones are cut off while the other is worked on.
	for _, what := range []string{"body", "head"} {
		conns[what].SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadAll(conns[what]); err != nil {
			t.Errorf("%s: %v, want the end of the connection", what, err)
		}
	}
	<-cut // so is writing: an answer that comes later is sent all the same
	close(finish)
	conns["work"].SetReadDeadline(time.Now().Add(30 * time.Second))
	if b, err := io.ReadAll(conns["work"]); err != nil || !strings.HasSuffix(string(b), "done") {
		t.Errorf("what was worked on was answered by %q, %v", b, err)
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("the end never comes")
	}
}

// The directory of a daemon is its own also on a disk that takes no lock file.
func TestF22LockOnAReadOnlyDisk(t *testing.T) {
	labtest.NeedRoot(t)
	for _, left := range []bool{false, true} {
		dir := t.TempDir()
		if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
		if left {
			if err := os.WriteFile(filepath.Join(dir, lockName), []byte("7\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			unlock, err := lockDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := lockDir(dir); err == nil || !strings.Contains(err.Error(), "is in use by the vswitch daemon") {
				t.Errorf("a second daemon: %v", err)
			}
			if err := unlock(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A daemon that is killed still has its directories for a moment, in which another may begin.
func TestStartWhileTheOneBeforeEnds(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(100*time.Millisecond, func() { _ = unlock() })
	next, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := next(); err != nil {
		t.Error(err)
	}
}
