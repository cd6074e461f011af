package control

import (
	"fmt"
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/talk"
)

// talks begins conversations of all kinds that ok lets through, and waits until the kernel
// carries them.
func (r *rig) talks(l *talk.Lab, ok func(k talk.Kind, network string) bool) (all []*talk.Ticks) {
	r.t.Helper()
	for family := range 2 {
		for _, k := range l.Kinds() {
			for _, network := range []string{"udp", "tcp"} {
				if !ok(k, network) {
					continue
				}
				what := fmt.Sprintf("%s, %s, %s", k.What, network, k.To[family])
				// One after the other: two that both come to the switch may share a counter of frames.
				all = append(all, talk.Begin(r.t, what, k.From, network, k.To[family]))
				eventually(r.t, "the kernel carries "+what, func() bool { return r.stats().Flows.Active >= 2*len(all) })
			}
		}
	}
	return all
}

// TestF01TakeOver: a daemon is killed and started again, then stopped and started again. Each flow of
// every kind that the kernel carried is one of the next daemon, with its rows, and goes on.
func TestF01TakeOver(t *testing.T) {
	r := newRig(t)
	r.cfg.IPv6 = true
	worldIsUp(t, r)
	r.start()
	// A device of a network loses frames while nobody has it open.
	all := r.talks(talk.New(t, r.world, r.Client), func(k talk.Kind, network string) bool {
		return network == "tcp" || k.What != "host to container" && k.What != "container to host"
	})
	tracked := func() int {
		list, err := r.NAT(t.Context(), api.NATQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	told := func() int {
		list, err := r.Flows(t.Context(), api.FlowQuery{})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := tracked()
	for _, end := range []func(){r.kill, r.stop} {
		end()
		heard := make([]int64, len(all))
		for i, k := range all {
			heard[i] = k.Heard()
		}
		r.start()
		if n := r.stats().Flows.Active; n < 2*len(all) {
			t.Errorf("%d rows carry, before %d", n, 2*len(all))
		}
		if n := tracked(); n < before {
			t.Errorf("%d flows are tracked, before %d", n, before)
		}
		if n := told(); n < len(all) {
			t.Errorf("%d flows are told of %d", n, len(all))
		}
		for i, k := range all {
			eventually(t, "it goes on: "+k.What, func() bool { return k.Ended() || k.Heard() > heard[i]+10 })
		}
		if n := r.stats().Flows.Active; n < 2*len(all) {
			t.Errorf("later %d rows carry, before %d", n, 2*len(all))
		}
	}
	for _, k := range all {
		if err := k.End(); err != nil {
			t.Errorf("%s: %v", k.What, err)
		}
	}
}
