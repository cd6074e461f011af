package model

import (
	"errors"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

func TestNames(t *testing.T) {
	for _, ok := range []string{"web", "a", "Web-1.x_y", "0", strings.Repeat("x", 63)} {
		if err := CheckName("container", ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "../x", ".", "-x", "_x", "a b", "a/b", "a\x00b", "ä", "%n", "a\nb", strings.Repeat("x", 64)} {
		if err := CheckName("container", bad); !errors.Is(err, api.ErrInvalid) || strings.ContainsAny(err.Error(), "\n\x00") {
			t.Errorf("%q: %v, want ErrInvalid on one line", bad, err)
		}
	}
	for _, ok := range []string{"eth0", "a", "veth0123456789a"[:15], "x.100", "a-b"} {
		if err := checkIfname(ok); err != nil {
			t.Errorf("interface %q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "lo", "all", "default", "a/b", "a b", "a:1", "eth%d", "0123456789abcdef", "a\x00"} {
		if err := checkIfname(bad); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("interface %q: %v, want ErrInvalid", bad, err)
		}
	}
}

func TestCheckNetwork(t *testing.T) {
	rec, err := CheckNetwork(api.NetworkCreate{Name: "blue", Subnet: "10.1.2.3/24", IPRange: "10.1.2.128/25", Reserved: map[string]string{"a": "10.1.2.9"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := rec.Subnets[0].Prefix.String() + " " + rec.Subnets[0].Gateway.String(); got != "10.1.2.0/24 10.1.2.1" {
		t.Errorf("got %s", got)
	}
	for _, tc := range []struct {
		in  api.NetworkCreate
		say string
	}{
		{api.NetworkCreate{Name: "host"}, "is a mode"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0.0"}, "no prefix length"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0/24"}, "malformed"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0.0/33"}, "malformed"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0.0/32"}, "no room"},
		{api.NetworkCreate{Name: "b", Subnet: "0.0.0.0/0"}, "means this host"},
		{api.NetworkCreate{Name: "b", Subnet: "127.1.0.0/16"}, "loopback"},
		{api.NetworkCreate{Name: "b", Subnet: "224.0.0.0/24"}, "multicast"},
		{api.NetworkCreate{Name: "b", Subnet: "fe80::/64"}, "link-local"},
		{api.NetworkCreate{Name: "b", Subnet: "::ffff:10.1.0.0/120"}, "IPv4 form"},
		{api.NetworkCreate{Name: "b", Gateway: "10.1.0.1"}, "need a subnet"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0.0/24", Gateway: "10.2.0.1"}, "outside subnet"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0.0/24", Gateway: "10.1.0.255"}, "broadcast"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0.0/24", Gateway: "x"}, "not an IP address"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0.0/24", IPRange: "10.1.0.0/16"}, "outside subnet"},
		{api.NetworkCreate{Name: "b", Subnet: "10.1.0.0/24", Reserved: map[string]string{"x": "10.2.0.1"}}, "outside subnet"},
		{api.NetworkCreate{Name: "b", MTU: 67}, "MTU 67"},
		{api.NetworkCreate{Name: "b", MTU: 65536}, "MTU 65536"},
		{api.NetworkCreate{Name: "b", Subnet: "fd00::/64", MTU: 1279}, "IPv6"},
		{api.NetworkCreate{Name: "b", Labels: map[string]string{"": "x"}}, "label"},
	} {
		_, err := CheckNetwork(tc.in)
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%+v: %v, want ErrInvalid that says %q", tc.in, err, tc.say)
		}
	}
}
