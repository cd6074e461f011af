package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

// Limits that were given are shown, for each interface; defaults are not.
func TestInspectShowsLimits(t *testing.T) {
	var out bytes.Buffer
	err := printContainer(&out, api.Container{Name: "web", Endpoints: []api.Endpoint{
		{Interface: "eth0", MaxFlows: 3}, {Interface: "eth1", MaxFlows: -1, FlowRate: 100}, {Interface: "eth2"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"limits of eth0: connections 3, new each second default",
		"limits of eth1: connections no limit, new each second 100",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing:\n%s", want, out.String())
		}
	}
	if strings.Contains(got, "limits of eth2") {
		t.Errorf("defaults are shown:\n%s", out.String())
	}
}
