package dataplane_test

import (
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/policy"
	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// TestExplainKnowsTheCap: what is said of a flow that finds no port, or the port of another that
// ends for it, is what then happens.
func TestExplainKnowsTheCap(t *testing.T) {
	for _, tc := range []struct {
		name     string
		from     string
		last     uint16 // of the pool
		flows    uint16 // of c1
		answered bool
		want     dataplane.DropReason
	}{
		{"as many as are left, all answered", "c1", 61031, 16, true, dataplane.DropPortsExhausted},
		{"as many as are left, none answered", "c1", 61031, 16, false, dataplane.NotDropped},
		{"as many as are left, of another", "c2", 61031, 16, true, dataplane.NotDropped},
		{"less than are left", "c1", 61031, 15, true, dataplane.NotDropped},
		{"all, answered", "c2", 61011, 12, true, dataplane.DropPortsExhausted},
		{"all, not answered", "c2", 61011, 12, false, dataplane.NotDropped},
	} {
		l := New(t)
		l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: tc.last}}
		eachPolicy(l, func(n *policy.Network) { n.Filter = policy.FilterEIF })
		l.Advance(2 * time.Minute)
		l.Advance(time.Second)
		for i := range tc.flows {
			l.Send("c1", UDP("c1", 5000+i, World+":53", "ask"))
			out := See(t, l.Expect("up"))
			if tc.answered {
				l.Send("up", Inbound(header.ProtoUDP, out.To(), out.From(), 0, "answer"))
				l.Expect("c1")
			}
		}
		next := UDP(tc.from, 6000, World+":53", "one more")
		x, err := l.Switch.Explain(l.Port(tc.from), next)
		if err != nil || x.Reason != tc.want {
			t.Errorf("%s: explained as %v, %v, want %v", tc.name, x.Reason, err, tc.want)
		}
		before := l.Dropped(tc.from, dataplane.DropPortsExhausted)
		l.Send(tc.from, next)
		if sent, lost := len(l.Got("up")), l.Dropped(tc.from, dataplane.DropPortsExhausted)-before; (lost > 0) != (tc.want != dataplane.NotDropped) || sent+int(lost) != 1 {
			t.Errorf("%s: %d were sent and %d lost, want %v", tc.name, sent, lost, tc.want)
		}
		l.Got(tc.from)
	}
}
