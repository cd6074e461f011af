package control

import (
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestF24WallClock: the clock of the machine is set back and far ahead. No flow ends for it, new
// ones begin, and what is promised for a time is kept.
func TestF24WallClock(t *testing.T) {
	if os.Getenv("VSWITCH_TEST_CLOCK") == "" {
		labtest.Emulated.Skip(t, "it sets the clock")
	}
	r := newRig(t)
	r.start()
	ctx := t.Context()
	all := r.ways("tcp")
	goOn(t, all)
	lease, err := r.LeaseAddress(ctx, "bridge", api.LeaseRequest{Runtime: "docker"})
	if err != nil {
		t.Fatal(err)
	}
	leased, _, _ := strings.Cut(lease.Address, "/")
	begin := time.Now()
	set := func(ahead time.Duration) {
		t.Helper()
		// What has passed is counted by the clock that nobody sets.
		now := unix.NsecToTimespec(begin.Add(time.Since(begin) + ahead).UnixNano())
		if err := unix.ClockSettime(unix.CLOCK_REALTIME, &now); err != nil {
			t.Fatal(err)
		}
	}
	defer set(0)
	const hour, years = time.Hour, 10 * 365 * 24 * time.Hour
	for _, ahead := range []time.Duration{-hour, years, 0} {
		set(ahead)
		time.Sleep(2 * time.Second) // housekeeping is once a second
		goOn(t, all)
		if n := r.stats().Connections; n < len(all)/2 {
			t.Errorf("%v ahead %d flows are tracked of %d", ahead, n, len(all))
		}
		if again, err := r.LeaseAddress(ctx, "bridge", api.LeaseRequest{Runtime: "docker", Address: leased}); err == nil {
			t.Errorf("%v ahead a leased address is leased again: %+v", ahead, again)
		}
		c, err := r.world.Outside.Dial("tcp", netlab.HostAddr+":7080", 30*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	endAll(t, all)
}
