package model

import (
	"strings"
	"testing"
)

func TestParseEgress(t *testing.T) {
	for _, tc := range []struct{ in, out, err string }{
		{"", "", ""},
		{"dev=wg0", "dev=wg0", ""},
		{"via=10.0.0.1", "via=10.0.0.1", ""},
		{"source=198.51.100.50,dev=eth1", "dev=eth1,source=198.51.100.50", ""},
		{"via=2001:db8::1,via=10.0.0.1", "via=10.0.0.1,via=2001:db8::1", ""},
		{"via=::ffff:10.0.0.1", "via=10.0.0.1", ""},
		{"dev=eth1,via=fe80::1", "dev=eth1,via=fe80::1", ""},
		{"via=fe80::1", "", "name its interface"},
		{"via=fe80::1%eth1", "", "no address"},
		{"source=fe80::1,dev=eth1", "", "no address"},
		{"via=127.0.0.1", "", "no address"},
		{"source=0.0.0.0", "", "no address"},
		{"source=224.0.0.1", "", "no address"},
		{"via=10.0.0.1,via=10.0.0.2", "", "one family"},
		{"dev=a,dev=b", "", "two interfaces"},
		{"dev=", "", "egress"},
		{"dev=a b", "", "egress"},
		{"dev=much-too-long-a-name", "", "egress"},
		{"wg0", "", "write dev=INTERFACE"},
		{",", "", "write dev=INTERFACE"},
		{"table=52", "", "write dev=INTERFACE"},
	} {
		e, err := ParseEgress(tc.in)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: error %v, want %q", tc.in, err, tc.err)
			}
			continue
		}
		if err != nil || e.String() != tc.out {
			t.Errorf("%q: %q, %v, want %q", tc.in, e, err, tc.out)
		}
	}
}
