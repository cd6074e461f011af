package control

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/doctor"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestS46ProgramsOnTheWayOut: a chain of nftables at the egress of an uplink sees all that
// containers send there, as with the kernel's bridge and NAT, also what the kernel carried
// before, from the moment on when an event names it; so does the doctor. The other way goes on
// by the kernel.
func TestS46ProgramsOnTheWayOut(t *testing.T) {
	labtest.NeedBPF(t)
	labtest.NeedProgram(t, "nft")
	const uplink = "eth0"
	r := newRig(t)
	r.start()
	in, _ := r.attach("web", api.Attach{})
	socket := listen(t, r.world.Outside, ":5353")
	out, err := in.Dial("udp", netlab.OutsideAddr+":5353", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	send := func() {
		for range 20 {
			if _, err := out.Write([]byte("news")); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
	}
	carried := func(want uint64) func() bool {
		before := r.stats().Flows.Frames
		return func() bool {
			send()
			return r.stats().Flows.Frames > before+want
		}
	}
	eventually(t, "the kernel carries the stream", carried(200))
	chain := "table netdev keep { chain out { type filter hook egress device " + uplink + " priority 0; policy drop; }; }"
	if said, err := r.world.Host.Command("nft", chain).CombinedOutput(); err != nil {
		if strings.Contains(string(said), "not supported") {
			labtest.SkipOldKernel(t, 5, 16, "no chains of nftables at the egress")
		}
		t.Fatalf("%v: %s", err, said)
	}
	eventually(t, "an event names it", func() bool {
		send()
		return slices.ContainsFunc(pastEvents(t, r), func(e api.Event) bool {
			return e.Type == api.EventUplinkProgram && e.Interface == uplink && strings.Contains(e.Message, "nftables chain keep out")
		})
	})
	heard(socket) // from before
	for range 20 {
		send()
	}
	if n := heard(socket); n != 0 {
		t.Errorf("%d datagrams passed by the chain after the event", n)
	}
	wantCheck(t, r.examine(true), "programs", doctor.Note, "nftables chain keep out")
	if said, err := r.world.Host.Command("nft", "delete table netdev keep").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	eventually(t, "the kernel carries the stream again", carried(200))
	if heard(socket) == 0 {
		t.Error("nothing comes out any more")
	}
}
