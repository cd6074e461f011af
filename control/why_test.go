package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/internal/netlab"
)

// Every reason has its row, and no word in braces is left in it.
func TestRemediesAreComplete(t *testing.T) {
	full := dropFacts{"web", "bridge", "veth1", "tcp", "10.1.0.2", "10.2.0.2", "80", "db", "blue"}
	for r := dataplane.NotDropped + 1; r < dataplane.NumDropReasons; r++ {
		for _, f := range []dropFacts{{}, full} {
			means, fix := explainDrop(r, f)
			if means == "" {
				t.Errorf("%s has no row in remedies: say what it means and what changes it", r)
			}
			if strings.ContainsAny(means+fix, "{}") {
				t.Errorf("%s: %q, %q", r, means, fix)
			}
		}
	}
	if m := remedies[dataplane.NotDropped]; m != (remedy{}) {
		t.Errorf("not dropped: %+v", m)
	}
	if means, fix := explainDrop(dataplane.NumDropReasons, full); means != "" || fix != "" {
		t.Errorf("no reason: %q, %q", means, fix)
	}
}

func TestParseWhy(t *testing.T) {
	for in, want := range map[string]string{
		"1.1.1.1:443":      "1.1.1.1:443/tcp",
		"1.1.1.1:53/udp":   "1.1.1.1:53/udp",
		"1.1.1.1":          "1.1.1.1/icmp",
		"1.1.1.1/icmp":     "1.1.1.1/icmp",
		"[2001:db8::1]:80": "[2001:db8::1]:80/tcp",
		"[2001:db8::1]":    "2001:db8::1/icmp",
		"2001:db8::1":      "2001:db8::1/icmp",
		"2001:db8::1/icmp": "2001:db8::1/icmp",
		"::ffff:1.2.3.4":   "1.2.3.4/icmp",
		"db:5432":          "db (invalid AddrPort/tcp)",
		"db.shop_1/icmp":   "db.shop_1 (invalid IP/icmp)",
		"":                 "", ":80": "", "1.1.1.1:": "", "1.1.1.1:0": "", "1.1.1.1:65536": "", "1.1.1.1:x": "", "1.1.1.1/tcp": "",
		"1.1.1.1:80/icmp": "", "1.1.1.1:80/sctp": "", "[2001:db8::1": "", "[2001:db8::1]80": "", "a b:1": "", "1.1.1.1:80/": "",
	} {
		got, err := parseWhy(in)
		if (err == nil) != (want != "") || err == nil && got.text() != want {
			t.Errorf("%q: %q, %v, want %q", in, got.text(), err, want)
		}
	}
}

func FuzzParseWhy(f *testing.F) {
	for _, s := range []string{"1.1.1.1:443", "db/icmp", "[::1]:80/udp", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := parseWhy(s)
		if err == nil && (w.addr.IsValid() == (w.name != "") || w.addr.Zone() != "") {
			t.Errorf("%q: %+v", s, w)
		}
	})
}

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
	on := func(n string) api.Attach { return api.Attach{Networks: []api.Connect{{Network: n}}} }
	web, wct := r.attach("web", api.Attach{Publish: []string{"8080:80"}})
	_, dct := r.attach("db", api.Attach{})
	_, bct := r.attach("blue1", on("blue"))
	r.attach("hid", on("inside"))
	r.attach("iso1", on("apart"))
	r.attach("iso2", on("apart"))
	r.attach("six1", on("dual"))
	r.attach("six2", on("dual"))
	serve(t, web, ":80", "web")
	serve(t, r.world.Outside, ":9000", "outside")
	wantFetch(t, web, netlab.OutsideAddr+":9000", "outside", netlab.HostAddr) // the neighbour is known from here on

	for _, tc := range []struct {
		from, to, verdict, output, reason string
		says                              []string
	}{
		{"web", netlab.OutsideAddr + ":9000", api.VerdictSent, "uplink/eth0", "", []string{"0.0.0.0/0|" + netlab.OutsideAddr, "NAT masquerade", netlab.HostAddr, "neighbours"}},
		{"web", "db:5432", api.VerdictSent, "db/eth0 (bridge)", "", []string{"FDB destination", "pinned to db/eth0", "guard"}},
		{"web", "db", api.VerdictSent, "db/eth0 (bridge)", "", nil},
		{"web", addr(dct) + ":53/udp", api.VerdictSent, "db/eth0 (bridge)", "", nil},
		{"web", "blue1:80", api.VerdictDropped, "", "route-isolated", []string{"fix connect web to it: vswitch network connect blue web", "handed out to blue1"}},
		{"web", "10.88.0.99:80", api.VerdictFlooded, "", "", []string{"handed out to no container"}},
		{"web", "10.7.0.99:80", api.VerdictDropped, "", "route-no-host", nil},
		{"web", "255.255.255.255:67/udp", "", "", "", []string{"storm control web/eth0 (bridge) has spent"}},
		{"web", "10.88.7.255:9/udp", "", "", "", nil},
		{"web", "239.1.2.3:9/udp", "", "", "", nil},
		{"web", "10.88.0.1:7000", api.VerdictHost, "host/", "", []string{"host's own"}},
		{"web", netlab.HostAddr + ":7000", api.VerdictHost, "host/", "", nil},
		{"db", netlab.HostAddr + ":8080", api.VerdictSent, "web/eth0 (bridge)", "", []string{"published ports 8080/tcp leads to web", "NAT hairpin"}},
		{"outside:" + netlab.OutsideAddr, netlab.HostAddr + ":8080", api.VerdictSent, "web/eth0 (bridge)", "", []string{"published ports 8080/tcp leads to web", addr(wct) + ":80"}},
		{"outside", netlab.HostAddr + ":8081", api.VerdictDropped, "", "prerouting-unclaimed", []string{"fix publish a port"}},
		{"outside", "web:80", api.VerdictDropped, "", "prerouting-unclaimed", nil},
		{"host", "web:80", api.VerdictSent, "web/eth0 (bridge)", "", nil},
		{"host", netlab.OutsideAddr + ":80", api.VerdictNotSent, "", "", nil},
		{"hid", netlab.OutsideAddr + ":9000", api.VerdictNotSent, "", "", []string{"no default route", "fix connect it"}},
		{"web", "[2001:db8::9]:80", api.VerdictNotSent, "", "", []string{"no address of the family"}},
		{"iso1", "iso2:80", api.VerdictDropped, "", "classify-isolated-port", []string{"fix let them speak: vswitch network update apart --icc"}},
		{"six1", "[" + netlab.OutsideAddr6 + "]:9000", "", "uplink/eth0", "", []string{"neighbours"}},
		{"web", addr(wct) + ":80", api.VerdictNotSent, "", "", []string{"own address"}},
	} {
		why, err := r.Why(ctx, api.WhyQuery{From: tc.from, To: tc.to})
		if err != nil {
			t.Errorf("%s to %s: %v", tc.from, tc.to, err)
			continue
		}
		text := "why " + why.Explanation + "\nfix " + why.Fix
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
