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
