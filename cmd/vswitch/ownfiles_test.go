package main

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// A command finds a resolv.conf that names the gateway, also after the host has put another in the place of its own.
func TestRunResolvConf(t *testing.T) {
	labtest.Need(t)
	labtest.NeedProgram(t, "unshare")
	bin := t.TempDir()
	tools(t, bin)
	for _, tc := range []struct{ name, host, again string }{
		{"file", "echo search a.example >/etc/resolv.conf", "echo search b.example >/etc/new; mv /etc/new /etc/resolv.conf"},
		{"link", "mkdir /etc/stub; echo search a.example >/etc/stub/r; ln -s stub/r /etc/resolv.conf", "echo search b.example >/etc/stub/r; ln -s stub/r /etc/new; mv /etc/new /etc/resolv.conf"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRegistry(t, func(r *registry) {
				r.endpoints = []api.Endpoint{{Network: "blue", NameServers: []string{"10.1.0.1"}}}
			})
			dir := t.TempDir()
			out, err := exec.Command("unshare", "-m", "sh", "-ec", fmt.Sprintf(`mount -t tmpfs tmpfs /etc; %s
export VSWITCH_SOCKET=%s PATH=%s:$PATH
vswitch run --name c -- sh -c 'cat /etc/resolv.conf; >%[4]s/ready; for i in $(seq 200); do grep -q b.example /etc/resolv.conf && break; sleep 0.05; done; cat /etc/resolv.conf' >%[4]s/out 2>&1 &
for i in $(seq 200); do [ -e %[4]s/ready ] && break; sleep 0.05; done
%[5]s
wait %%1 || true
cat %[4]s/out; echo host; cat /etc/resolv.conf`, tc.host, r.socket, bin, dir, tc.again)).CombinedOutput()
			want := "nameserver 10.1.0.1\nsearch blue a.example\nnameserver 10.1.0.1\nsearch blue b.example\nhost\nsearch b.example\n"
			if err != nil || string(out) != want {
				t.Errorf("%v:\n%s\nwant\n%s", err, out, want)
			}
		})
	}
	// Without names the files are the host's, and so are the mounts.
	r := newRegistry(t)
	if out, stderr, code := r.run(t, "", "--", "readlink", "/proc/self/ns/mnt"); code != 0 || strings.TrimSpace(out) != strings.Replace(netnsOf(t, "/proc/self/ns/mnt"), "net", "mnt", 1) {
		t.Errorf("got %q, exit code %d: %s", out, code, stderr)
	}
}
