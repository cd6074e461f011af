package model

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/dataplane/conntrack"
)

func TestPortsBeside(t *testing.T) {
	low := conntrack.PortRange{First: 600, Last: 1023}
	for _, tc := range []struct {
		low, high uint16
		want      []conntrack.PortRange
	}{
		{32768, 60999, []conntrack.PortRange{{First: 61000, Last: 65535}, {First: 16384, Last: 32767}, {First: 1024, Last: 16383}, low}},
		{1024, 65535, []conntrack.PortRange{low}},
		{10000, 65535, []conntrack.PortRange{{First: 1024, Last: 9999}, low}},
		{1, 100, []conntrack.PortRange{{First: 1024, Last: 65535}}},
	} {
		if d := cmp.Diff(tc.want, PortsBeside(tc.low, tc.high)); d != "" {
			t.Errorf("beside %d-%d (-want +got):\n%s", tc.low, tc.high, d)
		}
	}
}

func TestCompileMasqueradePorts(t *testing.T) {
	got, err := CompileMasqueradePorts([]string{"20000-29999", "700"})
	if d := cmp.Diff([]conntrack.PortRange{{First: 20000, Last: 29999}, {First: 700, Last: 700}}, got); d != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, d)
	}
	for _, in := range [][]string{{""}, {"0-10"}, {"20-10"}, {"1-65536"}, {"http"}, {"1-2-3"}, {"-5"}, {"1000-2000", "2000-3000"}} {
		if got, err := CompileMasqueradePorts(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}
