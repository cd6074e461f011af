package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/doctor"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// why, flows, top, events and doctor against a daemon that runs.
func TestWatchingCommands(t *testing.T) {
	r := newRig(t)
	web := labtest.New(t, "web")
	r.must("attach", "web", "--netns", web.Path(), "-p", "8080:80", "--ip", "10.88.0.77")
	r.site(web, "10.88.0.77")
	r.wantPage(r.world.Outside, netlab.HostAddr+":8080", netlab.OutsideAddr)

	if out := r.must("why", "outside:"+netlab.OutsideAddr, netlab.HostAddr+":8080"); !strings.Contains(out, "sent to web/eth0 (bridge)") || !strings.Contains(out, "published ports  8080/tcp leads to web") {
		t.Errorf("why: %s", out)
	}
	out, _, code := r.vswitch("why", "outside", netlab.HostAddr+":81")
	if code != exitOK || !strings.Contains(out, "host to host") || !strings.Contains(out, "fix: if a container is meant, publish its port") {
		t.Errorf("why of an unpublished port: exit code %d, %s", code, out)
	}
	published := func(f api.Flow) bool { return f.Kind == "publish" && f.Container == "web" }
	if flows := decode[[]api.Flow](r, "flows", "web"); slices.ContainsFunc(flows, published) {
		t.Errorf("flows has what both ends have closed: %+v", flows)
	}
	if nat := r.must("nat", "ls"); !strings.Contains(nat, "web") || !strings.Contains(nat, "publish") {
		t.Errorf("nat ls: %s", nat)
	}
	if out := r.must("top", "--interval", "100ms"); !strings.Contains(out, "PORT") || !strings.Contains(out, "eth0") {
		t.Errorf("top: %s", out)
	}
	if out := r.must("events", "--follow=false"); !strings.Contains(out, "container web attached with 10.88.0.77/24") {
		t.Errorf("events: %s", out)
	}
	r.must("why", "--last-drops")

	var stdout bytes.Buffer
	cmd := r.command("doctor", "--format", "json")
	cmd.Stdout = &stdout
	if err := r.world.Host.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("doctor: %v: %s", err, &stdout)
	}
	var checks []doctor.Check
	if err := json.Unmarshal(stdout.Bytes(), &checks); err != nil {
		t.Fatalf("doctor: %v: %s", err, &stdout)
	}
	for _, c := range checks {
		if c.Status == doctor.Fail || c.Status == doctor.Warn {
			t.Errorf("doctor: %s %s: %s", c.Name, c.Status, c.Message)
		}
	}
}
