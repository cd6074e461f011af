package model

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

func TestDNS(t *testing.T) {
	good := &api.DNS{Servers: []string{"192.0.2.53", "2001:db8::53"}, Search: []string{"a.example", "."}, Options: []string{"ndots:1"}, Hosts: []string{"a:192.0.2.1", "b:2001:db8::1", "up:host-gateway"}}
	d, err := checkDNS(good)
	if err != nil || !reflect.DeepEqual(ViewDNS(d), good) {
		t.Errorf("%+v comes back as %+v, %v", good, ViewDNS(d), err)
	}
	if d, err := checkDNS(nil); err != nil || ViewDNS(d) != nil {
		t.Errorf("nothing is %+v, %v", d, err)
	}
	long := strings.Repeat("a", 64)
	for _, bad := range []api.DNS{
		{Servers: []string{"dns.example"}}, {Servers: []string{"0.0.0.0"}}, {Search: []string{""}}, {Search: []string{"a b"}}, {Search: []string{"a\nnameserver 192.0.2.1"}},
		{Options: []string{"ndots:1\nnameserver 192.0.2.1"}}, {Options: []string{""}}, {Hosts: []string{"a"}}, {Hosts: []string{":192.0.2.1"}}, {Hosts: []string{"a:b"}}, {Hosts: []string{long + ":192.0.2.1"}},
		{Search: make([]string, 65)},
	} {
		if _, err := checkDNS(&bad); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if checkAliases([]string{"db", "db.shop", "_x"}) != nil || checkAliases([]string{"a..b"}) == nil || checkHostname("web") != nil || checkHostname(long+"a") == nil {
		t.Error("aliases or hostnames")
	}
}

func TestUpdateServers(t *testing.T) {
	list, _ := CheckServers([]string{"192.0.2.1", "192.0.2.2"})
	for _, tc := range []struct {
		add, drop []string
		want      string
	}{
		{nil, nil, "[192.0.2.1 192.0.2.2] <nil>"},
		{[]string{"192.0.2.3", "192.0.2.1"}, []string{"192.0.2.1"}, "[192.0.2.2 192.0.2.3 192.0.2.1] <nil>"},
		{nil, []string{"192.0.2.1", "192.0.2.2"}, "[] <nil>"},
		{nil, []string{"192.0.2.9"}, "[] name server 192.0.2.9 is not one of its own: see vswitch network inspect"},
	} {
		got, err := updateServers(list, tc.add, tc.drop)
		if text := fmt.Sprint(got, " ", err); text != tc.want {
			t.Errorf("+%v -%v: %s, want %s", tc.add, tc.drop, text, tc.want)
		}
	}
	if fmt.Sprint(list) != "[192.0.2.1 192.0.2.2]" {
		t.Errorf("the old list is %v", list)
	}
}
