package runtimetest

import (
	"testing"

	"github.com/vswitch/vswitch/internal/debroot"
)

// stack is a newer Debian with its container runtimes, our package and a running
// daemon. There is no systemd: the test is what starts and ends daemons.
type stack struct {
	*machine
	flags string // of our daemon
}

func newStack(t *testing.T, flags string) *stack {
	t.Helper()
	s := &stack{newMachine(t, debroot.Runtimes, false), flags}
	s.put(deb(t, "v1.0.0"), "/tmp/vswitch.deb", 0o644)
	s.must("dpkg -i /tmp/vswitch.deb")
	s.vswitch()
	// An image of busybox, a web server in it, as a tar file.
	s.must(`mkdir -p /tmp/image/bin /tmp/image/etc /tmp/image/proc /tmp/image/sys /tmp/image/dev /tmp/image/tmp /tmp/image/www
		cp /bin/busybox /tmp/image/bin; chroot /tmp/image /bin/busybox --install -s /bin
		echo root:x:0:0:root:/:/bin/sh > /tmp/image/etc/passwd
		mkdir -p /etc/containers
		tar -C /tmp/image -cf /tmp/image.tar .`)
	return s
}

// vswitch starts our daemon and waits for it.
func (s *stack) vswitch() {
	s.t.Helper()
	s.daemon("vswitch", "vswitch daemon --config /etc/vswitch/vswitch.toml "+s.flags)
	s.await("vswitch", "vswitch ps")
}

// httpd is the command of a container that serves a page with one word.
func httpd(word string) string {
	return "sh -c 'echo " + word + " > /www/index.html; exec httpd -f -p 80 -h /www'"
}

func (s *stack) empty(when string) {
	s.t.Helper()
	if got := s.run(`vswitch ps | tail -n +2`); got != "" {
		s.t.Errorf("%s vswitch still has\n%s", when, got)
	}
	if got := s.run(`ip -o link | grep -o 'veth[^:@]*'`); got != "" && got != " (exit status 1)" {
		s.t.Errorf("%s links are left: %s", when, got)
	}
}
