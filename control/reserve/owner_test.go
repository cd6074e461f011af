package reserve

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestOwner(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, self := Owner(inodeOf(t, l)), fmt.Sprintf("(pid %d)", os.Getpid()); !strings.HasSuffix(got, self) {
		t.Errorf("owner is %q, want this process %s", got, self)
	}
	if got := Owner(0) + Owner(1<<31); got != "" {
		t.Errorf("owner of no socket: %q", got)
	}
}

// inodeOf is the number that the kernel has for a listening socket.
func inodeOf(t testing.TB, l net.Listener) uint32 {
	t.Helper()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return uint32(info.Sys().(*syscall.Stat_t).Ino)
}

// A program calls itself what it likes; in a message it is one word on one line.
func TestS72OwnerIsText(t *testing.T) {
	const self = "/proc/self/comm"
	was, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(self, []byte("\x1b]0;pwn\a\n\u009b3"), 0); err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(self, was, 0)
	if got, want := programOf("/proc/self"), `\x1b]0;pwn\x07\n\u009b3 (pid self)`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
