package control

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
)

// TestF25ThousandParallel attaches and detaches a thousand containers, 64 at a
// time, and compares everything the kernel knows before and after.
func TestF25ThousandParallel(t *testing.T) {
	const total, atOnce = 1000, 64
	r := newRig(t)
	r.start()
	ctx := t.Context()
	if _, err := r.CreateNetwork(ctx, api.NetworkCreate{Name: "big", Subnet: "10.64.0.0/16"}); err != nil {
		t.Fatal(err)
	}
	spaces := make([]*netlab.NS, atOnce)
	for i := range spaces {
		spaces[i] = labtest.New(t, fmt.Sprint("ns", i))
	}
	_, one := r.attach("warm", api.Attach{Networks: []api.Connect{{Network: "big"}}, Publish: []string{"80"}})
	if err := r.Detach(ctx, "warm"); err != nil {
		t.Fatal(err)
	}
	links, fds, threads := r.hostLinks(), r.openFiles(), r.threads()

	var mu sync.Mutex
	seen := map[string]string{addr(one): "warm"}
	var worstAttach, worstDetach time.Duration
	var wg sync.WaitGroup
	next := make(chan int, total)
	for i := range total {
		next <- i
	}
	close(next)
	start := time.Now()
	for w := range atOnce {
		wg.Go(func() {
			for i := range next {
				name := fmt.Sprint("c", i)
				in := api.Attach{Name: name, Netns: spaces[w].Path(), Networks: []api.Connect{{Network: "big"}}}
				if i%10 == 0 {
					in.Publish = []string{"80", "53/udp"}
				}
				t0 := time.Now()
				ct, err := r.Attach(ctx, in)
				t1 := time.Now()
				if err != nil {
					t.Error(err)
					return
				}
				if err := r.Detach(ctx, name); err != nil {
					t.Error(err)
					return
				}
				t2 := time.Now()
				mu.Lock()
				// A freed address is not used again before the others were.
				if who := seen[addr(ct)]; who != "" {
					t.Errorf("%s has address %s of %s", name, addr(ct), who)
				}
				seen[addr(ct)] = name
				worstAttach, worstDetach = max(worstAttach, t1.Sub(t0)), max(worstDetach, t2.Sub(t1))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d containers in %v; slowest attach %v, detach %v", total, time.Since(start), worstAttach, worstDetach)
	if got := r.hostLinks(); !slices.Equal(got, links) {
		t.Errorf("%d links, want %d", len(got), len(links))
	}
	r.Client.Close() // its connections
	eventually(t, "descriptors as before", func() bool { return r.openFiles() <= fds })
	if got := r.threads(); got > threads+atOnce {
		t.Errorf("%d threads, before %d", got, threads)
	}
	if list, err := r.Containers(ctx); err != nil || len(list) != 0 {
		t.Errorf("%d containers are left, %v", len(list), err)
	}
	if st, err := r.Stats(ctx, api.StatsQuery{}); err != nil || len(st.Ports) != 3 { // two TAPs, one uplink
		t.Errorf("%d ports are left, %v", len(st.Ports), err)
	}
	r.stop()
	r.wantNoTrace()
}

// TestF26SameNameAtOnce: of many attaches of one name, all with the same request,
// one does the work and all succeed; detaches in between change that not.
func TestF26SameNameAtOnce(t *testing.T) {
	r := newRig(t)
	r.start()
	ns := labtest.New(t, "web")
	links := r.hostLinks()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if i%4 == 3 {
				if err := r.Detach(t.Context(), "web"); err != nil {
					t.Error(err)
				}
				return
			}
			if _, err := r.Attach(t.Context(), api.Attach{Name: "web", Netns: ns.Path(), Publish: []string{"8080:80"}}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := r.Detach(t.Context(), "web"); err != nil {
		t.Error(err)
	}
	if got := r.hostLinks(); !slices.Equal(got, links) {
		t.Errorf("links %v, want %v", got, links)
	}
}

func (r *rig) openFiles() int {
	r.t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	return len(fds)
}

func (r *rig) threads() int {
	r.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	home, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", r.cmd.Process.Pid))
	if err != nil {
		r.t.Fatal(err)
	}
	for _, th := range list {
		ns, err := os.Readlink(fmt.Sprintf("/proc/%d/task/%s/ns/net", r.cmd.Process.Pid, th.Name()))
		if err != nil && !errors.Is(err, os.ErrNotExist) || err == nil && ns != home {
			r.t.Errorf("thread %s is in namespace %s, %v, want %s", th.Name(), ns, err, home)
		}
	}
	return len(list)
}

func BenchmarkAttachDetach(b *testing.B) {
	for _, net := range []api.NetworkCreate{{Name: "ipv4"}, {Name: "ipv6", IPv4: no(), IPv6: yes()}, {Name: "dual", IPv6: yes()}} {
		b.Run(net.Name, func(b *testing.B) { benchmarkAttachDetach(b, net) })
	}
}

func benchmarkAttachDetach(b *testing.B, net api.NetworkCreate) {
	r := newRig(b)
	r.start()
	if _, err := r.CreateNetwork(b.Context(), net); err != nil {
		b.Fatal(err)
	}
	ns := labtest.New(b, "web")
	var attach, detach time.Duration
	for b.Loop() {
		t0 := time.Now()
		in := api.Attach{Name: "web", Netns: ns.Path(), Networks: []api.Connect{{Network: net.Name}}}
		if _, err := r.Attach(b.Context(), in); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := r.Detach(b.Context(), "web"); err != nil {
			b.Fatal(err)
		}
		attach += t1.Sub(t0)
		detach += time.Since(t1)
	}
	b.ReportMetric(attach.Seconds()*1e3/float64(b.N), "ms/attach")
	b.ReportMetric(detach.Seconds()*1e3/float64(b.N), "ms/detach")
}

func BenchmarkPublishRange(b *testing.B) {
	r := newRig(b)
	r.start()
	r.t = b
	r.attach("web", api.Attach{})
	rule := []string{"10000-60000:10000-60000"}
	var add, rm time.Duration
	for b.Loop() {
		t0 := time.Now()
		if _, err := r.Publish(b.Context(), "web", rule); err != nil {
			b.Fatal(err)
		}
		t1 := time.Now()
		if err := r.Unpublish(b.Context(), "web", rule); err != nil {
			b.Fatal(err)
		}
		add += t1.Sub(t0)
		rm += time.Since(t1)
	}
	b.ReportMetric(add.Seconds()*1e3/float64(b.N), "ms/publish")
	b.ReportMetric(rm.Seconds()*1e3/float64(b.N), "ms/unpublish")
	if strings.Contains(r.log.String(), "ERROR") {
		b.Error(r.log)
	}
}
