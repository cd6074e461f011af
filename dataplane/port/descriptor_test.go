package port_test

import (
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane/port"
	"github.com/vswitch/vswitch/dataplane/port/porttest"
)

// A descriptor of a kind that this program does not have, or of nothing, makes no port.
func TestOpenRefuses(t *testing.T) {
	for want, d := range map[string]port.Descriptor{
		"kind 200: this program has no such port": {Kind: 200, Name: "web", FD: 1},
		"kind 0: this program has no such port":   {Name: "web"},
		"port web: duplicate its descriptor":      {Kind: port.KindPacket, Name: "web", FD: -1},
		"tap web: duplicate its descriptor":       {Kind: port.KindTAP, Name: "web", FD: -1, Stats: -1},
	} {
		if p, err := port.Open(d); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, %v, want %q in it", p, err, want)
		}
	}
	d := porttest.Describe(porttest.New("once"))
	p, err := port.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := port.Open(d); err == nil {
		t.Error("one port in memory was made twice")
	}
}
