package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// soonServed waits for a page.
func (l *dockerLab) soonServed(addr string) {
	l.t.Helper()
	if !eventually(func() bool {
		got, err := l.fetch(l.world.Outside, addr)
		return err == nil && strings.TrimSpace(got) == containerPage
	}) {
		l.t.Errorf("no page at %s:\n%s", addr, l.must("port", "ls"))
	}
}

// soonTold waits for an event.
func (l *dockerLab) soonTold(text string) {
	l.t.Helper()
	if !eventually(func() bool { return strings.Contains(l.must("events", "--since", "1h", "--follow=false"), text) }) {
		l.t.Errorf("no %q among events:\n%s", text, l.must("events", "--since", "1h", "--follow=false"))
	}
}

// TestDockerPortsByHand: a port that somebody adds to a container of Docker's is bound to Docker's
// ID of it: it comes back with each start, and is not that of the next container of the name.
func TestDockerPortsByHand(t *testing.T) {
	l := newDockerLab(t)
	const own, added = netlab.HostAddr + ":18081", netlab.HostAddr + ":18085"
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.99.0.0/24", "net")
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.98.0.0/24", "other")
	l.up("web", "net", "-p", "18081:80")
	l.named("web")
	l.must("port", "add", "web", "18085:80")
	byHand := func() (list []string) {
		for _, p := range decode[api.Container](l.rig, "inspect", "web").Ports {
			if p.ByHand {
				list = append(list, hostSide(p))
			}
		}
		return list
	}
	check := func(after string) {
		t.Helper()
		l.soonServed(own)
		l.soonServed(added)
		if list := byHand(); len(list) != 1 || list[0] != "18085" {
			t.Errorf("after %s, added by hand: %v", after, list)
		}
		if out := l.must("port", "ls", "web"); strings.Count(out, " yes") != 1 {
			t.Errorf("after %s:\n%s", after, out)
		}
	}
	check("port add")
	l.docker("restart", "-t", "0", "web")
	check("docker restart")
	// With the way out, and away for longer than the daemon.
	l.docker("network", "connect", "other", "web")
	l.docker("network", "disconnect", "net", "web")
	l.soonTold("container web joined network other with 10.98.0.2/24")
	l.soonTold("container web left network net")
	check("docker network disconnect")
	l.docker("stop", "-t", "0", "web")
	l.daemon.Process.Kill()
	l.daemon.Wait()
	l.start()
	l.docker("start", "web")
	check("docker start")

	// A port that is held by then is not forgotten.
	l.docker("stop", "-t", "0", "web")
	busy, err := l.world.Host.Listen("tcp", ":18085")
	if err != nil {
		t.Fatal(err)
	}
	l.docker("start", "web")
	l.soonTold("container web: 18085:80/tcp, added by hand, not published again: ")
	busy.Close()
	l.docker("restart", "-t", "0", "web")
	check("a program held it")

	l.docker("rm", "-f", "web")
	l.up("web", "net", "-p", "18081:80")
	l.soonServed(own)
	l.soonTold("added by hand, not published again: the container is another one by now")
	if list := byHand(); len(list) > 0 {
		t.Errorf("of another container: %v", list)
	}
	// What is taken away by hand stays away.
	l.must("port", "add", "web", "18085:80")
	check("port add")
	l.must("port", "rm", "web", "18085:80")
	l.docker("restart", "-t", "0", "web")
	l.soonServed(own)
	l.named("web")
	if list := byHand(); len(list) > 0 {
		t.Errorf("after port rm: %v", list)
	}
	l.docker("rename", "web", "shop")
	l.soonTold("container web is called shop now")
	l.docker("rm", "-f", "shop")
	l.soonTold("container shop detached: released by docker")
	l.docker("network", "rm", "net", "other")
	l.soonTold("network other removed")
	l.nothingLeft()
}

// TestDockerPools: of a network whose addresses Docker gives out others take the ones that it
// gives out last; one of the switch's Docker may have as well with our IPAM driver only.
func TestDockerPools(t *testing.T) {
	l := newDockerLab(t)
	l.docker("network", "create", "-d", "vswitch", "--subnet", "10.99.0.0/28", "net")
	if !eventually(func() bool { _, _, code := l.vswitch("network", "inspect", "net"); return code == 0 }) {
		t.Fatalf("no name:\n%s", l.must("network", "ls"))
	}
	hand := labtest.New(t, "hand")
	l.must("attach", "hand", "--netns", hand.Path())
	l.must("network", "connect", "net", "hand")
	l.must("run", "--network", "net", "--", "true")
	addrs := make(map[string]string)
	for _, name := range []string{"one", "two", "three"} {
		l.up(name, "net")
		addrs[name] = l.named(name).Endpoints[0].Address
	}
	if addrs["one"] != "10.99.0.2/28" || addrs["three"] != "10.99.0.4/28" {
		t.Errorf("Docker's: %v", addrs)
	}
	for _, e := range decode[api.Container](l.rig, "inspect", "hand").Endpoints {
		if e.Network == "net" && e.Address != "10.99.0.14/28" {
			t.Errorf("by hand: %s", e.Address)
		}
	}
	l.wantGet("one", "10.99.0.3", containerPage)
	l.served(hand, "10.99.0.4")

	l.must("network", "create", "yard", "--subnet", "10.31.0.0/24")
	asked := "network create -d vswitch -o org.vswitch.network=yard --subnet 10.31.0.0/24"
	_, err := l.dockerOut(strings.Fields(asked + " yard")...)
	if err == nil {
		t.Fatal("two give out the addresses of yard")
	}
	_, way, ok := strings.Cut(strings.Join(strings.Fields(err.Error()), " "), ": add ")
	if way, _, _ = strings.Cut(way, "=yard"); !ok {
		t.Fatal(err)
	}
	l.docker(strings.Fields(asked + " " + way + "=yard yard")...)
	l.up("guest", "yard")
	l.must("network", "connect", "yard", "hand")
	// The way out that a refusal names is Docker's own.
	_, errs, code := l.vswitch("detach", "one")
	if way := regexp.MustCompile(`docker (rm -f \S+),`).FindStringSubmatch(errs); code == 0 || way == nil {
		t.Errorf("detach of Docker's: code %d, %s", code, errs)
	} else {
		l.docker(strings.Fields(way[1])...)
	}
	l.docker("rm", "-f", "two", "three", "guest")
	l.must("detach", "hand")
	_, errs, code = l.vswitch("network", "rm", "net")
	if way := regexp.MustCompile(`docker (network rm \S+),`).FindStringSubmatch(errs); code == 0 || way == nil {
		t.Errorf("removal of Docker's network: code %d, %s", code, errs)
	} else {
		l.docker(strings.Fields(way[1])...)
	}
	l.docker("network", "rm", "yard")
	l.must("network", "rm", "yard")
	l.nothingLeft()
}
