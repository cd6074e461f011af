package control

import (
	"testing"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
)

// TestF12HostEndDown: who sets the host's end of a container down cuts that container, also
// from what the kernel carries, and no other. Up again it goes on.
func TestF12HostEndDown(t *testing.T) {
	r := newRig(t)
	r.start()
	a, _ := r.attach("a", api.Attach{})
	b, bct := r.attach("b", api.Attach{})
	c, cct := r.attach("c", api.Attach{})
	active := func(n int) {
		t.Helper()
		eventually(t, "the kernel carries the streams", func() bool { return r.stats().Flows.Active == n })
	}
	in := streamed(t, a, addr(bct)+":5353", listen(t, b, ":5353"))
	active(1)
	out := streamed(t, b, netlab.OutsideAddr+":5353", listen(t, r.world.Outside, ":5353"))
	active(2)
	other := streamed(t, a, addr(cct)+":5353", listen(t, c, ":5353"))
	host, veth := r.world.Host, bct.Endpoints[0].HostInterface
	for range 3 {
		if err := host.SetDown(veth); err != nil {
			t.Fatal(err)
		}
		for what, s := range map[string]*stream{"into": in, "out of": out} {
			eventually(t, "nothing comes "+what+" the container", func() bool {
				last := s.passes(0)
				s.passes(100)
				return s.after(last) == 0
			})
		}
		last := other.passes(0)
		eventually(t, "another container is reached", func() bool { return other.after(last) >= 100 })
		if err := host.SetUp(veth); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*stream{in, out, other} {
			last := s.passes(0)
			eventually(t, "the stream arrives", func() bool { return s.after(last) >= 100 })
		}
	}
}
