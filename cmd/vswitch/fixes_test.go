package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// commandOf are the commands of a way out, as they are to be typed.
var commandOf = regexp.MustCompile(`vswitch [a-z][^;,]*`)

// What why prints as the way out is carried out as it is printed, but for what stands in
// capitals, and why then says that the packet arrives.
func TestFixesMend(t *testing.T) {
	r := newRig(t)
	for _, args := range []string{
		"blue --subnet 10.7.0.0/24", "inside --subnet 10.6.0.0/24 --internal", "apart --subnet 10.5.0.0/24 --icc=false",
		"closed --subnet 10.4.0.0/24 --host-access=false",
	} {
		r.must(append([]string{"network", "create"}, strings.Fields(args)...)...)
	}
	attach := func(name, args string) {
		t.Helper()
		r.must(append([]string{"attach", name, "--netns", labtest.New(t, name).Path()}, strings.Fields(args)...)...)
	}
	attach("web", "-p 8080:80")
	attach("blue1", "--network blue")
	attach("hid", "--network inside")
	attach("hid2", "--network inside")
	attach("iso1", "--network apart")
	attach("iso2", "--network apart")
	attach("shut", "--network closed")
	fill := strings.NewReplacer("CONTAINER", "web", "PORT", "8099", "NAME", "made")
	for _, tc := range []struct {
		from, to string
		then     string // where the packet goes afterwards, "": to the same
		commands int    // how many the way out has
	}{
		{from: "hid2", to: netlab.HostAddr + ":8080", then: "10.6.0.1:8080"}, // "use its own gateway"
		{from: "web", to: "blue1:80", commands: 1},
		{from: "hid", to: netlab.OutsideAddr + ":80", commands: 1},
		{from: "iso1", to: "iso2:80", commands: 1},
		{from: "shut", to: "host:7000", commands: 1},
		{from: "outside", to: "blue1:80", then: netlab.HostAddr + ":8099", commands: 1},
		{from: "outside", to: netlab.HostAddr + ":8081", commands: 1},
		{from: "host", to: "127.0.0.1:8082", commands: 1},
		{from: "web", to: "[2001:db8::9]:80", commands: 2},
		{from: "blue1", to: "[2001:db8::9]:80", commands: 1},
	} {
		ask := func(to string) api.Why {
			t.Helper()
			var why api.Why
			out, stderr, _ := r.vswitch("why", tc.from, to, "--format", "json")
			if err := json.Unmarshal([]byte(out), &why); err != nil {
				t.Fatalf("why %s %s: %v: %s%s", tc.from, to, err, out, stderr)
			}
			return why
		}
		why := ask(tc.to)
		if why.Verdict == api.VerdictSent {
			t.Errorf("why %s %s: sent already", tc.from, tc.to)
		}
		commands := commandOf.FindAllString(why.Fix, -1)
		if len(commands) != tc.commands {
			t.Errorf("why %s %s: %d commands, want %d in %q", tc.from, tc.to, len(commands), tc.commands, why.Fix)
		}
		for _, c := range commands {
			r.must(strings.Fields(fill.Replace(c))[1:]...)
		}
		to := tc.to
		if tc.then != "" {
			if tc.commands == 0 && !strings.Contains(why.Fix, tc.then) {
				t.Errorf("why %s %s: no %s in %q", tc.from, tc.to, tc.then, why.Fix)
			}
			to = tc.then
		}
		arrives := func() bool {
			switch again := ask(to); again.Verdict {
			case api.VerdictSent, api.VerdictWaits:
				return true
			case api.VerdictHost:
				return tc.from == "shut"
			}
			return false
		}
		if !eventually(arrives) {
			t.Errorf("why %s %s after %q: %+v", tc.from, to, why.Fix, ask(to))
		}
	}
}
