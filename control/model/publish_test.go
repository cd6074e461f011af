package model

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/dataplane/header"
)

func TestParsePublish(t *testing.T) {
	const tcp, udp = header.ProtoTCP, header.ProtoUDP
	v4, v6 := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8::1")
	for _, tc := range []struct {
		in   string
		want PublishSpec
	}{
		{"80", PublishSpec{Proto: tcp, ContainerFirst: 80, ContainerLast: 80}},
		{"80/udp", PublishSpec{Proto: udp, ContainerFirst: 80, ContainerLast: 80}},
		{"8080:80", PublishSpec{Proto: tcp, HostFirst: 8080, HostLast: 8080, ContainerFirst: 80, ContainerLast: 80}},
		{"8080:80/tcp", PublishSpec{Proto: tcp, HostFirst: 8080, HostLast: 8080, ContainerFirst: 80, ContainerLast: 80}},
		{":80", PublishSpec{Proto: tcp, ContainerFirst: 80, ContainerLast: 80}},
		{"8000-8010", PublishSpec{Proto: tcp, ContainerFirst: 8000, ContainerLast: 8010}},
		{"9000-9010:8000-8010/udp", PublishSpec{Proto: udp, HostFirst: 9000, HostLast: 9010, ContainerFirst: 8000, ContainerLast: 8010}},
		{"9000-9010:80", PublishSpec{Proto: tcp, HostFirst: 9000, HostLast: 9010, ContainerFirst: 80, ContainerLast: 80}},
		{"1-65535:1-65535", PublishSpec{Proto: tcp, HostFirst: 1, HostLast: 65535, ContainerFirst: 1, ContainerLast: 65535}},
		{"198.51.100.1:8080:80", PublishSpec{Proto: tcp, HostIP: v4, HostFirst: 8080, HostLast: 8080, ContainerFirst: 80, ContainerLast: 80}},
		{"198.51.100.1::80", PublishSpec{Proto: tcp, HostIP: v4, ContainerFirst: 80, ContainerLast: 80}},
		{"198.51.100.1:80", PublishSpec{Proto: tcp, HostIP: v4, ContainerFirst: 80, ContainerLast: 80}},
		{"[2001:db8::1]:8080:80", PublishSpec{Proto: tcp, HostIP: v6, HostFirst: 8080, HostLast: 8080, ContainerFirst: 80, ContainerLast: 80}},
		{"[2001:db8::1]::80", PublishSpec{Proto: tcp, HostIP: v6, ContainerFirst: 80, ContainerLast: 80}},
		{"0.0.0.0:8080:80", PublishSpec{Proto: tcp, HostIP: netip.IPv4Unspecified(), HostFirst: 8080, HostLast: 8080, ContainerFirst: 80, ContainerLast: 80}},
		{"[::]:8080:80", PublishSpec{Proto: tcp, HostIP: netip.IPv6Unspecified(), HostFirst: 8080, HostLast: 8080, ContainerFirst: 80, ContainerLast: 80}},
	} {
		got, err := ParsePublish(tc.in)
		if err != nil || got != tc.want {
			t.Errorf("ParsePublish(%q) = %+v, %v, want %+v", tc.in, got, err, tc.want)
		}
		again, err := ParsePublish(got.String())
		if err != nil || again != got {
			t.Errorf("ParsePublish(%q.String() = %q) = %+v, %v, want %+v", tc.in, got, again, err, got)
		}
	}
	for _, tc := range []struct{ in, say string }{
		{"", "missing"},
		{"/tcp", "missing"},
		{"8080:", "missing"},
		{"0", "out of range"},
		{"65536", "out of range"},
		{"70000:80", "out of range"},
		{"99999999999999999999:80", "out of range"},
		{"-1:80", "missing"},
		{"80-", "missing"},
		{"90-80", "ends before it starts"},
		{"8000-8005:80-90", "one length"},
		{"8000:80-90", "one length"},
		{"http:80", "not a number"},
		{"+80", "not a number"},
		{"80/TCP", "use tcp, udp or sctp"},
		{"80/", "use tcp, udp or sctp"},
		{"web:8080:80", "not an IP address"},
		{"2001:db8::1:8080:80", "brackets"},
		{"[2001:db8::1]8080:80", "]:"},
		{"[198.51.100.1]:8080:80", "brackets are for IPv6"},
		{"[fe80::1%eth0]:8080:80", "not an IP address"},
		{":8080:80", "empty"},
		{"1:2:3:4", "too many colons"},
		{"[2001:db8::1]:1:2:3", "too many colons"},
		{strings.Repeat("1", 200), "too many"},
	} {
		got, err := ParsePublish(tc.in)
		if err == nil {
			t.Errorf("ParsePublish(%q) = %+v, want an error about %q", tc.in, got, tc.say)
			continue
		}
		if !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), tc.say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("ParsePublish(%q): %q, want one line of kind ErrInvalid about %q", tc.in, err, tc.say)
		}
	}
}

func TestParseExpose(t *testing.T) {
	got, err := parseExpose("8000-8010/udp")
	want := PublishSpec{Proto: header.ProtoUDP, ContainerFirst: 8000, ContainerLast: 8010}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, in := range []string{"", "8080:80", "[::1]:80", "x", "80/icmp"} {
		if _, err := parseExpose(in); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("parseExpose(%q): %v, want ErrInvalid", in, err)
		}
	}
}

func FuzzParsePublish(f *testing.F) {
	for _, s := range []string{"80", "8080:80/udp", "198.51.100.1:8080-8090:80-90/tcp", "[2001:db8::1]::80", "::", "[", "[]:", "1-:", "/", "80/tcp/udp"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePublish(s)
		if err != nil {
			return
		}
		if p.ContainerFirst == 0 || p.ContainerLast < p.ContainerFirst || p.HostLast < p.HostFirst || (p.HostFirst == 0) != (p.HostLast == 0) {
			t.Fatalf("ParsePublish(%q) = %+v: no interval", s, p)
		}
		if inner, host := p.ContainerLast-p.ContainerFirst, p.HostLast-p.HostFirst; p.HostFirst != 0 && inner != host && inner != 0 {
			t.Fatalf("ParsePublish(%q) = %+v: lengths differ", s, p)
		}
		again, err := ParsePublish(p.String())
		if err != nil || again != p {
			t.Fatalf("ParsePublish(%q) = %+v, written %q, read again %+v, %v", s, p, p, again, err)
		}
	})
}
