package cni

import (
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/vswitch/vswitch/control/api"
)

// Who names no name servers gets the gateway that answers names.
func TestDNS(t *testing.T) {
	named := &api.Endpoint{Network: "blue", NameServers: []string{"10.7.0.1"}}
	given := &types100.Result{DNS: types.DNS{Nameservers: []string{"10.7.0.53"}}}
	for _, tc := range []struct {
		conf  string
		given *types100.Result
		e     *api.Endpoint
		want  string
	}{
		{`{}`, nil, named, "{[10.7.0.1]  [blue] []}"},
		{`{}`, nil, &api.Endpoint{Network: "plain"}, "{[]  [] []}"},
		{`{}`, given, named, "{[10.7.0.53]  [] []}"},
		{`{"dns":{"nameservers":["10.7.0.9"]}}`, given, named, "{[10.7.0.9]  [] []}"},
		{`{"runtimeConfig":{"dns":{"servers":["10.7.0.8"]}}}`, given, named, "{[10.7.0.8]  [] []}"},
	} {
		if got := fmt.Sprint(parse(t, tc.conf, "").dns(tc.given, tc.e)); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.conf, got, tc.want)
		}
	}
}
