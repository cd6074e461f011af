package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// wantPorts expects published ports, as vswitch port ls writes them.
func (l *dockerLab) wantPorts(name string, want ...string) {
	l.t.Helper()
	var got []string
	for _, p := range decode[api.Container](l.rig, "inspect", name).Ports {
		host := fmt.Sprint(p.HostPort)
		if p.HostPort >= 32768 {
			host = "*"
		}
		if p.HostPortEnd > p.HostPort {
			host += fmt.Sprint("-", p.HostPortEnd)
		}
		if p.HostIP != "" {
			host = p.HostIP + ":" + host
		}
		got = append(got, fmt.Sprintf("%s->%d/%s", host, p.Port, p.Proto))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		l.t.Errorf("ports of %s: %v, want %v", name, got, want)
	}
}

// named waits until the switch knows a container by the name that Docker has.
func (l *dockerLab) named(name string) api.Container {
	l.t.Helper()
	if !eventually(func() bool { _, _, code := l.vswitch("inspect", name); return code == 0 }) {
		l.t.Fatalf("the switch does not know %s:\n%s", name, l.must("ps"))
	}
	return decode[api.Container](l.rig, "inspect", name)
}

func (l *dockerLab) served(from *netlab.NS, addr string) {
	l.t.Helper()
	got, err := l.fetch(from, addr)
	if strings.TrimSpace(got) != containerPage || err != nil {
		l.t.Errorf("page of %s from %s: %q, %v", addr, from.Name(), got, err)
	}
}

// nothingLeft expects the switch as it was before Docker came.
func (l *dockerLab) nothingLeft() {
	l.t.Helper()
	if list := decode[[]api.Container](l.rig, "ps"); len(list) > 0 {
		l.t.Errorf("left: %+v", list)
	}
	if list := decode[[]api.Network](l.rig, "network", "ls"); len(list) > 1 {
		l.t.Errorf("left: %+v", list)
	}
	if !eventually(func() bool {
		links, _ := l.world.Host.Links()
		return !slices.ContainsFunc(links, func(s string) bool { return strings.HasPrefix(s, "veth") || strings.HasPrefix(s, "wait") })
	}) {
		links, _ := l.world.Host.Links()
		l.t.Errorf("links left: %v", links)
	}
}

// TestDockerRun starts containers in all the ways that ask something of a driver.
func TestDockerRun(t *testing.T) {
	l := newDockerLab(t)
	l.site(l.world.Outside, netlab.FarAddr)
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.99.0.0/24", "--aux-address", "host=10.99.0.2",
		"-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.bridge.name=net0", "net")
	l.up("web", "net", "-p", "18081:80", "-p", "127.0.0.1:18082:80", "-p", "53:53/udp", "-p", "9000-9003:9000-9003", "-p", "18090-18099:80", "-p", "443")
	l.up("db", "net", "--ip", "10.99.0.77", "--mac-address", "02:00:00:00:00:77", "-P")

	web, db := l.named("web"), l.named("db")
	if e := web.Endpoints[0]; web.Runtime != api.RuntimeDocker || e.Address != "10.99.0.3/24" || e.MTU != 1400 || e.Interface != "eth0" {
		t.Errorf("web is %+v", web)
	}
	if e := db.Endpoints[0]; e.Address != "10.99.0.77/24" || e.MAC != "02:00:00:00:00:77" {
		t.Errorf("db is %+v", db)
	}
	l.wantPorts("web", "18081->80/tcp", "127.0.0.1:18082->80/tcp", "53->53/udp", "9000-9003->9000/tcp", "18090->80/tcp", "*->443/tcp")
	l.wantPorts("db", "*->80/tcp")
	l.served(l.world.Outside, netlab.HostAddr+":18081")
	l.served(l.world.Outside, netlab.HostAddr+":18090")
	l.served(l.world.Host, "127.0.0.1:18081")
	l.served(l.world.Host, "127.0.0.1:18082")
	l.served(l.world.Host, "10.99.0.77")
	l.wantGet("web", "10.99.0.77", containerPage)
	l.wantGet("db", "10.99.0.3", containerPage)
	l.wantGet("web", netlab.FarAddr, netlab.HostAddr)
	if out := l.docker("exec", "db", "nslookup", "web", "127.0.0.11"); !strings.Contains(out, "10.99.0.3") {
		t.Errorf("names: %s", out)
	}
	l.docker("rm", "-f", "web", "db")
	l.docker("network", "rm", "net")
	l.nothingLeft()
}

// TestDockerNetworks has networks of every kind, and containers that join and
// leave them while they run.
func TestDockerNetworks(t *testing.T) {
	l := newDockerLab(t)
	l.site(l.world.Outside, netlab.FarAddr)
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.99.0.0/24", "net")
	l.docker("network", "create", "-d", "vswitch", "--internal", "--subnet", "10.98.0.0/24", "inside")
	l.docker("network", "create", "-d", "vswitch", "--ipv6", "--subnet", "10.97.0.0/24", "--subnet", "fd00:97::/64",
		"-o", "org.vswitch.routes=10.5.0.0/16=10.97.0.9", "six")
	l.docker("network", "create", "-d", "vswitch", "--ipam-driver", "vswitch", "auto")
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.96.0.0/24", "-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated", "iso")

	if !eventually(func() bool {
		ns := decode[[]api.Network](l.rig, "network", "ls")
		return slices.ContainsFunc(ns, func(n api.Network) bool { return n.Name == "inside" })
	}) {
		t.Errorf("networks without a container have no names:\n%s", l.must("network", "ls"))
	}
	l.up("web", "net", "-p", "18081:80")
	l.up("in", "inside")
	l.up("six", "six", "-p", "18086:80")
	l.up("auto", "auto")
	l.up("iso", "iso")
	route := func(name string) string { return l.docker("exec", name, "ip", "route") }
	if out := route("in"); strings.Contains(out, "default") {
		t.Errorf("an internal network has a way out: %s", out)
	}
	if out := route("iso"); strings.Contains(out, "default") {
		t.Errorf("an isolated network has a way out: %s", out)
	}
	if out := route("six"); !strings.Contains(out, "10.5.0.0/16 via 10.97.0.9") || !strings.Contains(out, "default via 10.97.0.1") {
		t.Errorf("routes of six: %s", out)
	}
	if out := l.docker("exec", "six", "ip", "-6", "route"); !strings.Contains(out, "default via fd00:97::1") {
		t.Errorf("IPv6 routes of six: %s", out)
	}
	l.served(l.world.Host, "[fd00:97::2]")
	l.served(l.world.Outside, netlab.HostAddr+":18086")
	l.served(l.world.Outside, "["+netlab.HostAddr6+"]:18086")
	l.named("auto")
	if e := l.named("auto").Endpoints[0]; e.Address != "10.88.1.2/24" {
		t.Errorf("an address of the switch's own pool: %+v", e)
	}
	if got, err := l.get("web", "10.98.0.2"); err == nil {
		t.Errorf("another network is reached: %q", got)
	}

	// Joined, web reaches what is inside; left, it does not, and keeps its port.
	l.docker("network", "connect", "inside", "web")
	l.wantGet("web", "10.98.0.2", containerPage)
	l.wantGet("in", "10.98.0.3", containerPage)
	l.served(l.world.Outside, netlab.HostAddr+":18081")
	l.named("web.inside")
	l.docker("network", "disconnect", "inside", "web")
	if got, err := l.get("web", "10.98.0.2"); err == nil {
		t.Errorf("a network that was left is reached: %q", got)
	}
	// The port moves with the way out.
	l.docker("network", "connect", "auto", "web")
	l.docker("network", "disconnect", "net", "web")
	l.served(l.world.Outside, netlab.HostAddr+":18081")
	l.wantGet("web", netlab.FarAddr, netlab.HostAddr)
	// Its only endpoint has its name alone.
	if !eventually(func() bool {
		ct := decode[[]api.Container](l.rig, "ps")
		return slices.ContainsFunc(ct, func(ct api.Container) bool { return ct.Name == "web" && ct.Endpoints[0].Address == "10.88.1.3/24" })
	}) {
		t.Errorf("no web in network auto:\n%s", l.must("ps"))
	}

	l.docker("rm", "-f", "web", "in", "six", "auto", "iso")
	l.docker("network", "rm", "net", "inside", "six", "auto", "iso")
	l.nothingLeft()
}

// TestDockerRefused: Docker's user is told why in one line, and nothing stays.
func TestDockerRefused(t *testing.T) {
	l := newDockerLab(t)
	busy, err := l.world.Host.Listen("tcp", ":18081")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.99.0.0/24", "net")
	for _, tc := range []struct{ args, want string }{
		{"run -d --network net -p 18081:80 " + dockerImage, "port 18081/tcp is held by"},
		{"run -d --network net -p 203.0.113.77:80:80 " + dockerImage, "203.0.113.77 is not one of the host"},
		{"network create -d vswitch --subnet 10.99.0.0/25 other", "overlaps"},
		{"network create -d vswitch --subnet 198.51.100.0/25 other", "overlaps route"},
		{"network create -d vswitch -o com.example.foo=bar other", "option com.example.foo is not known"},
		{"network create -d vswitch --ipam-driver vswitch --ipam-opt foo=bar other", "ipam option foo is not known"},
		{"network create -d vswitch --ipam-driver vswitch --ipam-opt org.vswitch.network=bridge other", "give it as --subnet 10.88.0.0/24"},
		{"network create -d vswitch -o com.docker.network.bridge.name=eth0 other", "eth0 exists on the host already"},
	} {
		out, err := l.dockerOut(strings.Fields(tc.args)...)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("docker %s: %s, %v, want %q", tc.args, out, err, tc.want)
		}
	}
	// What failed to start holds no address and no port.
	l.up("web", "net", "-p", "18082:80")
	if e := l.named("web").Endpoints[0]; len(decode[[]api.Container](l.rig, "ps")) != 1 {
		t.Errorf("more than web (%+v) is attached:\n%s", e, l.must("ps"))
	}
	l.docker("rm", "-f", "web")
	l.docker("network", "rm", "net")
	l.nothingLeft()
}
