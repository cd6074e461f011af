package control

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane"
)

func TestNames(t *testing.T) {
	for _, ok := range []string{"web", "a", "Web-1.x_y", "0", strings.Repeat("x", 63)} {
		if err := checkName("container", ok); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range []string{"", "../x", ".", "-x", "_x", "a b", "a/b", "a\x00b", "ä", "%n", "a\nb", strings.Repeat("x", 64)} {
		if err := checkName("container", bad); !errors.Is(err, api.ErrInvalid) || strings.ContainsAny(err.Error(), "\n\x00") {
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
	rec, err := checkNetwork(api.NetworkCreate{Name: "blue", Subnet: "10.1.2.3/24", IPRange: "10.1.2.128/25", Reserved: map[string]string{"a": "10.1.2.9"}})
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
		_, err := checkNetwork(tc.in)
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), tc.say) {
			t.Errorf("%+v: %v, want ErrInvalid that says %q", tc.in, err, tc.say)
		}
	}
}

func TestMasqueradePorts(t *testing.T) {
	for _, tc := range []struct {
		low, high uint16
		want      []dataplane.PortRange
	}{
		{32768, 60999, []dataplane.PortRange{{First: 61000, Last: 65535}, {First: 16384, Last: 32767}, {First: 1024, Last: 16383}}},
		{1024, 65535, nil},
		{10000, 65535, []dataplane.PortRange{{First: 1024, Last: 9999}}},
		{1, 100, []dataplane.PortRange{{First: 1024, Last: 65535}}},
	} {
		if d := cmp.Diff(tc.want, masqueradePorts(tc.low, tc.high)); d != "" {
			t.Errorf("beside %d-%d (-want +got):\n%s", tc.low, tc.high, d)
		}
	}
}

func TestUndoGoesBackInOrder(t *testing.T) {
	var log []string
	step := func(u *undo, name string, err error) error {
		return u.do(name, func() error { log = append(log, "+"+name); return err },
			func() error { log = append(log, "-"+name); return nil })
	}
	boom := errors.New("boom")
	u := &undo{}
	step(u, "a", nil)
	step(u, "b", nil)
	if err := step(u, "c", boom); err != boom {
		t.Fatalf("got %v, want the step's error", err)
	}
	if err := u.rollback(); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(log, " "), "+a +b +c -b -a"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestKindsSurviveWrapping(t *testing.T) {
	err := containerErr("web", fullf("network %s is full", "blue"))
	if !errors.Is(err, api.ErrFull) || api.Status(err) != 507 || err.Error() != "container web: network blue is full" {
		t.Errorf("got %q with status %d", err, api.Status(err))
	}
}
