package runtimetest

import (
	"strings"
	"testing"
)

func newPodman(t *testing.T) *stack {
	t.Helper()
	s := newStack(t, "")
	// Nothing here concerns vswitch: cgroups as the test has them, and no right to
	// raise limits.
	s.must(`cat > /etc/containers/containers.conf <<'EOF'
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
default_capabilities = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETGID", "SETUID"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
EOF
		podman import /tmp/image.tar bb:1`)
	return s
}

// Podman 5 finds the plugin where the package has put it.
func TestPodman(t *testing.T) {
	s := newPodman(t)
	s.must("podman network create -d vswitch --subnet 10.45.0.0/24 net1")
	s.must("podman network create -d vswitch --subnet 10.46.0.0/24 --route 10.66.0.0/16,10.46.0.99,7 net2")
	run := func(args string) { t.Helper(); s.must("podman run -d " + args) }
	run("--name one --network net1 -p 8081:80 localhost/bb:1 " + httpd("one"))
	run("--name two --network net1 --ip 10.45.0.50 --mac-address 02:11:22:33:44:55 -p 127.0.0.1:8082:80 localhost/bb:1 " + httpd("two"))
	run("--name three --network net2 -p 8083-8084:80-81 -p 8085:85/udp localhost/bb:1 " + httpd("three"))
	s.published(8081, "one")
	s.published(8083, "three")
	s.want("two", "curl -sS 127.0.0.1:8082")
	if _, err := fetch(s.world.Outside, "198.51.100.1:8082"); err == nil {
		t.Error("a port of 127.0.0.1 is reached from outside")
	}
	s.want("two", "podman exec one wget -qO- http://10.45.0.50")
	s.want("one", "podman exec two wget -qO- http://198.51.100.1:8081") // hairpin
	s.must("podman exec one ping -c1 -W3 198.51.100.9")
	if got := s.run("podman exec three wget -T 2 -qO- http://10.45.0.50"); !strings.Contains(got, "exit status") {
		t.Errorf("another network is reached: %s", got)
	}
	s.want("02:11:22:33:44:55", "podman exec two cat /sys/class/net/eth0/address")
	if got := s.must("vswitch ps"); strings.Count(got, "podman:") != 3 {
		t.Errorf("vswitch ps does not name the runtime:\n%s", got)
	}

	s.want("1", "podman exec three ip route | grep -c '10.66.0.0/16 via 10.46.0.99 dev eth0 *metric 7'")

	// A second network comes and goes while the container runs.
	s.must("podman network connect net2 one")
	three := s.must("podman inspect three --format '{{.NetworkSettings.Networks.net2.IPAddress}}'")
	s.want("three", "podman exec one wget -qO- http://"+three)
	s.published(8081, "one")
	s.must("podman network disconnect net2 one")
	if got := s.run("podman exec one wget -T 2 -qO- http://" + three); !strings.Contains(got, "exit status") {
		t.Errorf("a network that was left is reached: %s", got)
	}
	s.published(8081, "one")

	s.end("9", "vswitch")
	s.vswitch()
	s.published(8081, "one")
	s.want("two", "podman exec one wget -qO- http://10.45.0.50")

	s.must("podman restart -t 0 two")
	s.want("two", "curl -sS --retry 5 --retry-connrefused 127.0.0.1:8082")
	s.must("podman stop -t 0 three")
	if _, err := fetch(s.world.Outside, "198.51.100.1:8083"); err == nil {
		t.Error("the port of a stopped container answers")
	}
	s.must("podman start three")
	s.published(8083, "three")

	// What cannot be done says so in one line and leaves nothing.
	if got := s.run("podman run --rm --network net1 -p 8081:80 localhost/bb:1 true"); !strings.Contains(got, "8081: bind: address already in use") { // Podman's own line
		t.Errorf("a port twice: %s", got)
	}
	if got := s.run("podman network create -d vswitch -o nosuch=1 net3 && podman run --rm --network net3 localhost/bb:1 true"); !strings.Contains(got, "nosuch") {
		t.Errorf("an unknown option: %s", got)
	}
	s.must("podman rm -f -t 0 one two three")
	s.empty("after podman rm")
	s.must("podman network rm net1 net2")

	// Without a daemon: at once, with the way out.
	s.end("TERM", "vswitch")
	s.must("podman network create -d vswitch net4 || true")
	if got := s.run("timeout 10 podman run --rm --network net4 localhost/bb:1 true"); !strings.Contains(got, "vswitch daemon") {
		t.Errorf("without a daemon: %s", got)
	}
}

// The package's hooks attach what is annotated, and nothing else.
func TestPodmanHook(t *testing.T) {
	s := newPodman(t)
	s.must("podman run -d --name hooked --network none --annotation org.vswitch.network=bridge --annotation org.vswitch.ports=8081:80 localhost/bb:1 " + httpd("hooked"))
	s.must("podman run -d --name plain --network none localhost/bb:1 sleep 1000")
	s.published(8081, "hooked")
	if got := s.must("vswitch ps | tail -n +2"); strings.Count(got, "\n") != 0 || !strings.Contains(got, "oci:") {
		t.Errorf("vswitch ps:\n%s", got)
	}
	s.want("lo", "podman exec plain ls /sys/class/net")
	s.end("9", "vswitch")
	s.vswitch()
	s.published(8081, "hooked")
	s.must("podman rm -f -t 0 hooked plain")
	s.empty("after podman rm")
	if got := s.run("podman run --rm --network none --annotation org.vswitch.network=nosuch localhost/bb:1 true"); !strings.Contains(got, "nosuch") {
		t.Errorf("an unknown network: %s", got)
	}
	s.empty("after a hook that failed")
}
