package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// terminal is the far end of a pseudo terminal: what was drawn, and the keys.
type terminal struct {
	t     *testing.T
	far   *os.File // we
	near  *os.File // the program
	mu    sync.Mutex
	drawn bytes.Buffer
}

func newTerminal(t *testing.T, rows, cols uint16) *terminal {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		labtest.Skip(t, "no pseudo terminals here: "+err.Error())
	}
	t.Cleanup(func() { far.Close() })
	if err := unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	near, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		labtest.Skip(t, "no pseudo terminals here: "+err.Error())
	}
	t.Cleanup(func() { near.Close() })
	term := &terminal{t: t, far: far, near: near}
	term.resize(rows, cols)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := far.Read(buf)
			if err != nil {
				return
			}
			term.mu.Lock()
			term.drawn.Write(buf[:n])
			term.mu.Unlock()
		}
	}()
	return term
}

func (c *terminal) resize(rows, cols uint16) {
	c.t.Helper()
	if err := unix.IoctlSetWinsize(int(c.far.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols}); err != nil {
		c.t.Fatal(err)
	}
}

// screens are the pictures that were drawn.
func (c *terminal) screens() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := strings.Split(c.drawn.String(), "\x1b[H")
	return list[1:]
}

func (c *terminal) wait(what string, ok func([]string) bool) {
	c.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(c.screens()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			list := c.screens()
			c.t.Fatalf("no %s after 30 s: %d pictures, the last %q", what, len(list), list[max(0, len(list)-2):])
		}
	}
}

// top draws again and again in the size of the terminal, follows it, ends with q
// and leaves the terminal as it was.
func TestTopOnATerminal(t *testing.T) {
	ports := make([]string, 40)
	for i := range ports {
		ports[i] = fmt.Sprintf(`{"port": "veth%02d", "kind": "container", "network": "bridge", "container": "a-container-with-a-long-name-%02d", "rx_frames": %d, "rx_bytes": 6400, "tx_frames": 90, "tx_bytes": 5760, "kernel_drops": 0, "drops": {}}`, i, i, i)
	}
	newFakeDaemon(t, map[string]string{
		"GET /v1/stats":           "200\n" + `{"ports": [` + strings.Join(ports, ",") + `], "drops": {}, "connections": 2}`,
		"GET /v1/flows?limit=8":   "200\n[]",
		"GET /v1/flows?limit=3":   "200\n[]",
		"GET /v1/flows?limit=50":  "200\n[]",
		"GET /v1/containers/none": "404\n" + `{"error": "none"}`,
	})
	c := newTerminal(t, 24, 60)
	was, err := unix.IoctlGetTermios(int(c.near.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	code := make(chan int, 1)
	go func() {
		code <- run(t.Context(), []string{"top", "--interval", "100ms"}, c.near, c.near, c.near)
	}()
	fits := func(rows, cols int) func([]string) bool {
		return func(list []string) bool {
			if len(list) < 2 {
				return false
			}
			last := strings.Split(strings.TrimSuffix(list[len(list)-2], "\x1b[J"), "\r\n")
			if len(last) > rows {
				return false
			}
			for _, line := range last {
				if len(strings.TrimSuffix(strings.TrimRight(line, "\r"), "\x1b[K")) > cols {
					return false
				}
			}
			return strings.Contains(list[len(list)-2], "2 connections")
		}
	}
	c.wait("picture of 24 by 60", fits(24, 60))
	n := len(c.screens())
	c.resize(6, 30)
	c.wait("picture of 6 by 30", fits(6, 30))
	c.wait("next picture", func(list []string) bool { return len(list) > n+2 })
	if _, err := c.far.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-code:
		if got != exitOK {
			t.Errorf("exit code %d", got)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("q does not end it")
	}
	now, err := unix.IoctlGetTermios(int(c.near.Fd()), unix.TCGETS)
	if err != nil || *now != *was {
		t.Errorf("the terminal's settings are %+v, %v, want %+v", now, err, was)
	}
	c.wait("end of the alternate screen", func([]string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return strings.HasSuffix(c.drawn.String(), "\x1b[?25h\x1b[?1049l")
	})
}

func TestPictureIsCut(t *testing.T) {
	got := string(picture([]byte("123456\nÄÖÜäöü\nlast\n\n"), 2, 4))
	if want := "\x1b[H1234\x1b[K\r\nÄÖÜä\x1b[K\x1b[J"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestScaled(t *testing.T) {
	for v, want := range map[float64]string{0: "0 B", 999: "999 B", 1024: "1.0 kB", 10240: "10 kB", 1 << 20: "1.0 MB", 5 << 40: "5.0 TB"} {
		if got := size(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	for v, want := range map[float64]string{0: "0", 1: "8 bit/s", 125000: "1.0 Mbit/s", 1.25e9: "10 Gbit/s"} {
		if got := rate(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}
