package reasons

import (
	"strings"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
)

// Every reason has its row, and no word in braces is left in it.
func TestRemediesAreComplete(t *testing.T) {
	full := Facts{"web", "bridge", "veth1", "tcp", "10.1.0.2", "10.2.0.2", "80", "db", "blue"}
	for r := dataplane.NotDropped + 1; r < dataplane.NumDropReasons; r++ {
		for _, f := range []Facts{{}, full} {
			means, fix := Explain(r, f)
			if means == "" {
				t.Errorf("%s has no row in remedies: say what it means and what changes it", r)
			}
			if strings.ContainsAny(means+fix, "{}") {
				t.Errorf("%s: %q, %q", r, means, fix)
			}
		}
	}
	if m := remedies[dataplane.NotDropped]; m != (remedy{}) {
		t.Errorf("not dropped: %+v", m)
	}
	if means, fix := Explain(dataplane.NumDropReasons, full); means != "" || fix != "" {
		t.Errorf("no reason: %q, %q", means, fix)
	}
}
