package runtimetest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// docker starts dockerd; how it is started is in its configuration.
func (s *stack) docker() {
	s.t.Helper()
	s.daemon("dockerd", "dockerd --pidfile /run/dockerd-own.pid")
	s.await("dockerd", "docker version")
}

func newDocker(t *testing.T, liveRestore bool) *stack {
	t.Helper()
	s := newStack(t, "--docker-socket on")
	// No bridge and no rule of its own: all that containers have is ours.
	s.must(fmt.Sprintf(`mkdir -p /etc/docker; cat > /etc/docker/daemon.json <<'EOF'
{"bridge": "none", "iptables": false, "ip6tables": false, "userland-proxy": false, "live-restore": %v}
EOF`, liveRestore))
	s.docker()
	s.must("docker import /tmp/image.tar bb:1")
	return s
}

// With Docker 28, whose GwAllocCheck and options Debian 12's does not have.
func TestDocker(t *testing.T) {
	s := newDocker(t, true)
	run := func(args string) { t.Helper(); s.must("docker run -d --restart unless-stopped " + args) }
	s.must("docker network create -d vswitch --ipam-driver vswitch --subnet 10.99.0.0/24 net1")
	s.must("docker network create -d vswitch --ipam-driver vswitch net2")
	s.must("docker network create -d vswitch --internal --subnet 10.98.0.0/24 inside")
	run("--name one --network net1 -p 8081:80 bb:1 " + httpd("one"))
	run("--name two --network net1 --ip 10.99.0.50 --mac-address 02:11:22:33:44:55 -p 127.0.0.1:8082:80 bb:1 " + httpd("two"))
	run("--name three --network net2 -p 8083-8084:80-81 -p 8085:85/udp bb:1 " + httpd("three"))
	run("--name four --network inside bb:1 " + httpd("four"))
	s.published(8081, "one")
	s.published(8083, "three")
	s.want("two", "curl -sS 127.0.0.1:8082")
	if _, err := fetch(s.world.Outside, "198.51.100.1:8082"); err == nil {
		t.Error("a port of 127.0.0.1 is reached from outside")
	}
	s.want("two", "docker exec one wget -qO- http://10.99.0.50")
	s.must("docker exec one nslookup two 127.0.0.11")
	s.want("one", "docker exec two wget -qO- http://198.51.100.1:8081") // hairpin
	s.must("docker exec one ping -c1 -W3 198.51.100.9")
	if got := s.run("docker exec four ping -c1 -W2 198.51.100.9"); !strings.Contains(got, "exit status") {
		t.Errorf("an internal network reaches the world: %s", got)
	}
	if got := s.run("docker exec three wget -T 2 -qO- http://10.99.0.50"); !strings.Contains(got, "exit status") {
		t.Errorf("another network is reached: %s", got)
	}
	s.want("02:11:22:33:44:55", "docker exec two cat /sys/class/net/eth0/address")
	if got := s.must("vswitch ps"); strings.Count(got, "docker:") != 4 {
		t.Errorf("vswitch ps does not name the runtime:\n%s", got)
	}

	// A second network comes and goes while the container runs.
	s.must("docker network connect net2 one")
	three := s.must("docker inspect three --format '{{.NetworkSettings.Networks.net2.IPAddress}}'")
	s.want("three", "docker exec one wget -qO- http://"+three)
	s.published(8081, "one")
	// One container by name, service, project, label and interface, with who is in its network.
	s.must("docker run -d --name shop-web-1 --network net1 --network-alias www --label com.docker.compose.project=shop --label com.docker.compose.service=web --label tier=front bb:1 " + httpd("web"))
	s.must("docker run -d --name side --network container:shop-web-1 bb:1 sleep 1000")
	s.await("the names", "vswitch inspect side")
	s.await("the labels", "vswitch inspect label:tier=front")
	for _, word := range []string{"shop-web-1", "docker:shop-web-1", "service:web", "www", "shop", "label:tier=front"} {
		s.want("shop-web-1", "vswitch ps "+word+" | tail -n +2 | grep -o shop-web-1")
	}
	s.want("2", "vswitch stats one | grep -c 'container  net'")
	s.want("1", "vswitch stats one/eth1 | grep -c 'container  net'")
	s.want("container:shop-web-1", "vswitch ps side | grep -o container:shop-web-1")
	s.want("web", "vswitch run --network container:shop-web-1 -- curl -sS 127.0.0.1")
	s.must("docker rm -f side shop-web-1")
	s.must("docker network disconnect net2 one")
	s.published(8081, "one")

	s.end("9", "vswitch")
	s.vswitch()
	s.published(8081, "one")
	s.want("two", "docker exec one wget -qO- http://10.99.0.50")

	// With live-restore containers outlive dockerd, which asks for nothing again.
	for _, signal := range []string{"TERM", "9"} {
		s.end(signal, "dockerd")
		s.published(8081, "one")
		s.docker()
		s.published(8083, "three")
		s.want("two", "docker exec one wget -qO- http://10.99.0.50")
	}
	s.must("docker restart -t 0 two")
	s.want("two", "docker exec one wget -qO- http://10.99.0.50")
	s.must("docker stop -t 0 three")
	if _, err := fetch(s.world.Outside, "198.51.100.1:8083"); err == nil {
		t.Error("the port of a stopped container answers")
	}
	s.must("docker start three")
	s.published(8083, "three")

	if got := s.run("docker run --rm --network net1 -p 8081:80 bb:1 true"); !strings.Contains(got, "8081") || strings.Count(got, "\n") > 3 {
		t.Errorf("a port twice: %s", got)
	}
	if got := s.run("docker network create -d vswitch --subnet 10.99.0.0/16 net3"); !strings.Contains(got, "exit status") {
		t.Errorf("an overlapping network: %s", got)
	}
	s.must("docker rm -f one two three four && docker network rm net1 net2 inside")
	s.empty("after docker rm")
	if got := s.must("vswitch network ls | tail -n +2 | awk '{print $1}'"); got != "bridge" {
		t.Errorf("networks are left: %s", got)
	}
}

// Without live-restore containers end with dockerd and come back with it, on new
// endpoints in networks that dockerd never speaks of again.
func TestDockerRestart(t *testing.T) {
	s := newDocker(t, false)
	s.must("docker network create -d vswitch --subnet 10.95.0.0/24 net1")
	s.must("docker run -d --restart always --name web --network net1 -p 8081:80 bb:1 " + httpd("web"))
	s.published(8081, "web")
	for _, signal := range []string{"TERM", "9"} {
		s.end(signal, "dockerd")
		s.docker()
		s.published(8081, "web")
		if got := s.must("vswitch ps | tail -n +2 | wc -l"); got != "1" {
			t.Errorf("after SIG%s %s containers are attached:\n%s", signal, got, s.run("vswitch ps"))
		}
	}
	// Both end, both come back, the network's driver first.
	s.end("TERM", "dockerd")
	s.end("TERM", "vswitch")
	s.vswitch()
	s.docker()
	s.published(8081, "web")
	s.must("docker rm -f web && docker network rm net1")
	s.empty("after docker rm")
}

// The managed plugin forwards to the daemon, and may go and come back.
func TestDockerPlugin(t *testing.T) {
	s := newDocker(t, true)
	dir := built(t, "VSWITCH_DOCKER_PLUGIN")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := "/tmp/plugin" + strings.TrimPrefix(path, dir)
		if d.IsDir() {
			return os.MkdirAll(s.Path(to), 0o755)
		}
		s.put(path, to, 0o755)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	s.must("docker plugin create acme/vswitch:dev /tmp/plugin && docker plugin enable acme/vswitch:dev")
	s.must("docker network create -d acme/vswitch:dev --subnet 10.97.0.0/24 managed")
	s.must("docker run -d --name web --network managed -p 8081:80 bb:1 " + httpd("web"))
	s.published(8081, "web")
	// Without a daemon: an answer at once.
	s.end("9", "vswitch")
	begin := time.Now()
	if got := s.run("docker run --rm --network managed bb:1 true"); !strings.Contains(got, "start it on the host") {
		t.Errorf("without a daemon: %s", got)
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("without a daemon docker run takes %v", d)
	}
	s.vswitch()
	s.published(8081, "web")
	s.must("docker rm -f web && docker network rm managed && docker plugin disable acme/vswitch:dev && docker plugin rm acme/vswitch:dev")
	s.empty("after docker rm")
}

// Twenty containers at once, and each start measured.
func TestDockerMany(t *testing.T) {
	s := newDocker(t, true)
	s.must("docker network create -d vswitch --subnet 10.96.0.0/24 many")
	s.must(`for i in $(seq 20); do docker run -d --name c$i --network many -p $((9000+i)):80 bb:1 ` + httpd("c'$i'") + ` & done; wait`)
	for i := 1; i <= 20; i += 7 {
		s.published(9000+i, fmt.Sprint("c", i))
	}
	s.must("docker rm -f $(docker ps -aq) && docker network rm many")
	s.empty("after docker rm")
}
