package control

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
		{"80", PublishSpec{Proto: tcp, First: 80, Last: 80}},
		{"80/udp", PublishSpec{Proto: udp, First: 80, Last: 80}},
		{"8080:80", PublishSpec{Proto: tcp, HostFirst: 8080, HostLast: 8080, First: 80, Last: 80}},
		{"8080:80/tcp", PublishSpec{Proto: tcp, HostFirst: 8080, HostLast: 8080, First: 80, Last: 80}},
		{":80", PublishSpec{Proto: tcp, First: 80, Last: 80}},
		{"8000-8010", PublishSpec{Proto: tcp, First: 8000, Last: 8010}},
		{"9000-9010:8000-8010/udp", PublishSpec{Proto: udp, HostFirst: 9000, HostLast: 9010, First: 8000, Last: 8010}},
		{"9000-9010:80", PublishSpec{Proto: tcp, HostFirst: 9000, HostLast: 9010, First: 80, Last: 80}},
		{"1-65535:1-65535", PublishSpec{Proto: tcp, HostFirst: 1, HostLast: 65535, First: 1, Last: 65535}},
		{"198.51.100.1:8080:80", PublishSpec{Proto: tcp, HostIP: v4, HostFirst: 8080, HostLast: 8080, First: 80, Last: 80}},
		{"198.51.100.1::80", PublishSpec{Proto: tcp, HostIP: v4, First: 80, Last: 80}},
		{"198.51.100.1:80", PublishSpec{Proto: tcp, HostIP: v4, First: 80, Last: 80}},
		{"[2001:db8::1]:8080:80", PublishSpec{Proto: tcp, HostIP: v6, HostFirst: 8080, HostLast: 8080, First: 80, Last: 80}},
		{"[2001:db8::1]::80", PublishSpec{Proto: tcp, HostIP: v6, First: 80, Last: 80}},
		{"0.0.0.0:8080:80", PublishSpec{Proto: tcp, HostIP: netip.IPv4Unspecified(), HostFirst: 8080, HostLast: 8080, First: 80, Last: 80}},
		{"[::]:8080:80", PublishSpec{Proto: tcp, HostIP: netip.IPv6Unspecified(), HostFirst: 8080, HostLast: 8080, First: 80, Last: 80}},
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
	got, err := ParseExpose("8000-8010/udp")
	want := PublishSpec{Proto: header.ProtoUDP, First: 8000, Last: 8010}
	if err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	for _, in := range []string{"", "8080:80", "[::1]:80", "x", "80/icmp"} {
		if _, err := ParseExpose(in); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("ParseExpose(%q): %v, want ErrInvalid", in, err)
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
		if p.First == 0 || p.Last < p.First || p.HostLast < p.HostFirst || (p.HostFirst == 0) != (p.HostLast == 0) {
			t.Fatalf("ParsePublish(%q) = %+v: no interval", s, p)
		}
		if inner, host := p.Last-p.First, p.HostLast-p.HostFirst; p.HostFirst != 0 && inner != host && inner != 0 {
			t.Fatalf("ParsePublish(%q) = %+v: lengths differ", s, p)
		}
		again, err := ParsePublish(p.String())
		if err != nil || again != p {
			t.Fatalf("ParsePublish(%q) = %+v, written %q, read again %+v, %v", s, p, p, again, err)
		}
	})
}

func TestPublishConflicts(t *testing.T) {
	a, b := netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.2")
	web := &container{}
	web.rec.Name = "web"
	var tab publishTable
	tab.add(&mapping{ct: web, proto: header.ProtoTCP, hostIP: a, first: 8000, last: 8099})
	tab.add(&mapping{ct: web, proto: header.ProtoUDP, first: 53, last: 53})
	for _, tc := range []struct {
		proto       uint8
		ip          netip.Addr
		first, last uint16
		want        bool
	}{
		{header.ProtoTCP, a, 8050, 8050, true},
		{header.ProtoTCP, a, 7000, 8000, true},
		{header.ProtoTCP, a, 8099, 9000, true},
		{header.ProtoTCP, a, 1, 65535, true},
		{header.ProtoTCP, netip.Addr{}, 8050, 8050, false}, // the specific one wins
		{header.ProtoTCP, b, 8050, 8050, false},
		{header.ProtoUDP, a, 8050, 8050, false},
		{header.ProtoTCP, a, 8100, 8200, false},
		{header.ProtoUDP, b, 53, 53, false},
		{header.ProtoUDP, netip.Addr{}, 50, 60, true},
	} {
		if got := tab.conflict(tc.proto, tc.ip, tc.first, tc.last) != nil; got != tc.want {
			t.Errorf("conflict(%d, %v, %d-%d) = %v, want %v", tc.proto, tc.ip, tc.first, tc.last, got, tc.want)
		}
	}
	m := tab.conflict(header.ProtoTCP, a, 8090, 8200)
	if got, want := errPublished(m, 8090, 8200).Error(), "port 8090-8099/tcp is published by container web: choose another host port"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
