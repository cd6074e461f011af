package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
)

// What why says of a packet is what the world then sees.
func TestWhy(t *testing.T) {
	r := newRig(t)
	r.start()
	ctx := t.Context()
	for _, n := range []api.NetworkCreate{{Name: "blue", Subnet: "10.7.0.0/24"}, {Name: "inside", Subnet: "10.6.0.0/24", Internal: true}, {Name: "apart", Subnet: "10.5.0.0/24", ICC: new(bool)}} {
		if _, err := r.CreateNetwork(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
	r.createDual("dual")
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "shut", Subnet: "10.4.0.0/24", Mode: api.GatewayIsolated}); err != nil {
		t.Fatal(err)
	}
	on := func(n string) api.Attach { return api.Attach{Networks: []api.Connect{{Network: n}}} }
	web, wct := r.attach("web", api.Attach{Publish: []string{"8080:80", "7359:7359/udp"}})
	_, dct := r.attach("db", api.Attach{})
	_, bct := r.attach("blue1", on("blue"))
	r.attach("hid", on("inside"))
	r.attach("iso1", on("apart"))
	r.attach("iso2", on("apart"))
	r.attach("alone", on("shut"))
	r.attach("six1", on("dual"))
	r.attach("six2", on("dual"))
	serve(t, web, ":80", "web")
	serve(t, r.world.Outside, ":9000", "outside")
	wantFetch(t, web, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr) // the neighbour is known from here on

	for _, tc := range []struct {
		from, to, verdict, output, reason string
		says                              []string
	}{
		{"web", netlab.OutsideAddr + ":9000", api.VerdictSent, "uplink/eth0", "", []string{"0.0.0.0/0|" + netlab.OutsideAddr, "NAT masquerade", netlab.HostAddr, "neighbours", "rule containers may go out"}},
		{"web", "db:5432", api.VerdictSent, "db/eth0 (bridge)", "", []string{"FDB destination", "pinned to db/eth0", "guard", "rule network bridge: containers of a network reach each other"}},
		{"web", "db", api.VerdictSent, "db/eth0 (bridge)", "", nil},
		{"web", addr(dct) + ":53/udp", api.VerdictSent, "db/eth0 (bridge)", "", nil},
		{"web", "blue1:80", api.VerdictDropped, "", "route-isolated", []string{"rule networks are kept apart", "fix connect web to it: vswitch network connect blue web", "handed out to blue1"}},
		{"web", "10.88.0.99:80", api.VerdictFlooded, "", "", []string{"handed out to no container"}},
		{"web", "10.7.0.99:80", api.VerdictDropped, "", "route-no-host", nil},
		{"web", "255.255.255.255:67/udp", api.VerdictFlooded, "", "", []string{"storm control web/eth0 (bridge) has spent", "not forwarded to any other"}},
		{"web", "10.88.0.255:9/udp", api.VerdictFlooded, "", "", []string{"not forwarded to any other"}},
		{"web", "10.7.0.255:9/udp", api.VerdictDropped, "", "route-broadcast", []string{"broadcast address of another network"}},
		{"web", "198.51.100.255:9/udp", api.VerdictDropped, "", "route-broadcast", []string{"broadcasts are not forwarded"}},
		{"web", "239.1.2.3:9/udp", "", "", "", []string{"not forwarded to other networks"}},
		{"web", "10.88.0.1:7000", api.VerdictHost, "host/", "", []string{"host's own", "rule containers may reach the host"}},
		{"web", netlab.HostAddr + ":7000", api.VerdictHost, "host/", "", nil},
		{"db", netlab.HostAddr + ":8080", api.VerdictSent, "web/eth0 (bridge)", "", []string{"published ports 8080/tcp leads to web", "NAT hairpin", "rule a published port is open to everybody"}},
		{"outside:" + netlab.OutsideAddr, netlab.HostAddr + ":8080", api.VerdictSent, "web/eth0 (bridge)", "", []string{"published ports 8080/tcp leads to web", addr(wct) + ":80"}},
		{"outside", netlab.HostAddr + ":8081", api.VerdictHost, "host", "", []string{"neither a published port", "a service must listen there", "fix if a container is meant, publish its port: vswitch port add CONTAINER 8081:PORT/tcp"}},
		{"outside", netlab.HostAddr, api.VerdictHost, "host", "", []string{"a ping is neither", "answers a ping"}},
		{"outside", "255.255.255.255:67/udp", api.VerdictHost, "host", "", []string{"not forwarded to containers"}},
		{"outside:" + netlab.OutsideAddr, "198.51.100.255:7359/udp", api.VerdictSent, "web/eth0 (bridge)", "", []string{"published ports 7359/udp leads to web", "the host's stack as well"}},
		{"outside:" + netlab.OutsideAddr, "255.255.255.255:7359/udp", api.VerdictSent, "web/eth0 (bridge)", "", []string{"the host's stack as well"}},
		{"outside", "198.51.100.255:67/udp", api.VerdictHost, "host", "", []string{"not forwarded to containers"}},
		{"outside", "web:80", api.VerdictDropped, "", "prerouting-unclaimed", []string{"vswitch port add web PORT:80/tcp"}},
		{"outside", "web", api.VerdictDropped, "", "prerouting-unclaimed", []string{"fix none for a ping"}},
		{"host", "web:80", api.VerdictSent, "web/eth0 (bridge)", "", []string{"rule network bridge: the host reaches its containers"}},
		{"host", "iso1:80", api.VerdictSent, "iso1/eth0 (apart)", "", []string{"rule network apart: the host reaches its containers"}},
		{"host", netlab.OutsideAddr + ":80", api.VerdictHost, "", "", []string{"the host's own routes lead there", "takes no part"}},
		{"host", "127.0.0.1:8080", api.VerdictSent, "web/eth0 (bridge)", "", []string{"127.0.0.1:8080/tcp leads to web", "relay connects to " + addr(wct) + ":80 from 10.88.0.1", "pinned to web/eth0"}},
		{"host", "[::1]:8080", api.VerdictSent, "web/eth0 (bridge)", "", []string{"relay connects to " + addr(wct) + ":80"}},
		{"host", netlab.HostAddr + ":8080", api.VerdictSent, "web/eth0 (bridge)", "", []string{"relay connects to"}},
		{"host", "10.88.0.1:8080", api.VerdictSent, "web/eth0 (bridge)", "", []string{"relay connects to"}},
		{"host", "127.0.0.1:8080/udp", api.VerdictHost, "", "", []string{"8080/udp is not published", "fix if a container is meant"}},
		{"host", "127.0.0.1", api.VerdictHost, "", "", []string{"leaves by no interface", "answers a ping"}},
		{"host", netlab.HostAddr, api.VerdictHost, "", "", nil},
		{"host", "255.255.255.255:67/udp", api.VerdictHost, "", "", []string{"not forwarded to containers"}},
		{"hid", netlab.OutsideAddr + ":9000", api.VerdictNotSent, "", "", []string{"no default route", "fix connect it"}},
		{"hid", netlab.HostAddr + ":8080", api.VerdictNotSent, "", "", []string{"no default route", "fix use its own gateway"}},
		{"hid", netlab.HostAddr + ":8081", api.VerdictNotSent, "", "", []string{"no default route", "fix connect it"}},
		{"web", "[2001:db8::9]:80", api.VerdictNotSent, "", "", []string{"no address of the family", "fix connect it to a network that leads there: vswitch network connect dual web"}},
		{"alone", "host:22", api.VerdictNotSent, "", "", []string{"no default route"}},
		{"alone", "[2001:db8::9]:80", api.VerdictNotSent, "", "", []string{"network connect dual alone"}},
		{"outside", "host:22", api.VerdictHost, "host", "", nil},
		{"iso1", "iso2:80", api.VerdictDropped, "", "classify-isolated-port", []string{"rule network apart: its containers do not reach each other (--icc=false)", "fix let them speak: vswitch network update apart --icc"}},
		{"six1", "[" + netlab.OutsideAddr6 + "]:9000", "", "uplink/eth0", "", []string{"neighbours"}},
		{"web", addr(wct) + ":80", api.VerdictNotSent, "", "", []string{"own address"}},
	} {
		why, err := r.Why(ctx, api.WhyQuery{From: tc.from, To: tc.to})
		if err != nil {
			t.Errorf("%s to %s: %v", tc.from, tc.to, err)
			continue
		}
		text := "rule " + why.Rule + "\nwhy " + why.Explanation + "\nfix " + why.Fix
		for _, s := range why.Steps {
			text += "\n" + s.Table + " " + s.Text
		}
		if tc.verdict != "" && why.Verdict != tc.verdict || !strings.HasPrefix(why.Output, tc.output) || why.Reason != tc.reason {
			t.Errorf("%s to %s: %s to %q %s, want %s to %q %s\n%s", tc.from, tc.to, why.Verdict, why.Output, why.Reason, tc.verdict, tc.output, tc.reason, text)
		}
		for _, words := range tc.says {
			if !slices.ContainsFunc(strings.Split(words, "|"), func(s string) bool { return strings.Contains(text, s) }) {
				t.Errorf("%s to %s: nothing of %q in\n%s", tc.from, tc.to, words, text)
			}
		}
		if why.Verdict == api.VerdictDropped && why.Explanation == "" {
			t.Errorf("%s to %s: dropped without an explanation", tc.from, tc.to)
		}
	}
	for _, bad := range []api.WhyQuery{{From: "web"}, {To: "1.1.1.1"}, {From: "outside:x", To: "1.1.1.1"}, {From: "outside:1.1.1.1", To: "[2001:db8::1]:80"}, {From: "web:1", To: "1.1.1.1"}} {
		if _, err := r.Why(ctx, bad); err == nil || client.IsNotFound(err) {
			t.Errorf("%+v: %v, want a refusal", bad, err)
		}
	}
	for _, bad := range []api.WhyQuery{{From: "nosuch", To: "1.1.1.1"}, {From: "web", To: "nosuch:80"}} {
		if _, err := r.Why(ctx, bad); !client.IsNotFound(err) {
			t.Errorf("%+v: %v, want not found", bad, err)
		}
	}
	// Nothing was sent, counted or remembered.
	if drops, err := r.LastDrops(ctx, ""); err != nil || slices.ContainsFunc(drops, func(d api.Drop) bool { return d.Reason == "route-isolated" }) {
		t.Errorf("dropped: %+v, %v", drops, err)
	}

	// What then really happens is told too.
	if got, err := fetchFast(web, addr(bct)+":80"); err == nil {
		t.Errorf("web reaches blue: %s", got)
	}
	drops, err := r.LastDrops(ctx, "web")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(drops, func(d api.Drop) bool { return d.Reason == "route-isolated" })
	if i < 0 {
		t.Fatalf("no drop of web: %+v", drops)
	}
	if d := drops[i]; d.Container != "web" || d.Peer != "blue1" || d.Proto != "tcp" || d.Dest != addr(bct)+":80" || time.Since(d.Time) > time.Minute ||
		d.Fix != "connect web to it: vswitch network connect blue web" || d.Network != "bridge" {
		t.Errorf("dropped: %+v", d)
	}
	if drops, err := r.LastDrops(ctx, "db"); err != nil || slices.ContainsFunc(drops, func(d api.Drop) bool { return d.Container != "db" }) {
		t.Errorf("drops of db: %+v, %v", drops, err)
	}
}
