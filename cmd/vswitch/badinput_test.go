package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestBadInput gives a daemon what it has to refuse: one line that names the
// object and the way out, an exit code, and nothing changed.
func TestBadInput(t *testing.T) {
	r := newRig(t)
	web, db := labtest.New(t, "web"), labtest.New(t, "db")
	r.must("network", "create", "small", "--subnet", "10.2.0.0/30")
	r.must("network", "create", "dual", "--subnet", "fd00:2::/64", "--subnet", "10.4.0.0/24")
	r.must("attach", "web", "--netns", web.Path(), "--network", "small", "-p", "8080:80")
	listener, err := r.world.Host.Listen("tcp", "0.0.0.0:7000")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := r.world.Host.AddRoute("10.77.0.0/16", netlab.OutsideAddr, ""); err != nil {
		t.Fatal(err)
	}

	state := func() string {
		s, err := readHostState(r.world.Host)
		if err != nil {
			t.Fatal(err)
		}
		inside, err := readHostState(db)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(s, inside, r.must("ps", "--format=json"), r.must("network", "ls", "--format=json"))
	}
	before := state()
	comm, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	self := fmt.Sprintf("%s (pid %d)", strings.TrimSpace(string(comm)), os.Getpid())
	for _, tt := range []struct {
		args string
		want string
	}{
		{"attach c --netns DB --network nope", "container c: network nope does not exist: see vswitch network ls, or make it with vswitch network create nope"},
		{"run --name c --network nope -- true", "container c: network nope does not exist: see vswitch network ls, or make it with vswitch network create nope"},
		{"network connect nope web", "container web: network nope does not exist: see vswitch network ls, or make it with vswitch network create nope"},
		{"attach web --netns DB", "container web is attached already: in another namespace: detach it first or choose another name"},
		{"network create small", "network small exists already: choose another name, or remove it with vswitch network rm small"},
		{"network create host", "network name host is a mode of --network: choose another name"},
		{"network create bad/name", `network name "bad/name": use letters, digits and, after the first, any of _ . -`},
		{"attach bad/name --netns DB", `container name "bad/name": use letters, digits and, after the first, any of _ . -`},
		{"network create c --subnet 10.3.0.0", `network c: subnet "10.3.0.0" has no prefix length: write it like 10.1.0.0/24`},
		{"network create c --subnet 10.3.0.0/33", `network c: subnet "10.3.0.0/33" is malformed: write it like 10.1.0.0/24`},
		{"network create c --subnet 10.3.0.0/24 --gateway 10.4.0.1", "network c: gateway 10.4.0.1 is outside subnet 10.3.0.0/24: choose one inside"},
		{"network create c --subnet 10.3.0.0/24 --ip-range 10.4.0.0/25", "network c: ip-range 10.4.0.0/25 is outside subnet 10.3.0.0/24: choose one inside"},
		{"network create c --subnet 10.2.0.0/24", "network c: subnet 10.2.0.0/24 overlaps network small (10.2.0.0/30): choose another with --subnet"},
		{"network create c --subnet 10.77.3.0/24", "network c: subnet 10.77.3.0/24 overlaps route 10.77.0.0/16 via 198.51.100.9 dev eth0: choose another with --subnet"},
		{"network create c --subnet 198.51.100.0/25", "network c: subnet 198.51.100.0/25 overlaps route 198.51.100.0/24 dev eth0: choose another with --subnet"},
		{"network create c --subnet fd00:2::/64", "network c: subnet fd00:2::/64 overlaps network dual (fd00:2::/64): choose another with --subnet"},
		{"network create c --ipv6 --subnet 2001:db8::/80", "network c: subnet 2001:db8::/80 overlaps route 2001:db8::/64 dev eth0: choose another with --subnet"},
		{"network create c --subnet fd00:3::/64 --gateway fd00:4::1", "network c: gateway fd00:4::1 is outside subnet fd00:3::/64: choose one inside"},
		{"network create c --subnet fd00:3::/64 --subnet fd00:4::/64", "network c: two values of subnet are IPv6, fd00:3::/64 and fd00:4::/64: give one of each family"},
		{"network create c --ipv4=false", "network c: IPv4 and IPv6 are both off: leave one on"},
		{"network create c --ipv6=false --subnet fd00:3::/64", "network c: subnet fd00:3::/64 is IPv6, which is switched off: leave one of the two out"},
		{"network create c --ipv6 --mtu 1000", "network c: MTU 1000 is too small for IPv6: use 1280 or more (RFC 8200)"},
		{"network create c --mode bridge", `network c: mode "bridge": use nat, routed or isolated`},
		{"attach c --netns DB --ip6 fd00:2::5", "container c: address fd00:2::5: network bridge has no IPv6 subnet: leave it out or choose another network"},
		{"attach c --netns DB --network dual --ip6 fd00:3::5", "container c: address fd00:3::5 is outside subnet fd00:2::/64 of network dual: choose one inside"},
		{"attach c --netns DB --network dual --ip6 10.4.0.5", "container c: address 10.4.0.5 is not IPv6: give it as --ip"},
		{"attach c --netns DB -p [2001:db8::1]:80:80", "container c: publish [2001:db8::1]:80:80/tcp: it has no IPv6 address with a gateway: connect it to a network that gives one, or leave the host address out"},
		{"attach c --netns DB --network dual -p [2001:db8::7]:80:80", "container c: address 2001:db8::7 is not one of the host: publish on one of its addresses or leave the address out"},
		{"network create c --mtu 20", "network c: MTU 20 is out of range: use 68 to 65535"},
		{"attach c --netns DB --ip 10.99.0.1", "container c: address 10.99.0.1 is outside subnet 10.88.0.0/24 of network bridge: choose one inside"},
		{"attach c --netns DB --ip 10.88.0.1", "container c: address 10.88.0.1 of network bridge is the gateway: choose another"},
		{"attach c --netns DB --ip 10.88.0", `container c: address "10.88.0" is not an IP address: write one like 10.1.0.5`},
		{"attach c --netns DB --network small --ip 10.2.0.2", "container c: address 10.2.0.2 of network small is in use by container web: choose another"},
		{"attach c --netns DB --network small", "container c: network small is full: no free address in 10.2.0.0/30: detach a container or make a network with a larger subnet"},
		{"attach c --netns DB --mac 02:00:00", `container c: MAC address "02:00:00" is malformed: write it like 02:00:00:00:00:01`},
		{"attach c --netns DB --mac 01:00:5e:00:00:01", "container c: MAC address 01:00:5e:00:00:01 is not that of one station: clear the lowest bit of the first byte"},
		{"attach c --netns /nonexistent/ns", "container c: no such network namespace at /nonexistent/ns: check --netns, or make one with ip netns add"},
		{"attach c --netns /etc/passwd", "container c: no such network namespace: /etc/passwd is something else: check --netns"},
		{"attach c --pid 99999999", "container c: no such network namespace: process 99999999 does not run: check --pid"},
		{"attach c --netns DB --ifname abcdefghijklmnop", `container c: interface name "abcdefghijklmnop" is 16 bytes long: the kernel allows 15`},
		{"attach c --netns DB --ifname lo", "container c: interface name lo is taken by the loopback device: use a name like eth0"},
		{"attach c --netns DB -p 70000:80", `container c: publish "70000:80": host port 70000 is out of range: use 1 to 65535`},
		{"attach c --netns DB -p 80:0", `container c: publish "80:0": container port 0 is out of range: use 1 to 65535`},
		{"attach c --netns DB -p 8000-8010:80-85", `container c: publish "8000-8010:80-85": 11 host ports for 6 container ports: make the ranges of one length`},
		{"attach c --netns DB -p 80:80/icmp", `container c: publish "80:80/icmp": protocol "icmp" is not carried: use tcp, udp or sctp`},
		{"attach c --netns DB -p 9.9.9.9:80:80", "container c: address 9.9.9.9 is not one of the host: publish on one of its addresses or leave the address out"},
		{"attach c --netns DB -p x", `container c: publish "x": container port "x" is not a number: use 1 to 65535`},
		{"attach c --netns DB -p 7000:80", "container c: port 7000/tcp is held by SELF: stop it or publish another port"},
		{"attach c --netns DB -p 8080:80", "container c: port 8080/tcp is published by container web: choose another host port"},
		{"attach c --netns DB -p 6990-7010:6990-7010", "container c: port 7000/tcp is held by SELF: stop it or publish another port"},
		{"attach c --netns DB -P --expose x", `container c: expose "x": port "x" is not a number: use 1 to 65535`},
		{"port add web 7000:80", "container web: port 7000/tcp is held by SELF: stop it or publish another port"},
		{"port add nope 9000:80", "container nope is not attached: see vswitch ps"},
		{"port rm web 9000:80", "container web: 9000:80 is not published: see vswitch port ls web"},
		{"inspect nope", "container nope is not attached: see vswitch ps"},
		{"stats nope", "container nope is not attached: see vswitch ps"},
		{"capture nope", "container nope is not attached: see vswitch ps, or capture --wait to begin before it comes"},
		{"network rm small", "network small is in use by web: detach or disconnect them first"},
		{"network rm bridge", "network bridge is the default network: it cannot be removed"},
		{"network rm nope", "network nope does not exist: see vswitch network ls, or make it with vswitch network create nope"},
		{"network inspect nope", "network nope does not exist: see vswitch network ls, or make it with vswitch network create nope"},
		{"network disconnect bridge web", "container web: it is not in network bridge: see vswitch inspect web"},
		{"nat flush --container nope", "container nope is not attached: see vswitch ps"},
		{"nat flush --proto x", `protocol "x": use tcp, udp, icmp or sctp`},
		{"run --network container:nope -- true", "container nope is not attached: see vswitch ps"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			args := strings.Fields(strings.NewReplacer("DB", db.Path()).Replace(tt.args))
			stdout, stderr, code := r.vswitch(args...)
			want := strings.NewReplacer("DB", db.Path(), "SELF", self).Replace("vswitch: " + tt.want + "\n")
			if stderr != want || stdout != "" || code != exitFailure {
				t.Errorf("got exit code %d, stdout %q, stderr\n%swant exit code 1, stderr\n%s", code, stdout, stderr, want)
			}
		})
	}
	if after := state(); after != before {
		t.Errorf("something changed: before\n%s\nafter\n%s", before, after)
	}
}

// TestBadDaemon starts daemons that cannot be.
func TestBadDaemon(t *testing.T) {
	r := newRig(t)
	if err := netlab.Veth(r.world.Host, "down0", r.world.Outside, "down1", 0); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--state-dir", "DIR/other"}, "directory DIR/run is in use by the vswitch daemon with pid PID: stop it or choose another --run-dir and --state-dir"},
		{[]string{"--run-dir", "DIR/run2", "--state-dir", "DIR/state"}, "directory DIR/state is in use by the vswitch daemon with pid PID: stop it or choose another --run-dir and --state-dir"},
		{[]string{"--run-dir", "DIR/run2", "--state-dir", "DIR/state2", "--uplink", "nope0"}, "uplink nope0: no such interface: choose one of ip -br link with --uplink"},
		{[]string{"--run-dir", "DIR/run2", "--state-dir", "DIR/state2", "--uplink", "down0"}, "uplink down0: not usable as an uplink: it is down: ip link set down0 up, or choose another with --uplink"},
		{[]string{"--run-dir", "DIR/run2", "--state-dir", "DIR/state2", "--uplink", "lo"}, "uplink lo: not usable as an uplink: it speaks neither Ethernet nor IP alone as tun and WireGuard do: choose another with --uplink"},
		{[]string{"--run-dir", "/proc/nope", "--state-dir", "DIR/state2"}, "directory: mkdir /proc/nope: no such file or directory"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			args := []string{"daemon"}
			for _, a := range tt.args {
				args = append(args, strings.Replace(a, "DIR", r.dir, 1))
			}
			cmd := r.command(args...)
			code, stderr := r.end(cmd)
			if want := "vswitch: " + strings.NewReplacer("DIR", r.dir, "PID", fmt.Sprint(r.daemon.Process.Pid)).Replace(tt.want) + "\n"; code != 1 || stderr != want {
				t.Errorf("got exit code %d, stderr\n%swant exit code 1, stderr\n%s", code, stderr, want)
			}
			for _, name := range []string{"other", "run2", "state2"} {
				if _, err := os.Stat(r.dir + "/" + name); err == nil {
					t.Errorf("it left directory %s", name)
				}
			}
		})
	}
	r.must("ps") // the first one is unharmed
}

// TestWithoutRights runs what needs root as somebody else.
func TestWithoutRights(t *testing.T) {
	r := newRig(t)
	for _, tt := range []struct {
		args string
		want string
	}{
		{"demo", "demo: network namespaces need rights: run it as root: sudo vswitch demo"},
		{"ps", "vswitch daemon at RUN/vswitch.sock: permission denied: run as root, or join the group vswitch-ro to read or vswitch-admin to make changes"},
		{"run -- true", "run: make a network namespace: operation not permitted: run it as root"},
		{"daemon --run-dir OWN/run --state-dir OWN/state", "bpf is not permitted: run as root outside of user namespaces, or with CAP_BPF and CAP_NET_ADMIN"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			own, err := os.MkdirTemp("", "vswitch-test-") // t.TempDir lies in a closed directory
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(own)
			if err := os.Chmod(own, 0o777); err != nil {
				t.Fatal(err)
			}
			cmd := r.command(strings.Fields(strings.ReplaceAll(tt.args, "OWN", own))...)
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			code, stderr := r.end(cmd)
			want := strings.NewReplacer("OWN", own, "RUN", r.runDir()).Replace("vswitch: " + tt.want + "\n")
			if code != 1 || stderr != want {
				t.Errorf("got exit code %d, stderr\n%swant exit code 1, stderr\n%s", code, stderr, want)
			}
			if left, err := os.ReadDir(own); err != nil || len(left) != 0 {
				t.Errorf("it left %v, %v", left, err)
			}
		})
	}
}

// end runs cmd on the host to its end.
func (r *rig) end(cmd *exec.Cmd) (code int, stderr string) {
	r.t.Helper()
	var b bytes.Buffer
	cmd.Stderr = &b
	if err := r.world.Host.Start(cmd); err != nil {
		r.t.Fatal(err)
	}
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), b.String()
}
