package model

import (
	"strings"
	"testing"

	"github.com/vswitch/vswitch/control/api"
)

func TestLayer2OptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		guard string
		vlan  int
		trunk string
		want  string
	}{
		{"maybe", 0, "", "use on or off"},
		{"", 4095, "", "use 1 to 4094"},
		{"", -1, "", "use 1 to 4094"},
		{"", 0, "10,x", "write it like"},
		{"", 0, "20-10", "write it like"},
		{"", 0, "0", "write it like"},
		{"", 0, "1-4095", "write it like"},
		{"", 0, "10-20,15", "twice"},
		{"", 15, "10-20", "name it once"},
	} {
		if _, err := ParseLayer2(c.guard, c.vlan, c.trunk); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c, err, c.want)
		}
	}
	l, err := ParseLayer2("", 5, "30,10-12")
	if err != nil || l.TrunkText() != "10-12,30" || l.Guard() != api.GuardOff {
		t.Errorf("%+v, %v", l, err)
	}
	if l, err := ParseLayer2("on", 0, "30"); err != nil || l.Guard() != api.GuardOn {
		t.Errorf("%+v, %v", l, err)
	}
}
