package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/doctest"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// hookSpec makes what runc starts out of what it proposes: a container that serves a page with
// its name on port 80, in the networks and with the ports of its annotations, by the hook.
const hookSpec = `python3 - %[1]s '%[2]s' '%[3]s' <<'END'
import json, sys
name, networks, ports = sys.argv[1:]
spec = json.load(open("/run/spec/config.json"))
spec["process"].update(terminal=False, args=["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/www/" + name])
spec["root"]["path"] = "/run/image"
spec["annotations"] = {"networks": networks, "ports": ports}
spec["hooks"] = {event: [{"path": "/run/cnihook.bin", "args": ["cnihook", event], "env": ["PATH=" + %[4]q]}] for event in ("createRuntime", "poststop")}
json.dump(spec, open("/run/spec/%%s.json" %% name, "w"))
END
mkdir -p /run/image/www/%[1]s; echo %[1]s >/run/image/www/%[1]s/index.html`

// nerdctl's hook listens on the ports that it asks for, by a process that has ended when
// somebody looks; its heir keeps them, also for the daemon's next process. Whoever else has
// a port is in the way.
func TestNerdctlsHook(t *testing.T) {
	labtest.NeedBPF(t)
	for _, p := range []string{"containerd", "ctr", "runc", "busybox", "python3", "curl", "unshare", "bash", "ip", "go"} {
		labtest.NeedProgram(t, p)
	}
	keepCgroups(t)
	bin := t.TempDir()
	tools(t, bin)
	build := exec.Command("go", "build", "-buildvcs=false", "-o", filepath.Join(bin, "cnihook.bin"), ".")
	build.Dir, build.Env = filepath.Join("..", "..", "internal", "cnihook"), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build cnihook: %v: %s", err, out)
	}
	world := labtest.NewWorld(t)
	s := doctest.Start(t, world.Host, "/etc", "/opt", "/var/lib", "/run")
	s.Must(fmt.Sprintf("export HOME=/root TERM=dumb PATH=%s:$PATH; unset VSWITCH_SOCKET", bin))
	s.Must(`install -D -m 755 "$(command -v vswitch)" /opt/cni/bin/vswitch
		install -m 755 ` + filepath.Join(bin, "cnihook.bin") + ` /run/cnihook.bin
		start() { vswitch daemon --uplink eth0 2>>/run/daemon.log & daemon=$!; for i in $(seq 1200); do vswitch ps >/dev/null 2>&1 && return; sleep 0.05; done; return 1; }
		start`)
	t.Cleanup(func() {
		if log, code := s.Do("kill $daemon; wait $daemon; code=$?; cat /run/daemon.log; vswitch down >/dev/null; (exit $code)"); code != 0 || t.Failed() {
			t.Errorf("the daemon ended with code %d:\n%s", code, log)
		}
	})
	s.Must(engines + `
		containerd --config /run/containerd/config.toml >/run/containerd/log 2>&1 &
		for i in $(seq 1200); do ctr version >/dev/null 2>&1 && break; sleep 0.05; done
		ctr version >/dev/null
		mkdir -p /etc/cni/net.d /run/spec /run/image/bin /run/image/proc /run/image/sys /run/image/dev
		cp "$(command -v busybox)" /run/image/bin/busybox
		for n in 1 2; do cat >/etc/cni/net.d/net$n.conflist <<END
{"cniVersion": "1.0.0", "name": "net$n", "plugins": [{"type": "vswitch", "subnet": "10.2$n.0.0/24", "capabilities": {"portMappings": true}}]}
END
		done
		cd /run/spec; runc spec; cd /`)
	path := os.Getenv("PATH")
	spec := func(name, networks, ports string) { s.Must(fmt.Sprintf(hookSpec, name, networks, ports, path)) }
	reached := func(when string, port int, name string) {
		t.Helper()
		wantPage(t, world.Outside, fmt.Sprintf("%s:%d", netlab.HostAddr, port), when, name)
		if out, code := s.Do(fmt.Sprintf("curl -s --max-time 10 127.0.0.1:%d", port)); code != 0 || strings.TrimSpace(out) != name {
			t.Errorf("%s: the host at port %d: %q, code %d", when, port, out, code)
		}
	}

	// Two services on one network, one of them on another one too; two protocols.
	spec("web", "net1,net2", `[{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"},{"HostPort":8053,"ContainerPort":53,"Protocol":"udp","HostIP":"0.0.0.0"}]`)
	spec("shop", "net1", `[{"HostPort":8081,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"},{"HostPort":8082,"ContainerPort":80,"Protocol":"tcp","HostIP":"127.0.0.1"}]`)
	s.Must("ctr run --detach --config /run/spec/web.json web")
	s.Must("ctr run --detach --config /run/spec/shop.json shop")
	reached("run", 8080, "web")
	reached("run", 8081, "shop")
	if out := s.Must("ss -Hltnp sport = :8080; ss -Hlunp sport = :8053; vswitch port ls"); !strings.Contains(out, `"sleep"`) || !strings.Contains(out, "8053") {
		t.Errorf("the ports are nobody's who sleeps:\n%s", out)
	}

	// The next daemon knows the sockets, which others have now.
	for _, signal := range []string{"TERM", "KILL"} {
		s.Must("kill -" + signal + " $daemon; wait $daemon; start")
		reached(signal, 8080, "web")
		reached(signal, 8081, "shop")
		if out := s.Must("vswitch port ls; grep -c 'not published again' /run/daemon.log || true"); !strings.Contains(out, "8053") || !strings.HasSuffix(strings.TrimSpace(out), "\n0") {
			t.Errorf("after SIG%s:\n%s", signal, out)
		}
	}

	// Whose socket is further away than the hook's, and not its own, is in the way.
	s.Must("python3 -c 'import socket,time; s = socket.create_server((\"\", 8090)); print(1, flush=True); time.sleep(600)' >/run/listens & listens=$!; until [ -s /run/listens ]; do sleep 0.05; done")
	spec("late", "net2", `[{"HostPort":8090,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"}]`)
	if out, code := s.Do("ctr run --detach --config /run/spec/late.json late 2>&1"); code == 0 || !strings.Contains(out, "port 8090/tcp is held by python3") {
		t.Errorf("a port of a program: code %d\n%s", code, out)
	}
	s.Must("kill $listens; ctr c rm late >/dev/null 2>&1; true")

	// It goes as it came, and its port is free for the next.
	s.Must("ctr task kill -s KILL web; for i in $(seq 100); do ctr task rm web >/dev/null 2>&1 && break; sleep 0.1; done; ctr c rm web")
	if out := s.Must("vswitch ps; ss -Hltn sport = :8080"); strings.Contains(out, "default-web") || strings.Contains(out, "8080") {
		t.Errorf("web was removed:\n%s", out)
	}
	spec("next", "net2", `[{"HostPort":8080,"ContainerPort":80,"Protocol":"tcp","HostIP":"0.0.0.0"}]`)
	s.Must("ctr run --detach --config /run/spec/next.json next")
	reached("the next", 8080, "next")
	s.Must("for c in next shop; do ctr task kill -s KILL $c; for i in $(seq 100); do ctr task rm $c >/dev/null 2>&1 && break; sleep 0.1; done; ctr c rm $c; done")
	if out := s.Must("vswitch ps"); strings.Count(out, "\n") > 1 {
		t.Errorf("all were removed:\n%s", out)
	}
}

// wantPage awaits a page with a name.
func wantPage(t *testing.T, from *netlab.NS, at, when, name string) {
	t.Helper()
	var body []byte
	if !eventually(func() bool {
		c, err := from.Dial("tcp", at, 3*time.Second)
		if err != nil {
			return false
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		body, _ = io.ReadAll(c)
		return strings.HasSuffix(strings.TrimSpace(string(body)), "\n"+name)
	}) {
		t.Errorf("%s: %s at %s gets %q, want %s", when, from.Name(), at, body, name)
	}
}
