package control

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// What the host forwards for others passes, although a container has published
// the port it goes to (CVE-2025-67499).
func TestC07TransitThroughTheHost(t *testing.T) {
	r := newRig(t)
	h, lan := r.world.Host, labtest.New(t, "lan")
	err := errors.Join(
		netlab.Veth(h, "eth1", lan, "eth0", 1500),
		h.AddAddr("eth1", "198.51.101.1/24"), lan.AddAddr("eth0", "198.51.101.9/24"), h.SetUp("eth1"), lan.SetUp("eth0"),
		lan.AddRoute("default", "198.51.101.1", "eth0"),
		r.world.Outside.AddRoute("198.51.101.0/24", netlab.HostAddr, "eth0"),
	)
	if err != nil {
		t.Fatal(err)
	}
	sysctl(t, h, "ipv4/ip_forward", "1")
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"53:53/udp", "8080:80"}})
	listenUDP(t, web, ":53", "web")
	serve(t, web, ":80", "web")
	listenUDP(t, lan, ":53", "lan")
	listenUDP(t, r.world.Outside, ":53", "outside")
	serve(t, lan, ":8080", "lan")
	for _, tc := range []struct {
		from     *netlab.NS
		at, want string
	}{
		{r.world.Outside, "198.51.101.9:53", "lan"},
		{lan, netlab.OutsideAddr + ":53", "outside"},
		{web, netlab.OutsideAddr + ":53", "outside"},
		{h, netlab.OutsideAddr + ":53", "outside"},
		{r.world.Outside, netlab.HostAddr + ":53", "web"},
	} {
		wantUDP(t, tc.from, tc.at, tc.want)
	}
	wantFetch(t, r.world.Outside, "198.51.101.9:8080", "lan", netlab.OutsideAddr)
}

// A port of one of the host's addresses wins over the same port of all, in
// whichever order they were published and while either comes and goes
// (CVE-2019-9946).
func TestC08SpecificAddress(t *testing.T) {
	for _, order := range [][]string{{"all", "one"}, {"one", "all"}} {
		t.Run(strings.Join(order, " "), func(t *testing.T) {
			r := newRig(t)
			if err := r.world.Host.AddAddr("eth0", "198.51.100.2/24"); err != nil {
				t.Fatal(err)
			}
			r.start()
			rule := map[string]string{"all": "8080:80", "one": netlab.HostAddr + ":8080:80"}
			for _, name := range order {
				ns, _ := r.attach(name, api.Attach{Publish: []string{rule[name]}})
				serve(t, ns, ":80", name)
			}
			check := func(first string) {
				t.Helper()
				wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", first, netlab.OutsideAddr)
				wantFetch(t, r.world.Outside, "198.51.100.2:8080", "all", netlab.OutsideAddr)
				wantFetch(t, r.world.Host, netlab.HostAddr+":8080", first, "")
				wantFetch(t, r.world.Host, "127.0.0.1:8080", "all", "")
			}
			check("one")
			if err := r.Unpublish(t.Context(), "one", []string{rule["one"]}); err != nil {
				t.Fatal(err)
			}
			check("all")
			if _, err := r.Publish(t.Context(), "one", []string{rule["one"]}); err != nil {
				t.Fatal(err)
			}
			check("one")
			if _, err := r.Publish(t.Context(), "one", []string{"8080:80"}); !client.IsConflict(err) {
				t.Errorf("twice for all addresses: %v", err)
			}
			if l, err := r.world.Host.Listen("tcp", "198.51.100.2:8080"); err == nil {
				l.Close()
				t.Error("a program got a published port")
			}
		})
	}
}

// The container sees who its client is, never loopback; another container shows
// the host's address, by which it came (CVE-2021-20199).
func TestC09ClientAddress(t *testing.T) {
	r := newRig(t)
	r.start()
	web, ct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	db, dbct := r.attach("db", api.Attach{})
	serve(t, web, ":80", "web")
	wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
	wantFetch(t, db, netlab.HostAddr+":8080", "web", netlab.HostAddr)
	wantFetch(t, web, netlab.HostAddr+":8080", "web", netlab.HostAddr)
	wantFetch(t, db, addr(ct)+":80", "web", addr(dbct))
	wantFetch(t, r.world.Host, addr(ct)+":80", "web", "10.88.0.1")
	wantFetch(t, r.world.Host, "127.0.0.1:8080", "web", "10.88.0.1")
	wantFetch(t, r.world.Host, netlab.HostAddr+":8080", "web", "10.88.0.1")
}

// A published port leads to the container's address, not to its loopback
// (podman#24045).
func TestC10ContainersLoopback(t *testing.T) {
	r := newRig(t)
	r.start()
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80", "5000:5000/udp"}})
	db, _ := r.attach("db", api.Attach{})
	serve(t, web, "127.0.0.1:80", "web")
	d := listenUDP(t, web, "127.0.0.1:5000", "web")
	if _, err := fetch(r.world.Outside, netlab.HostAddr+":8080"); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("from outside: %v, want connection refused", err)
	}
	for _, from := range []*netlab.NS{r.world.Outside, r.world.Host, db} {
		for _, at := range []string{netlab.HostAddr, "127.0.0.1"} {
			if got, err := fetchFast(from, at+":8080"); err == nil && got != "" {
				t.Errorf("%s reaches it by %s: %s", from.Name(), at, got)
			}
			if got := askUDP(from, at+":5000"); got != "" {
				t.Errorf("%s reaches UDP by %s: %s", from.Name(), at, got)
			}
		}
	}
	if d.count() != 0 {
		t.Errorf("%d datagrams arrived on loopback", d.count())
	}
}

// Only what is an address of the host can be published on; a tenant cannot take
// others' traffic (CVE-2020-8554).
func TestC21ForeignAddress(t *testing.T) {
	r := newRig(t)
	r.start()
	_, ct := r.attach("web", api.Attach{})
	for _, a := range []string{
		netlab.OutsideAddr, netlab.FarAddr, "198.51.100.255", "10.88.0.77", addr(ct), "224.0.0.1", "255.255.255.255", "192.0.2.1",
		"[2001:db8::77]", "[fe80::1]", "[ff02::1]", "[::ffff:203.0.113.9]",
	} {
		if got, err := r.Publish(t.Context(), "web", []string{a + ":8080:80"}); !isInvalid(err) {
			t.Errorf("publish on %s: %+v, %v", a, got, err)
		}
	}
	if p, err := r.Ports(t.Context(), "web"); err != nil || len(p) != 0 {
		t.Errorf("published after refusals: %+v, %v", p, err)
	}
}

// Names are no paths, no format strings and no more than an interface's name may
// be (CVE-2021-20206).
func TestC20Names(t *testing.T) {
	r := newRig(t)
	r.start()
	ns, ctx := labtest.New(t, "web"), t.Context()
	bad := []string{
		"../x", "a/b", "/etc/passwd", "..", ".", "a\x00b", "a\nb", strings.Repeat("x", 64), "wéb", "%n", "%s%s", "a b", "-a", "a;b", "$(id)", "\u202e", "a\u0000",
	}
	for _, name := range bad {
		if _, err := r.Attach(ctx, api.Attach{Name: name, Netns: ns.Path()}); !isInvalid(err) {
			t.Errorf("attach %q: %v", name, err)
		}
		if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: name}); !isInvalid(err) {
			t.Errorf("network %q: %v", name, err)
		}
	}
	for _, ifname := range []string{"../x", "a/b", "eth%d", "sixteen-letters-", strings.Repeat("x", 300), "a b", ".", "..", "lo", "all", "default", "e\x00", "é"} {
		in := api.Attach{Name: "web", Netns: ns.Path(), Networks: []api.Connect{{Network: "bridge", Ifname: ifname}}}
		if _, err := r.Attach(ctx, in); !isInvalid(err) {
			t.Errorf("interface %q: %v", ifname, err)
		}
	}
	if l, err := ns.Links(); err != nil || len(l) != 1 {
		t.Errorf("links after refusals: %v, %v", l, err)
	}
	if n, err := r.Networks(ctx); err != nil || len(n) != 1 {
		t.Errorf("networks after refusals: %+v, %v", n, err)
	}
}

// After a restart, by SIGTERM and by kill -9, everything is as it was: ports and
// ranges, subnets that were chosen by the daemon and by the user, and what is
// empty stays empty.
func TestC44Restart(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	for _, in := range []api.NetworkCreate{{Name: "chosen", Subnet: "10.7.0.0/24", Gateway: "10.7.0.254"}, {Name: "given"}, {Name: "other"}} {
		if _, err := r.CreateNetwork(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.RemoveNetwork(ctx, "other"); err != nil { // its subnet is free again
		t.Fatal(err)
	}
	web, _ := r.attach("web", api.Attach{
		Networks: []api.Connect{{Network: "given"}},
		Publish:  []string{"8080:80", "127.0.0.1:8600:80", "7000-7010:7000-7010/udp", "10000-20000:10000-20000", "90"},
	})
	bare, _ := r.attach("bare", api.Attach{Networks: []api.Connect{{Network: "chosen"}}, Publish: []string{}})
	serve(t, web, ":80", "web")
	serve(t, web, ":15000", "range")
	serve(t, r.world.Outside, ":9000", "outside")
	whole := func() string {
		nets, err := r.Networks(ctx)
		cts, err2 := r.Containers(ctx)
		ports, err3 := r.Ports(ctx, "web")
		none, err4 := r.Ports(ctx, "bare")
		if err := errors.Join(err, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%+v\n%+v\n%+v\n%+v", nets, cts, ports, none)
	}
	before := whole()
	for _, end := range []func(){r.stop, r.kill, r.stop} {
		end()
		r.start()
		if after := whole(); after != before {
			t.Fatalf("after a restart\n%s\nbefore\n%s", after, before)
		}
		wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "web", netlab.OutsideAddr)
		wantFetch(t, r.world.Outside, netlab.HostAddr+":15000", "range", netlab.OutsideAddr)
		wantFetch(t, r.world.Host, "127.0.0.1:8600", "web", "")
		wantFetch(t, bare, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr)
		if l, err := r.world.Host.Listen("tcp", net.JoinHostPort(netlab.HostAddr, "8080")); err == nil {
			l.Close()
			t.Error("a program got a published port after the restart")
		}
	}
}

// A network made without host access keeps its containers from the host's
// services, and from nothing else; in the default network they are reached.
func TestC11HostAccess(t *testing.T) {
	r := newRig(t)
	r.start()
	no := false
	if n, err := r.CreateNetwork(t.Context(), api.NetworkCreate{Name: "tight", Subnet: "10.7.0.0/24", HostAccess: &no}); err != nil || n.HostAccess {
		t.Fatalf("%+v, %v", n, err)
	}
	on := []api.Connect{{Network: "tight"}}
	a, act := r.attach("a", api.Attach{Networks: on, Publish: []string{"8080:80"}})
	b, bct := r.attach("b", api.Attach{Networks: on})
	c, cct := r.attach("c", api.Attach{})
	serve(t, a, ":80", "a")
	serve(t, r.world.Host, ":7000", "host")
	serve(t, r.world.Outside, ":9000", "outside")
	d := listenUDP(t, r.world.Host, ":7001", "host")
	check := func() {
		t.Helper()
		for _, at := range []string{"10.7.0.1", "10.88.0.1", netlab.HostAddr} {
			if got, err := fetchFast(b, at+":7000"); err == nil {
				t.Errorf("b reaches the host at %s: %s", at, got)
			}
			if got := askUDP(b, at+":7001"); got != "" {
				t.Errorf("b reaches the host's UDP at %s: %s", at, got)
			}
		}
		if d.count() != 0 {
			t.Errorf("%d datagrams reached the host", d.count())
		}
		wantFetch(t, b, addr(act)+":80", "a", addr(bct))
		wantFetch(t, b, netlab.HostAddr+":8080", "a", netlab.HostAddr)
		wantFetch(t, b, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr)
		wantFetch(t, r.world.Outside, netlab.HostAddr+":8080", "a", netlab.OutsideAddr)
		wantFetch(t, r.world.Host, addr(act)+":80", "a", "10.7.0.1")
		wantFetch(t, r.world.Host, "127.0.0.1:8080", "a", "10.7.0.1")
		wantFetch(t, c, "10.88.0.1:7000", "host", addr(cct))
	}
	check()
	r.stop()
	r.start()
	check()
}
