package control

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestF26KilledInTheMiddle kills the daemon at random moments while containers come
// and go. Afterwards each is there as a whole or not at all, and the kernel holds
// nothing that the daemon does not know.
func TestF26KilledInTheMiddle(t *testing.T) {
	const rounds, workers = 8, 8
	r := newRig(t)
	spaces := make([]*netlab.NS, workers)
	for i := range spaces {
		spaces[i] = labtest.New(t, fmt.Sprint("ns", i))
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	ctx := t.Context()
	for round := range rounds {
		r.start()
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for w := range workers {
			wg.Go(func() {
				name := fmt.Sprint("c", w)
				for {
					select {
					case <-stop:
						return
					default:
					}
					// Errors are those of a daemon that is killed; what stands
					// afterwards is what counts.
					r.Attach(ctx, api.Attach{Name: name, Netns: spaces[w].Path(), Publish: []string{
						fmt.Sprintf("%d:80", 8000+w), fmt.Sprintf("%d-%d:1000-1999/udp", 10000+1000*w, 10999+1000*w)}})
					r.Detach(ctx, name)
				}
			})
		}
		time.Sleep(time.Duration(rnd.IntN(120)) * time.Millisecond)
		r.kill()
		close(stop)
		wg.Wait()

		r.start()
		list, err := r.Containers(ctx)
		if err != nil {
			t.Fatal(err)
		}
		want := len(r.links) + 1 + len(list) // a TAP, and a cable for each
		if got := r.hostLinks(); len(got) != want {
			t.Errorf("round %d: links %v for %d containers", round, got, len(list))
		}
		for w, ns := range spaces {
			l, err := ns.Links()
			if err != nil {
				t.Fatal(err)
			}
			attached := 0
			for _, ct := range list {
				if ct.Name == fmt.Sprint("c", w) {
					attached = 1
					if len(ct.Endpoints) != 1 || len(ct.Ports) != 2 {
						t.Errorf("round %d: half a container: %+v", round, ct)
					}
				}
			}
			if len(l) != 1+attached {
				t.Errorf("round %d: links %v in namespace %d, attached: %d", round, l, w, attached)
			}
		}
		out, err := r.world.Host.Command("sysctl", "-n", "net.ipv4.ip_local_reserved_ports").Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(out)); (got == "") != (len(list) == 0) {
			t.Errorf("round %d: reserved ports %q with %d containers", round, got, len(list))
		}
		for _, ct := range list {
			if err := r.Detach(ctx, ct.Name); err != nil {
				t.Error(err)
			}
		}
		r.stop()
		r.wantNoTrace()
	}
}
