package observe

import (
	"testing"
)

func TestParseWhy(t *testing.T) {
	for in, want := range map[string]string{
		"1.1.1.1:443":       "1.1.1.1:443/tcp",
		"1.1.1.1:53/udp":    "1.1.1.1:53/udp",
		"1.1.1.1":           "1.1.1.1/icmp",
		"1.1.1.1/icmp":      "1.1.1.1/icmp",
		"[2001:db8::1]:80":  "[2001:db8::1]:80/tcp",
		"[2001:db8::1]":     "2001:db8::1/icmp",
		"2001:db8::1":       "2001:db8::1/icmp",
		"2001:db8::1/icmp":  "2001:db8::1/icmp",
		"::ffff:1.2.3.4":    "1.2.3.4/icmp",
		"db:5432":           "db (invalid AddrPort/tcp)",
		"db.shop_1/icmp":    "db.shop_1 (invalid IP/icmp)",
		"docker:web:80":     "docker:web (invalid AddrPort/tcp)",
		"docker:web":        "docker:web (invalid IP/icmp)",
		"docker:80":         "docker (invalid AddrPort/tcp)",
		"service:db:53/udp": "service:db (invalid AddrPort/udp)",
		"other:web:80":      "", "docker:web:": "", "docker::80": "",
		"": "", ":80": "", "1.1.1.1:": "", "1.1.1.1:0": "", "1.1.1.1:65536": "", "1.1.1.1:x": "", "1.1.1.1/tcp": "",
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
