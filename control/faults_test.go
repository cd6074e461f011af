package control

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/vswitch/vswitch/control/api"
	"github.com/vswitch/vswitch/control/client"
	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
	"github.com/vswitch/vswitch/internal/talk"
)

// ways are containers that speak with each other, the world and the host's ports, each waiting
// for the answer before it goes on.
func (r *rig) ways(networks ...string) (all []*talk.Ticks) {
	r.t.Helper()
	a, act := r.attach("a", api.Attach{Publish: []string{"7080:7000", "7080:7000/udp"}})
	b, _ := r.attach("b", api.Attach{})
	for _, ns := range []*netlab.NS{a, r.world.Outside} {
		talk.Echo(r.t, ns, ":7000")
	}
	for _, w := range []struct {
		what string
		from *netlab.NS
		to   string
	}{
		{"bridged", b, addr(act) + ":7000"},
		{"masqueraded", a, netlab.OutsideAddr + ":7000"},
		{"published", r.world.Outside, netlab.HostAddr + ":7080"},
		{"hairpin", b, netlab.HostAddr + ":7080"},
		{"host to container", r.world.Host, addr(act) + ":7000"},
	} {
		for _, network := range networks {
			all = append(all, talk.Begin(r.t, w.what+" "+network, w.from, network, w.to))
			// One after the other: two that both come to the switch may share a counter of frames.
			eventually(r.t, "the kernel carries it", func() bool { return r.cfg.NoFlowTable || r.stats().Flows.Active >= 2*len(all) })
		}
	}
	return all
}

// goOn waits until each of them has heard some more answers.
func goOn(t *testing.T, all []*talk.Ticks) {
	t.Helper()
	for _, k := range all {
		heard := k.Heard()
		eventually(t, "it goes on: "+k.What, func() bool { return k.Ended() || k.Heard() > heard+10 })
	}
}

// endAll wants none to have lost anything.
func endAll(t *testing.T, all []*talk.Ticks) {
	t.Helper()
	for _, k := range all {
		if err := k.End(); err != nil {
			t.Errorf("%s: %v", k.What, err)
		}
	}
}

// TestF35Stopped: the daemon gets no CPU for five seconds. Not one datagram is lost and no
// connection ends, those that the kernel carries and those that it does not; who began to
// connect meanwhile is served.
func TestF35Stopped(t *testing.T) {
	for _, carried := range []bool{true, false} {
		t.Run(fmt.Sprint("carried ", carried), func(t *testing.T) {
			r := newRig(t)
			r.cfg.NoFlowTable = !carried
			r.start()
			all := r.ways("tcp", "udp")
			goOn(t, all)
			signal := func(s syscall.Signal) {
				t.Helper()
				if err := r.cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
			}
			signal(syscall.SIGSTOP)
			begun := make(chan error, 1)
			go func() {
				c, err := r.world.Outside.Dial("tcp", netlab.HostAddr+":7080", 30*time.Second)
				if err == nil {
					c.Close()
				}
				begun <- err
			}()
			time.Sleep(5 * time.Second) // the fault
			signal(syscall.SIGCONT)
			if err := <-begun; err != nil {
				t.Errorf("a connection that began meanwhile: %v", err)
			}
			goOn(t, all)
			endAll(t, all)
		})
	}
}

// TestF15SlowReceiver: a container takes a few frames a second of a flood. A pair beside it
// loses no datagram, also where one of the two is who floods.
func TestF15SlowReceiver(t *testing.T) {
	labtest.NeedProgram(t, "tc")
	for _, carried := range []bool{true, false} {
		t.Run(fmt.Sprint("carried ", carried), func(t *testing.T) {
			r := newRig(t)
			r.cfg.NoFlowTable = !carried
			r.start()
			slowNS, slow := r.attach("slow", api.Attach{})
			in := listen(t, slowNS, ":9")
			t.Cleanup(func() { in.Close() })
			var arrived atomic.Int64
			go func() {
				for b := make([]byte, 2000); ; arrived.Add(1) {
					if _, _, err := in.ReadFrom(b); err != nil {
						return
					}
				}
			}()
			r.run("tc", "qdisc", "add", "dev", slow.Endpoints[0].HostInterface, "root", "tbf", "rate", "64kbit", "burst", "2kb", "limit", "20kb")
			all := r.ways("tcp", "udp")
			goOn(t, all)
			flood := labtest.New(t, "flood")
			if _, err := r.attachAs(flood, "flood", "bridge", "eth0"); err != nil {
				t.Fatal(err)
			}
			echoUDP(t, flood, ":7000")
			c, err := flood.Dial("udp", addr(slow)+":9", time.Second)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			floodAddr := c.LocalAddr().(*net.UDPAddr).IP.String()
			all = append(all, talk.Begin(t, "of who floods", r.world.Host, "udp", floodAddr+":7000"))
			sent := 0
			for begin := time.Now(); time.Since(begin) < 3*time.Second; sent++ {
				c.Write(make([]byte, 1000)) // an ICMP error is no news
				if sent%20 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			goOn(t, all)
			endAll(t, all)
			if n := arrived.Load(); sent < 2000 || n > int64(sent)/4 {
				t.Errorf("of %d frames %d arrived: the test shows nothing", sent, n)
			}
		})
	}
}

// TestF26ClientGoesAway: a client goes at any moment of its request. The container is there as
// a whole or not at all, and the next request finds nothing in its way.
func TestF26ClientGoesAway(t *testing.T) {
	r := newRig(t)
	r.start()
	ns := labtest.New(t, "web")
	in := api.Attach{Name: "web", Netns: ns.Path(), Publish: []string{"8080:80", "20000-20999:20000-20999/udp"}}
	links := r.hostLinks()
	gone := 0
	for i := range 60 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.IntN(200)*i)*time.Microsecond)
		c := client.New(filepath.Join(r.cfg.RunDir, socketName))
		_, err := c.Attach(ctx, in)
		cancel()
		c.Close()
		if err != nil {
			gone++
		}
		// Whatever has become of the first, the same request says what there is.
		ct, err := r.Attach(t.Context(), in)
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if len(ct.Endpoints) != 1 || len(ct.Ports) != 2 {
			t.Errorf("round %d: %+v", i, ct)
		}
		if l, err := ns.Links(); err != nil || len(l) != 2 {
			t.Errorf("round %d: links %v, %v", i, l, err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Duration(rand.IntN(200)*i)*time.Microsecond)
		c = client.New(filepath.Join(r.cfg.RunDir, socketName))
		c.Detach(ctx, "web") // it may do so or not
		cancel()
		c.Close()
		if err := r.Detach(t.Context(), "web"); err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		if got := r.hostLinks(); !slices.Equal(got, links) {
			t.Errorf("round %d: links %v, want %v", i, got, links)
		}
	}
	if gone < 5 {
		t.Errorf("%d clients went away: the test shows nothing", gone)
	}
	r.stop()
	r.wantNoTrace()
}

// TestF10Renamed: somebody renames the host's end of a cable, while a daemon is there and while
// none is. All goes on, also with the next daemon, a detach finds the cable, and one that is
// moved away ends its container.
func TestF10Renamed(t *testing.T) {
	r := newRig(t)
	r.start()
	all := r.ways("tcp", "udp")
	want, err := r.Container(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	is := func(name string) {
		t.Helper()
		want.Endpoints[0].HostInterface = name
		eventually(t, "it is known as "+name, func() bool {
			got, err := r.Container(t.Context(), "a")
			return err == nil && cmp.Diff(want, got) == ""
		})
		goOn(t, all)
	}
	if out, err := r.world.Host.Command("ip", "link", "set", want.Endpoints[0].HostInterface, "name", "renamed0").CombinedOutput(); err != nil {
		labtest.SkipOldKernel(t, 6, 2, "an interface that is up keeps its name: "+string(out))
	}
	is("renamed0")
	r.stop()
	r.start()
	is("renamed0")
	r.kill()
	r.run("ip", "link", "set", "renamed0", "name", "renamed1")
	r.start()
	is("renamed1")
	endAll(t, all)
	_, ct := r.attach("c", api.Attach{Publish: []string{"9090:80"}})
	other := labtest.New(t, "other")
	if err := r.world.Host.Move(ct.Endpoints[0].HostInterface, other, "gone0"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was moved away is released", func() bool {
		_, err := r.Container(t.Context(), "c")
		return client.IsNotFound(err)
	})
	eventually(t, "its port is free", func() bool {
		_, err := r.Publish(t.Context(), "b", []string{"9090:80"})
		return err == nil
	})
	for _, name := range []string{"a", "b"} {
		if err := r.Detach(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	r.stop()
	r.wantNoTrace()
}

// TestF23Boot: the host was started anew. Of the containers of before nothing is left, their
// addresses and ports are free, and the networks are as they were.
func TestF23Boot(t *testing.T) {
	m := newMachine(t).start()
	ctx := t.Context()
	_, err := m.CreateNetwork(ctx, api.NetworkCreate{Name: "blue", Subnet: "10.7.0.0/24", Labels: map[string]string{"a": "b"}})
	m.ok(err)
	want, err := m.Networks(ctx)
	m.ok(err)
	before := m.Facts()
	web := m.container("web", networks("blue"), publish("8080:80", "20000-20999:20000-20999"))
	m.container("db", networks("blue"))
	m.kill()
	next := newMachine(t) // with nothing of before but the disk
	next.cfg.StateDir = m.cfg.StateDir
	next.start()
	if got := next.names(); got != "" {
		t.Errorf("containers %q", got)
	}
	got, err := next.Networks(ctx)
	next.ok(err)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("networks (-before +after):\n%s", d)
	}
	next.same("the boot", before, next.Facts())
	again := next.container("other", func(in *api.Attach) {
		in.Networks = []api.Connect{{Network: "blue", IP: addr(web)}}
		in.Publish = []string{"8080:80", "20000-20999:20000-20999"}
	})
	if addr(again) != addr(web) {
		t.Errorf("address %s, want %s", addr(again), addr(web))
	}
}

// TestF37Churn: containers come and go one after the other, and leave neither memory nor
// goroutines nor descriptors.
func TestF37Churn(t *testing.T) {
	m := newMachine(t)
	m.cfg.Log = slog.New(slog.DiscardHandler) // the machine keeps all of it
	m.start()
	used := func(rounds int) (bytes, goroutines int) {
		t.Helper()
		for range rounds {
			m.container("web", publish("8080:80", "20000-20999:20000-20999/udp"))
			m.ok(m.Detach(t.Context(), "web"))
		}
		m.until("nothing is under way", func() bool {
			goroutines = runtime.NumGoroutine()
			time.Sleep(10 * time.Millisecond)
			return runtime.NumGoroutine() == goroutines
		})
		runtime.GC()
		runtime.GC()
		var s runtime.MemStats
		runtime.ReadMemStats(&s)
		return int(s.HeapAlloc), goroutines
	}
	bytes, goroutines := used(500)
	fds, err := os.ReadDir("/proc/self/fd")
	m.ok(err)
	// A number that waits for its next turn remembers its cable, and an event its container.
	const rounds, each = 300, 1500
	more, after := used(rounds)
	t.Logf("%d bytes, %d more", bytes, more-bytes)
	if more-bytes > rounds*each || after > goroutines {
		t.Errorf("%d containers leave %d bytes and %d goroutines", rounds, more-bytes, after-goroutines)
	}
	if now, _ := os.ReadDir("/proc/self/fd"); len(now) > len(fds) {
		t.Errorf("%d descriptors, before %d", len(now), len(fds))
	}
}
