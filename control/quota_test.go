package control

import (
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// A container that reaches a limit of its own is named in an event, and what was
// refused is counted; one without limits is not bothered.
func TestQuotaThatIsHitIsTold(t *testing.T) {
	r := newRig(t)
	r.start()
	serve(t, r.world.Outside, ":9000", "outside")
	for _, tt := range []struct {
		name, drop string
		limits     api.Connect
	}{
		{"few", "postrouting-quota", api.Connect{MaxFlows: 2}},
		{"slow", "postrouting-flow-rate", api.Connect{FlowRate: 1}},
		{"free", "", api.Connect{MaxFlows: -1, FlowRate: -1}},
	} {
		c, _ := r.attach(tt.name, api.Attach{Networks: []api.Connect{tt.limits}})
		before, err := r.Stats(t.Context(), api.StatsQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for range 6 {
			if conn, err := c.Dial("tcp", netlab.OutsideAddr+":9000", 300*time.Millisecond); err == nil {
				defer conn.Close()
			}
		}
		ct, err := r.Container(t.Context(), tt.name)
		if err != nil || ct.Endpoints[0].MaxFlows != tt.limits.MaxFlows || ct.Endpoints[0].FlowRate != tt.limits.FlowRate {
			t.Errorf("%s is shown as %+v, %v", tt.name, ct, err)
		}
		after, err := r.Stats(t.Context(), api.StatsQuery{})
		if err != nil {
			t.Fatal(err)
		}
		for _, drop := range []string{"postrouting-quota", "postrouting-flow-rate"} {
			if n := after.Drops[drop] - before.Drops[drop]; n > 0 != (drop == tt.drop) {
				t.Errorf("%s: %d refused as %s", tt.name, n, drop)
			}
		}
		told := func() (found bool) {
			zero := uint64(0)
			err := r.Events(t.Context(), api.EventQuery{Since: &zero, Once: true}, func(e api.Event) error {
				found = found || e.Type == "limit-hit" && e.Container == tt.name && strings.Contains(e.Message, "quota")
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return found
		}
		for until := time.Now().Add(30 * time.Second); tt.drop != "" && !told() && time.Now().Before(until); {
			time.Sleep(20 * time.Millisecond)
		}
		if told() != (tt.drop != "") {
			t.Errorf("%s: an event tells of it: %v", tt.name, told())
		}
	}
}
