package control

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

func yes() *bool { b := true; return &b }
func no() *bool  { b := false; return &b }

// addrsOf are the addresses of a container's first interface, IPv4 first.
func addrsOf(t testing.TB, ct api.Container) (list []string) {
	t.Helper()
	for _, s := range ct.Endpoints[0].Addresses {
		list = append(list, netip.MustParsePrefix(s).Addr().String())
	}
	return list
}

func join(host, port string) string { return net.JoinHostPort(host, port) }

// wantRefused expects the host itself to say no.
func wantRefused(t testing.TB, ns *netlab.NS, at string) {
	t.Helper()
	if got, err := fetch(ns, at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%s fetches %s: %q, %v, want connection refused", ns.Name(), at, got, err)
	}
}

// worldIsUp waits until the IPv6 addresses of the world have passed duplicate
// address detection, which is the kernel's and takes a second.
func worldIsUp(t testing.TB, r *rig) {
	t.Helper()
	serve(t, r.world.Outside, "[::]:9999", "outside")
	eventually(t, "the host reaches the outside by IPv6", func() bool {
		_, err := fetchFast(r.world.Host, join(netlab.OutsideAddr6, "9999"))
		return err == nil
	})
}

func TestDualStack(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	ctx := t.Context()
	n, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "dual", IPv6: yes()})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Subnets) != 2 || n.Subnets[0].Subnet != n.Subnet || n.Subnets[0].Gateway != n.Gateway || n.Subnets[0].Mode != "nat" {
		t.Fatalf("network %+v", n)
	}
	p6 := netip.MustParsePrefix(n.Subnets[1].Subnet)
	if p6.Addr().As16()[0] != 0xfd || p6.Bits() != 64 || n.Subnets[1].Gateway != p6.Addr().Next().String() {
		t.Errorf("IPv6 subnet %+v, want a unique local /64 and its first address", n.Subnets[1])
	}
	on := []api.Connect{{Network: "dual"}}
	web, webCt := r.attach("web", api.Attach{Networks: on, Publish: []string{"8080:80", "5353:53/udp"}})
	// Served at once: the addresses wait for no duplicate address detection.
	serve(t, web, ":80", "web")
	db, dbCt := r.attach("db", api.Attach{Networks: on})
	serve(t, db, ":80", "db")
	serve(t, r.world.Host, ":7000", "host")
	gateways := []string{n.Subnets[0].Gateway, n.Subnets[1].Gateway}
	if d := cmp.Diff(gateways, webCt.Endpoints[0].Gateways); d != "" {
		t.Errorf("gateways (-want +got):\n%s", d)
	}
	check := func() {
		t.Helper()
		for f, at := range [2]struct{ host, outside, far, local string }{
			{netlab.HostAddr, netlab.OutsideAddr, netlab.FarAddr, "127.0.0.1"},
			{netlab.HostAddr6, netlab.OutsideAddr6, netlab.FarAddr6, "::1"},
		} {
			webAddr, dbAddr := addrsOf(t, webCt)[f], addrsOf(t, dbCt)[f]
			wantFetch(t, web, join(dbAddr, "80"), "db", webAddr)
			wantFetch(t, r.world.Host, join(dbAddr, "80"), "db", gateways[f])
			wantFetch(t, web, join(gateways[f], "7000"), "host", webAddr)
			wantFetch(t, web, join(at.outside, "9999"), "outside", at.host)
			wantFetch(t, web, join(at.far, "9999"), "outside", at.host)
			wantFetch(t, r.world.Outside, join(at.host, "8080"), "web", at.outside) // the real client
			wantFetch(t, db, join(at.host, "8080"), "web", at.host)                 // hairpin
			wantFetch(t, web, join(at.host, "8080"), "web", at.host)                // with itself
			wantFetch(t, r.world.Host, join(at.host, "8080"), "web", "")            // relay
			wantFetch(t, r.world.Host, join(at.local, "8080"), "web", "")
		}
	}
	check()
	ports, err := r.Ports(ctx, "web")
	if err != nil || !slices.Equal(ports[0].Addresses, addrsOf(t, webCt)) {
		t.Errorf("ports %+v, %v", ports, err)
	}

	// A second network takes the next /64 of the same /48, which is the state
	// directory's own, and a restart changes nothing.
	want, err := r.Network(ctx, "dual")
	if err != nil {
		t.Fatal(err)
	}
	r.kill()
	r.start()
	got, err := r.Network(ctx, "dual")
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("network after the restart: %v (-want +got):\n%s", err, d)
	}
	if ct, err := r.Container(ctx, "web"); err != nil || cmp.Diff(webCt, ct) != "" {
		t.Errorf("container after the restart: %v (-want +got):\n%s", err, cmp.Diff(webCt, ct))
	}
	check()
	next, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "next", IPv6: yes()})
	if err != nil {
		t.Fatal(err)
	}
	a := p6.Addr().As16()
	a[7]++
	if got, want := next.Subnets[1].Subnet, netip.PrefixFrom(netip.AddrFrom16(a), 64).String(); got != want {
		t.Errorf("the next network has %s, want %s", got, want)
	}
	wantFetch(t, db, join(next.Subnets[1].Gateway, "7000"), "host", addrsOf(t, dbCt)[1])
	_, ct3 := r.attach("third", api.Attach{Networks: on})
	if got, want := addrsOf(t, ct3)[1], netip.MustParseAddr(addrsOf(t, dbCt)[1]).Next().String(); got != want {
		t.Errorf("the pool goes on at %s, want %s", got, want)
	}
}

// TestFamiliesOfPublishedPorts: which family a mapping is reached by follows
// from the rule and from the addresses that the container has.
func TestFamiliesOfPublishedPorts(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "dual", IPv6: yes()}); err != nil {
		t.Fatal(err)
	}
	web, _ := r.attach("web", api.Attach{Publish: []string{"8080:80"}}) // in bridge: IPv4 only
	serve(t, web, ":80", "web")
	out, host := r.world.Outside, r.world.Host
	at4, at6 := netlab.HostAddr, netlab.HostAddr6
	ipv4Only := func() {
		t.Helper()
		wantFetch(t, out, join(at4, "8080"), "web", netlab.OutsideAddr)
		wantRefused(t, out, join(at6, "8080"))
		wantFetch(t, host, "127.0.0.1:8080", "web", "")
		wantFetch(t, host, "[::1]:8080", "web", "")
	}
	ipv4Only()
	for _, rule := range []string{"[::]:8081:80", "[" + at6 + "]:8081:80"} {
		_, err := r.Publish(ctx, "web", []string{rule})
		if err == nil || !strings.Contains(err.Error(), "no IPv6 address") {
			t.Errorf("publish %s to a container without IPv6: %v", rule, err)
		}
	}
	if _, err := r.Connect(ctx, "web", api.Connect{Network: "dual"}); err != nil {
		t.Fatal(err)
	}
	wantFetch(t, out, join(at6, "8080"), "web", netlab.OutsideAddr6)
	wantFetch(t, out, join(at4, "8080"), "web", netlab.OutsideAddr)
	// The default routes come from a network each.
	wantFetch(t, web, join(netlab.FarAddr6, "9999"), "outside", at6)
	wantFetch(t, web, join(netlab.FarAddr, "9999"), "outside", at4)
	if _, err := r.Publish(ctx, "web", []string{"0.0.0.0:8084:80", "[::]:8086:80", "[" + at6 + "]:8087:80", "[::1]:8088:80"}); err != nil {
		t.Fatal(err)
	}
	wantFetch(t, out, join(at4, "8084"), "web", netlab.OutsideAddr)
	wantRefused(t, out, join(at6, "8084"))
	wantFetch(t, out, join(at6, "8086"), "web", netlab.OutsideAddr6)
	wantRefused(t, out, join(at4, "8086"))
	wantFetch(t, out, join(at6, "8087"), "web", netlab.OutsideAddr6)
	wantRefused(t, out, join(at4, "8087"))
	wantFetch(t, host, "[::1]:8088", "web", "")
	wantRefused(t, out, join(at6, "8088"))
	// One port for each family, of two containers.
	db, _ := r.attach("db", api.Attach{Networks: []api.Connect{{Network: "dual"}}, Publish: []string{"0.0.0.0:8086:80"}})
	serve(t, db, ":80", "db")
	wantFetch(t, out, join(at4, "8086"), "db", netlab.OutsideAddr)
	wantFetch(t, out, join(at6, "8086"), "web", netlab.OutsideAddr6)
	if _, err := r.Publish(ctx, "db", []string{"8084:80"}); err == nil || !strings.Contains(err.Error(), "published by container web") {
		t.Errorf("every address over one family of another container: %v", err)
	}

	if err := r.Disconnect(ctx, "web", "dual"); err == nil || !strings.Contains(err.Error(), "port rm") {
		t.Errorf("disconnect under a port of IPv6: %v", err)
	}
	if err := r.Unpublish(ctx, "web", []string{"[::]:8086:80", "[" + at6 + "]:8087:80"}); err != nil {
		t.Fatal(err)
	}
	if err := r.Disconnect(ctx, "web", "dual"); err != nil {
		t.Fatal(err)
	}
	ipv4Only()
}

func TestIPv6Only(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	ctx := t.Context()
	n, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "six", IPv4: no(), IPv6: yes()})
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Subnets) != 1 || !strings.HasPrefix(n.Subnet, "fd") {
		t.Fatalf("network %+v", n)
	}
	ns, ct := r.attach("web", api.Attach{
		Networks: []api.Connect{{Network: "six", IP6: netip.MustParsePrefix(n.Subnet).Addr().Next().Next().Next().String()}},
		Publish:  []string{"8080:80"},
	})
	serve(t, ns, ":80", "web")
	if len(ct.Endpoints[0].Addresses) != 1 || !strings.HasSuffix(ct.Endpoints[0].Address, "::3/64") {
		t.Errorf("addresses %v, want the one asked for", ct.Endpoints[0].Addresses)
	}
	wantFetch(t, ns, join(netlab.FarAddr6, "9999"), "outside", netlab.HostAddr6)
	wantFetch(t, r.world.Outside, join(netlab.HostAddr6, "8080"), "web", netlab.OutsideAddr6)
	wantRefused(t, r.world.Outside, join(netlab.HostAddr, "8080"))
	wantFetch(t, r.world.Host, "127.0.0.1:8080", "web", "")
	wantFetch(t, r.world.Host, "[::1]:8080", "web", "")
}

// C-02: IPv6 that a container of an IPv4 network configures for itself leads
// nowhere, neither to its peers nor to the host.
func TestC02IPv4OnlyNetworkLeaksNoIPv6(t *testing.T) {
	r := newRig(t)
	r.start()
	a, _ := r.attach("a", api.Attach{})
	b, _ := r.attach("b", api.Attach{})
	for ns, addr := range map[*netlab.NS]string{a: "fd00:bad::a/64", b: "fd00:bad::b/64"} {
		if out, err := ns.Command("ip", "addr", "add", addr, "dev", "eth0", "nodad").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	serve(t, b, "[::]:80", "b")
	if got, err := fetchFast(a, "[fd00:bad::b]:80"); err == nil {
		t.Errorf("IPv6 crosses a network without it: %s", got)
	}
	st, err := r.Stats(t.Context(), api.StatsQuery{})
	if err != nil || st.Drops["guard-no-ipv6"] == 0 {
		t.Errorf("drops %v, %v", st.Drops, err)
	}
	n, err := r.Network(t.Context(), "bridge")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := r.world.Host.Command("ip", "-6", "-o", "addr", "show", "dev", n.Interface).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("IPv6 on the host's side of the network: %s, %v", out, err)
	}
}

func TestInternalAndIsolatedDualStack(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	ctx := t.Context()
	serve(t, r.world.Host, ":7000", "host")
	for _, in := range []api.NetworkCreate{
		{Name: "inside", IPv6: yes(), Internal: true},
		{Name: "alone", IPv6: yes(), Mode: api.GatewayIsolated},
		{Name: "half", IPv6: yes(), ModeIPv6: api.GatewayIsolated},
	} {
		n, err := r.CreateNetwork(ctx, in)
		if err != nil {
			t.Fatal(err)
		}
		on := []api.Connect{{Network: in.Name}}
		a, act := r.attach(in.Name+"-a", api.Attach{Networks: on})
		b, bct := r.attach(in.Name+"-b", api.Attach{Networks: on})
		serve(t, b, ":80", "b")
		for f := range 2 {
			wantFetch(t, a, join(addrsOf(t, bct)[f], "80"), "b", addrsOf(t, act)[f])
			isolated := n.Subnets[f].Mode == api.GatewayIsolated
			out := join([]string{netlab.FarAddr, netlab.FarAddr6}[f], "9999")
			if !in.Internal && !isolated {
				wantFetch(t, a, out, "outside", "")
			} else if got, err := fetchFast(a, out); err == nil {
				t.Errorf("%s reaches %s: %q", in.Name, out, got)
			}
			if isolated {
				if n.Subnets[f].Gateway != "" {
					t.Errorf("%s has gateway %s", in.Name, n.Subnets[f].Gateway)
				}
				if got, err := fetchFast(r.world.Host, join(addrsOf(t, bct)[f], "80")); err == nil {
					t.Errorf("the host reaches isolated network %s: %s", in.Name, got)
				}
				continue
			}
			wantFetch(t, a, join(n.Subnets[f].Gateway, "7000"), "host", addrsOf(t, act)[f])
		}
		_, err = r.Publish(ctx, in.Name+"-b", []string{"8080:80"})
		if (err == nil) != (in.Name == "half") {
			t.Errorf("publish in %s: %v", in.Name, err)
		}
	}
}

// N-89: the outside has a route to the containers and sees their own addresses,
// closed but for what is published; IPv4 of the same network is translated.
func TestN89RoutedNetwork(t *testing.T) {
	r := newRig(t)
	worldIsUp(t, r)
	r.start()
	ctx := t.Context()
	n, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "routed", Subnet: "fd00:5::/64", Subnets: []string{"10.5.0.0/24"}, ModeIPv6: api.GatewayRouted})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.world.Outside.AddRoute("fd00:5::/64", netlab.HostAddr6, "eth0"); err != nil {
		t.Fatal(err)
	}
	if n.Subnets[0].Mode != "nat" || n.Subnets[1].Mode != "routed" {
		t.Errorf("subnets %+v", n.Subnets)
	}
	web, ct := r.attach("web", api.Attach{Networks: []api.Connect{{Network: "routed"}}, Publish: []string{"8080:80"}})
	a := addrsOf(t, ct)
	serve(t, web, ":80", "web")
	serve(t, web, ":81", "hidden")
	out := r.world.Outside
	check := func() {
		t.Helper()
		wantFetch(t, web, join(netlab.FarAddr6, "9999"), "outside", a[1])
		wantFetch(t, web, join(netlab.FarAddr, "9999"), "outside", netlab.HostAddr)
		wantFetch(t, out, join(a[1], "80"), "web", netlab.OutsideAddr6)
		wantFetch(t, out, join(netlab.HostAddr6, "8080"), "web", netlab.OutsideAddr6)
		wantFetch(t, r.world.Host, join(a[1], "81"), "hidden", n.Subnets[1].Gateway)
		if got, err := fetchFast(out, join(a[1], "81")); err == nil {
			t.Errorf("a port that is not published answers: %s", got)
		}
		wantPing6(t, out, a[1])
	}
	check()
	// The host forwards: still nothing gets past the switch.
	if b, err := r.world.Host.Command("sysctl", "-w", "net.ipv6.conf.all.forwarding=1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	check()
	r.kill()
	r.start()
	check()
	if err := r.Unpublish(ctx, "web", []string{"8080:80"}); err != nil {
		t.Fatal(err)
	}
	if got, err := fetchFast(out, join(a[1], "80")); err == nil {
		t.Errorf("an unpublished port answers: %s", got)
	}
	if err := errors.Join(r.Detach(ctx, "web"), r.RemoveNetwork(ctx, "routed")); err != nil {
		t.Fatal(err)
	}
}

// wantPing6 sends an ICMPv6 echo request and waits for its reply.
func wantPing6(t testing.TB, ns *netlab.NS, to string) {
	t.Helper()
	conn, err := ns.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	// The kernel fills in the checksum of a raw ICMPv6 socket (RFC 3542 3.1).
	if _, err := conn.WriteTo([]byte{128, 0, 0, 0, 0, 7, 0, 1}, &net.IPAddr{IP: net.ParseIP(to)}); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	for b := make([]byte, 1500); ; {
		n, from, err := conn.ReadFrom(b)
		if err != nil {
			t.Errorf("%s pings %s: %v", ns.Name(), to, err)
			return
		}
		if n >= 8 && b[0] == 129 && from.String() == to {
			return
		}
	}
}

func TestDefaultNetworkWithIPv6(t *testing.T) {
	r := newRig(t)
	r.cfg.IPv6 = true
	r.start()
	_, ct := r.attach("web", api.Attach{})
	if got := ct.Endpoints[0]; len(got.Addresses) != 2 || len(got.Gateways) != 2 {
		t.Errorf("endpoint %+v", got)
	}
	r.kill()
	r.cfg.IPv6 = false
	r.start()
	if got, err := r.Container(t.Context(), "web"); err != nil || cmp.Diff(ct, got) != "" {
		t.Errorf("after a start without the option: %v\n%s", err, cmp.Diff(ct, got))
	}
}
