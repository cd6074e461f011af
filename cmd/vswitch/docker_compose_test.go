package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// composeFile is one for Docker's bridge, with the driver changed: services, a named
// network with addresses of its own, an internal one, published ports, an alias.
const composeFile = `
version: "3.8"
services:
  web:
    image: ` + dockerImage + `
    stop_signal: KILL
    ports:
      - "18081:80"
      - "127.0.0.1:18082:80"
      - "18090-18092:18090-18092/udp"
    networks:
      front:
        ipv4_address: 10.77.0.10
        aliases: [shop]
      back:
  db:
    image: ` + dockerImage + `
    stop_signal: KILL
    depends_on: [web]
    networks: [back]
networks:
  front:
    driver: vswitch
    driver_opts:
      com.docker.network.driver.mtu: "1400"
      com.docker.network.bridge.name: shop0
    ipam:
      config:
        - subnet: 10.77.0.0/24
          gateway: 10.77.0.1
  back:
    driver: vswitch
    internal: true
    ipam:
      driver: vswitch
`

// compose runs docker-compose on the project.
func (l *dockerLab) compose(dir string, args ...string) string {
	l.t.Helper()
	cmd := exec.Command("docker-compose", append([]string{"--no-ansi", "--project-name", "shop", "--file", filepath.Join(dir, "compose.yml")}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix:///run/docker.sock", "HOME="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		l.t.Fatalf("docker-compose %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestDockerCompose brings a project up, changes it, and takes it down.
func TestDockerCompose(t *testing.T) {
	labtest.NeedProgram(t, "docker-compose")
	l := newDockerLab(t)
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "compose.yml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(composeFile)
	l.compose(dir, "up", "-d")
	l.named("shop_db_1")
	l.named("shop_web_1")
	l.served(l.world.Outside, netlab.HostAddr+":18081")
	l.served(l.world.Host, "127.0.0.1:18082")
	web := l.docker("inspect", "-f", `{{.NetworkSettings.Networks.shop_front.IPAddress}} {{.NetworkSettings.Networks.shop_back.IPAddress}}`, "shop_web_1")
	front, back, _ := strings.Cut(web, " ")
	if front != "10.77.0.10" || back == "" {
		t.Errorf("addresses of web: %q", web)
	}
	l.wantGet("shop_db_1", back, containerPage)
	if out, err := l.dockerOut("exec", "shop_db_1", "nslookup", "web", "127.0.0.11"); err != nil || !strings.Contains(out, back) {
		t.Errorf("db looks for web: %v\n%s", err, out)
	}
	if out, err := l.dockerOut("exec", "shop_db_1", "nc", "-w", "1", netlab.OutsideAddr, "9"); err == nil {
		t.Errorf("the internal network leads out: %s", out)
	}
	if out := l.docker("exec", "shop_web_1", "ip", "link"); !strings.Contains(out, "mtu 1400") {
		t.Errorf("MTU of web:\n%s", out)
	}
	if links, _ := l.world.Host.Links(); !strings.Contains(strings.Join(links, " "), "shop0") {
		t.Errorf("no shop0 among %v", links)
	}

	if ls := l.must("network", "ls"); !strings.Contains(ls, "\nshop_front ") || !strings.Contains(ls, "\nshop_back ") || strings.Contains(ls, "docker-") {
		t.Errorf("Docker's names are not shown:\n%s", ls)
	}

	l.oneContainer(back)

	// Other ports: the container is made anew with its address.
	write(strings.Replace(composeFile, `"18081:80"`, `"18083:80"`, 1))
	l.compose(dir, "up", "-d")
	l.served(l.world.Outside, netlab.HostAddr+":18083")
	if _, err := l.fetch(l.world.Outside, netlab.HostAddr+":18081"); err == nil {
		t.Error("the port of before is still published")
	}
	l.compose(dir, "restart", "--timeout", "0")
	l.served(l.world.Outside, netlab.HostAddr+":18083")
	l.compose(dir, "down", "--timeout", "0")
	l.nothingLeft()
}

// words expects what Compose says to find containers.
func (l *dockerLab) words() {
	l.t.Helper()
	for word, want := range map[string]int{
		"service:web": 1, "web": 1, "shop": 1, "service:shop": 1, "project:shop": 2, "db": 1, "label:com.docker.compose.project=shop": 2,
		"shop_web_1/eth1": 1, "label:com.docker.compose.service=db": 1,
	} {
		if list := decode[[]api.Container](l.rig, "ps", word); len(list) != want {
			l.t.Errorf("%s finds %d containers, want %d: %+v", word, len(list), want, list)
		}
		l.must("capture", word, "--duration", "10ms")
		l.must("flows", word)
		l.must("nat", "ls", "--container", word)
	}
	for word, want := range map[string]int{"shop_web_1": 2, "shop_web_1/eth1": 1, "project:shop": 3} {
		if ports := decode[api.Stats](l.rig, "stats", word).Ports; len(ports) != want {
			l.t.Errorf("stats %s: %+v", word, ports)
		}
	}
	l.must("why", "service:db", "docker:shop_web_1:80")
	if _, errs, code := l.vswitch("inspect", "project:shop"); code == 0 || !strings.Contains(errs, "shop_db_1 or shop_web_1") {
		l.t.Errorf("inspect project:shop: %d, %s", code, errs)
	}
	events := l.must("events", "--since", "1h", "--follow=false")
	for _, line := range []string{"container shop_web_1 attached", "container shop_web_1 joined network shop_"} {
		if !strings.Contains(events, line) {
			l.t.Errorf("no %q among events:\n%s", line, events)
		}
	}
	if strings.Contains(events, "network docker-") {
		l.t.Errorf("events call networks by Docker's IDs:\n%s", events)
	}
	if web := l.must("events", "service:web", "--since", "1h", "--follow=false"); strings.Contains(web, "shop_db_1") || !strings.Contains(web, "shop_web_1") {
		l.t.Errorf("events of web:\n%s", web)
	}
}

// oneContainer expects web, which is in two networks, to be one container to every command.
func (l *dockerLab) oneContainer(back string) {
	l.t.Helper()
	id := l.docker("inspect", "-f", "{{.Id}}", "shop_web_1")
	for _, word := range []string{"shop_web_1", "docker:shop_web_1", back, "10.77.0.10", id, id[:12], l.docker("ps", "-q", "--filter", "name=web")} {
		ct := decode[api.Container](l.rig, "inspect", word)
		if ct.Name != "shop_web_1" || ct.RuntimeID != id || len(ct.Endpoints) != 2 || len(ct.Ports) != 3 {
			l.t.Errorf("%s is %+v", word, ct)
		}
	}
	if list := decode[[]api.Container](l.rig, "ps"); len(list) != 2 {
		l.t.Errorf("%d containers, want 2:\n%s", len(list), l.must("ps"))
	}
	network := l.docker("network", "inspect", "-f", "{{.Id}}", "shop_back")
	for _, word := range []string{"shop_back", network, network[:12], "docker-" + network[:12]} {
		if list := decode[[]api.Container](l.rig, "ps", "--network", word); len(list) != 2 {
			l.t.Errorf("in %s: %+v", word, list)
		}
	}
	l.must("run", "--network", "shop_back", "--", "true")
	l.must("capture", "network:shop_back", "--duration", "10ms")
	for _, target := range []string{"shop_web_1", "shop_web_1/eth1", back} {
		l.must("capture", target, "--duration", "10ms")
	}
	if out := l.must("ps") + l.must("stats") + l.must("fdb") + l.must("inspect", "shop_web_1") + l.must("events", "--since", "1h", "--follow=false"); strings.Contains(out, "shop_web_1.shop") {
		l.t.Errorf("a piece has a name of its own:\n%s", out)
	}
	if ports := decode[api.Stats](l.rig, "stats", "shop_web_1").Ports; len(ports) != 2 {
		l.t.Errorf("ports of web: %+v", ports)
	}
	for _, why := range [][]string{{"shop_web_1", netlab.OutsideAddr + ":80"}, {"shop_db_1", "shop_web_1:80"}, {"shop_web_1", "shop_db_1:80"}} {
		if out, errs, code := l.vswitch(append([]string{"why"}, why...)...); code != 0 {
			l.t.Errorf("why %v: %s%s", why, out, errs)
		}
	}
	l.words()
	for args, way := range map[string]string{"detach shop_web_1": "docker rm -f shop_web_1", "network rm shop_back": "docker network rm shop_back"} {
		if _, errs, code := l.vswitch(strings.Fields(args)...); code == 0 || !strings.Contains(errs, way) {
			l.t.Errorf("%s: %d, %s", args, code, errs)
		}
	}
	// Both interfaces carry frames, and each is named.
	l.get("shop_db_1", back)
	l.served(l.world.Outside, netlab.HostAddr+":18081")
	l.docker("exec", "-d", "shop_db_1", "sh", "-c", "sleep 30 | nc "+back+" 80") // what both ends have closed is not told
	c, err := l.world.Outside.Dial("tcp", netlab.HostAddr+":18081", 5*time.Second)
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	if !eventually(func() bool { return strings.Count(l.must("flows", "shop_web_1"), "shop_web_1") >= 2 }) {
		l.t.Errorf("flows of web:\n%s", l.must("flows", "shop_web_1"))
	}
}
