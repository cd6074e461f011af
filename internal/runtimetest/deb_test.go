package runtimetest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/internal/debroot"
	"github.com/vswitch/vswitch/internal/doctest"
)

// newSystem is a fresh Debian as an administrator has it, with systemd.
func newSystem(t *testing.T) *machine {
	t.Helper()
	m := newMachine(t, debroot.Systemd, true)
	m.logs = "journalctl -b --no-pager -o cat -u 'vswitch*' | tail -50"
	m.await("the system to run", "systemctl is-system-running | grep -E 'running|degraded'")
	return m
}

// facts is what a package must leave as it was. What dpkg, the journal and
// systemd's own bookkeeping write belongs to them.
func (m *machine) facts() string {
	return m.must(`find / -xdev \( -path /proc -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache -o -path /tmp -o -path /root \) -prune -o -printf '%M %p %l\n' | sort
		find /run -xdev \( -path /run/systemd -o -path /run/log -o -path /run/udev \) -prune -o -printf '%M %p\n' | sort
		ip -o link | sed 's/@.*//' | cut -d: -f2 | sort
		ip route
		cat /proc/sys/net/ipv4/ip_local_reserved_ports
		systemctl list-units --all --no-legend --plain 'vswitch*'`)
}

func (m *machine) pid() string { return m.must("systemctl show -P MainPID vswitch.service") }

// restarted waits until another process than pid serves.
func (m *machine) restarted(why, pid string) {
	m.t.Helper()
	m.await("the daemon after "+why, `p=$(systemctl show -P MainPID vswitch.service); [ $p != 0 ] && [ $p != `+pid+` ] && systemctl is-active --quiet vswitch.service && vswitch ps`)
}

// The package installs, works under systemd with all that the unit forbids it,
// survives what kills the daemon, is upgraded under running containers, and goes
// without a trace.
func TestCleanRoot(t *testing.T) {
	first, second := deb(t, "v1.0.0"), deb(t, "v1.1.0")
	m := newSystem(t)
	m.must("mkdir -p /opt/cni/bin")
	before := m.facts()
	m.put(first, "/tmp/first.deb", 0o644)
	m.put(second, "/tmp/second.deb", 0o644)

	m.must("dpkg -i /tmp/first.deb")
	for _, unit := range []string{"vswitch.service", "vswitch.socket", "vswitch-docker.socket"} {
		if got := m.run("systemctl is-active " + unit + "; systemctl is-enabled " + unit); got != "active\nenabled" {
			t.Errorf("%s after the installation: %s", unit, got)
		}
	}
	if got := m.must("vswitch version"); got != "vswitch "+strings.TrimPrefix(got, "vswitch ") || got == "vswitch " {
		t.Errorf("version %q", got)
	}
	if got := m.must("readlink -f /opt/cni/bin/vswitch /usr/lib/cni/vswitch /usr/lib/netavark/vswitch"); strings.Count(got, "/usr/bin/vswitch") != 3 {
		t.Errorf("links of plugins: %s", got)
	}
	if got := m.must("stat -c '%a %n' /run/vswitch /run/vswitch/vswitch.sock /run/docker/plugins/vswitch.sock /var/lib/vswitch"); got !=
		"750 /run/vswitch\n660 /run/vswitch/vswitch.sock\n600 /run/docker/plugins/vswitch.sock\n750 /var/lib/vswitch" {
		t.Errorf("modes:\n%s", got)
	}
	if got := m.must("curl -sS -X POST --unix-socket /run/docker/plugins/vswitch.sock http://plugin/Plugin.Activate"); !strings.Contains(got, "NetworkDriver") {
		t.Errorf("Docker's socket answers %s", got)
	}
	m.must(". /usr/share/bash-completion/completions/vswitch && complete -p vswitch")

	// The groups of the package.
	as := func(group, command string) string {
		return m.run("setpriv --reuid 61005 --regid 61005 --groups $(getent group " + group + " | cut -d: -f3) " + command + " 2>&1")
	}
	if got := as("vswitch-ro", "sh -c 'vswitch ps -q; echo $?'"); !strings.HasSuffix(got, "0") {
		t.Errorf("who is in vswitch-ro reads: %s", got)
	}
	if got := as("vswitch-ro", "vswitch network create no"); !strings.Contains(got, "join the group vswitch-admin") {
		t.Errorf("who is in vswitch-ro changes: %s", got)
	}
	if got := as("nogroup", "vswitch ps"); !strings.Contains(got, "permission denied") {
		t.Errorf("who is in no group reads: %s", got)
	}

	// A container with a port below 1024 and a range, whose namespace is made after
	// the service began.
	m.must(`ip netns add box
		vswitch attach box --netns /run/netns/box -p 80:80 -p 20000-29999:20000-29999/udp`)
	server := m.Command(t.Context(), "ip", "netns", "exec", "box", "perl", "-MIO::Socket::INET", "-e",
		`$s = IO::Socket::INET->new(LocalPort => 80, Listen => 5, ReuseAddr => 1) or die $!; while ($c = $s->accept) { sysread $c, $b, 1000; print $c "HTTP/1.0 200 OK\r\n\r\nhello from box\n"; close $c }`)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { server.Process.Kill(); server.Wait() }()
	m.await("the container", "curl -sS 127.0.0.1:80 | grep box") // by the relay
	m.published(80, "hello from box")
	if got := m.must("cat /proc/sys/net/ipv4/ip_local_reserved_ports"); got != "20000-29999" {
		t.Errorf("reserved ports %s", got)
	}
	m.must("vswitch network create --ipv6 blue && vswitch network connect blue box && vswitch network disconnect blue box && vswitch network rm blue")
	// It names who holds a port, which it finds in /proc.
	if got := m.run(`perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 8099, Listen => 1) or die; sleep 9' & sleep 0.5; vswitch port add box 8099:80; kill $!`); !strings.Contains(got, "perl") {
		t.Errorf("a port in use: %s", got)
	}

	pid := m.pid()
	m.must("kill -9 " + pid)
	m.restarted("kill -9", pid)
	m.published(80, "hello from box")

	// A daemon that hangs does not feed the watchdog.
	m.must(`mkdir -p /run/systemd/system/vswitch.service.d
		printf '[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n' > /run/systemd/system/vswitch.service.d/test.conf
		systemctl daemon-reload; systemctl restart vswitch.service`)
	pid = m.pid()
	time.Sleep(3 * time.Second)
	if got := m.pid(); got != pid {
		t.Errorf("the watchdog ended a daemon that works")
	}
	m.must("kill -STOP " + pid)
	m.restarted("SIGSTOP", pid)
	if got := m.must("journalctl --no-pager -u vswitch.service"); !strings.Contains(got, "watchdog") {
		t.Errorf("the journal does not speak of the watchdog")
	}
	m.published(80, "hello from box")
	m.must("rm -r /run/systemd/system/vswitch.service.d; systemctl daemon-reload")

	// Stopped, it is started by who connects.
	m.must("systemctl stop vswitch.service 2>/dev/null; vswitch ps | grep box")
	m.published(80, "hello from box")

	m.must("echo 'workers = 1' >> /etc/vswitch/vswitch.toml")
	pid = m.pid()
	if got := m.must("dpkg -i /tmp/second.deb 2>&1"); !strings.Contains(got, "1.1.0") {
		t.Errorf("upgrade: %s", got)
	}
	m.restarted("the upgrade", pid)
	m.published(80, "hello from box")
	if got := m.must("vswitch ps --format json && tail -1 /etc/vswitch/vswitch.toml"); !strings.HasSuffix(got, "workers = 1") {
		t.Errorf("the upgrade changed the configuration: %s", got)
	}
	if got := m.run("systemctl is-enabled vswitch.service"); got != "enabled" {
		t.Errorf("after the upgrade it is %s", got)
	}

	// An administrator's decision outlives an upgrade.
	m.must("systemctl disable vswitch-docker.socket 2>/dev/null; dpkg -i /tmp/second.deb")
	if got := m.run("systemctl is-enabled vswitch-docker.socket"); !strings.HasPrefix(got, "disabled") {
		t.Errorf("a disabled socket is %s after an upgrade", got)
	}

	m.must("dpkg -r vswitch")
	if got := m.run("ls /opt/cni/bin; systemctl is-active vswitch.service vswitch.socket"); strings.Contains(got, "vswitch") || !strings.HasPrefix(got, "inactive\ninactive") && !strings.HasPrefix(got, "unknown") && !strings.HasPrefix(got, "failed") {
		t.Errorf("removed: %s", got)
	}
	if got := m.run(`sleep 1; for f in /proc/[0-9]*/cmdline; do tr '\0' ' ' <$f; echo; done 2>/dev/null | grep '^vswitch \(hold\|relay\|resolve\)'; ip -o link | grep -o 'vs-[0-9a-f]*'; cat /proc/sys/net/ipv4/ip_local_reserved_ports; tc filter show dev eth0 ingress`); strings.TrimSpace(got) != "" {
		t.Errorf("removed, but this outlives it:\n%s", got)
	}
	if got := m.run("curl -sS -m 5 127.0.0.1:80"); !strings.Contains(got, "refused") && !strings.Contains(got, "Failed to connect") {
		t.Errorf("a published port is not the host's again: %s", got)
	}
	if got := m.run("ls /var/lib/vswitch /etc/vswitch"); !strings.Contains(got, "state.db") || !strings.Contains(got, "vswitch.toml") {
		t.Errorf("removed, but not purged, it forgot its state: %s", got)
	}
	m.must("dpkg -P vswitch && ip netns del box; umount /run/netns; rmdir /run/netns")
	after := m.facts()
	units := regexp.MustCompile(`(?m)^\S+ /etc/systemd/system/\S* ?.*$`)
	if d := cmp.Diff(strings.Split(units.ReplaceAllString(before, ""), "\n"), strings.Split(units.ReplaceAllString(after, ""), "\n")); d != "" {
		t.Errorf("the package left something (-before +after):\n%s", d)
	}
	if got := m.run("ls -R /etc/systemd/system | grep vswitch"); strings.Contains(got, "vswitch") {
		t.Errorf("units left: %s", got)
	}
}

// A port of the API that was added later finds its link, by dpkg's trigger.
func TestCNIDirectoryComesLater(t *testing.T) {
	m := newSystem(t)
	m.put(deb(t, "v1.0.0"), "/tmp/first.deb", 0o644)
	m.must("dpkg -i /tmp/first.deb")
	if got := m.run("ls /opt/cni"); !strings.Contains(got, "No such file") {
		t.Errorf("the package made /opt/cni: %s", got)
	}
	// As the packages of Kubernetes have it.
	m.must(`mkdir -p /tmp/cni/DEBIAN /tmp/cni/opt/cni/bin; touch /tmp/cni/opt/cni/bin/loopback
		printf 'Package: kubernetes-cni\nVersion: 1\nArchitecture: all\nMaintainer: x <x@example.com>\nDescription: x\n' > /tmp/cni/DEBIAN/control
		dpkg-deb -b /tmp/cni /tmp/cni.deb; dpkg -i /tmp/cni.deb`)
	if got := m.must("readlink /opt/cni/bin/vswitch"); got != "/usr/bin/vswitch" {
		t.Errorf("the link leads to %s", got)
	}
}

// What docs/integrations/install.md tells its reader to type.
func TestInstallDocument(t *testing.T) {
	file := deb(t, "v1.0.0")
	m := newSystem(t)
	m.put(file, "/root/"+filepath.Base(file), 0o644)
	b, err := os.ReadFile("../../docs/integrations/install.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := doctest.Parse(string(b))
	if err != nil || len(steps) == 0 {
		t.Fatalf("%d steps, %v", len(steps), err)
	}
	for _, s := range steps {
		prelude := "cd /root\n"
		if !s.Script {
			prelude += "set +e\nset +o pipefail\n" // the output is what counts
		}
		out, err := m.bash(prelude + s.Command)
		switch {
		case s.Script && err != nil:
			t.Fatalf("line %d: %s: %v\n%s", s.Line, s.Command, err, out)
		case !s.Script && !doctest.Matches(s.Output, out):
			t.Errorf("line %d: %s\n%s\nthe document has\n%s", s.Line, s.Command, out, s.Output)
		}
	}
}
