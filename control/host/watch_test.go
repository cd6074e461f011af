package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vswitch/vswitch/internal/netlab"
	"github.com/vswitch/vswitch/internal/netlab/labtest"
	"golang.org/x/sys/unix"
)

// watching runs fn while a Watch of h delivers to events; the first Resync has
// been taken off.
func watching(t *testing.T, h *Host, fn func(events <-chan Event)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events, done := make(chan Event, 1000), make(chan error)
	go func() { done <- h.Watch(ctx, func(e Event) { events <- e }) }()
	if e := <-events; e.Kind != Resync {
		t.Errorf("the first event is %+v", e)
	}
	fn(events)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch returned %v", err)
	}
}

// await waits for an event that ok accepts.
func await(t *testing.T, what string, events <-chan Event, ok func(Event) bool) {
	t.Helper()
	if !comes(events, 20*time.Second, ok) {
		t.Fatalf("no event: %s", what)
	}
}

// comes reports whether an event that ok accepts comes in time.
func comes(events <-chan Event, in time.Duration, ok func(Event) bool) bool {
	timeout := time.After(in)
	for {
		select {
		case e := <-events:
			if ok(e) {
				return true
			}
		case <-timeout:
			return false
		}
	}
}

func TestWatch(t *testing.T) {
	w := labtest.NewWorld(t)
	inHost(t, w.Host, func(h *Host) {
		watching(t, h, func(events <-chan Event) {
			run(t, w.Host, "ip", "link", "add", "d0", "type", "veth", "peer", "name", "p0")
			await(t, "link added", events, func(e Event) bool { return e.Kind == LinkChanged && e.Link.Name == "d0" && !e.Link.Up })
			run(t, w.Host, "ip", "link", "set", "d0", "up", "mtu", "1300")
			await(t, "link up", events, func(e Event) bool {
				return e.Kind == LinkChanged && e.Link.Name == "d0" && e.Link.Up && e.Link.MTU == 1300
			})
			for _, p := range []string{"10.20.0.1/24", "fd00:20::1/64"} {
				prefix := netip.MustParsePrefix(p)
				run(t, w.Host, "ip", "addr", "add", p, "dev", "d0")
				await(t, "address "+p, events, func(e Event) bool { return e.Kind == AddrAdded && e.Addr.Prefix == prefix })
				run(t, w.Host, "ip", "addr", "del", p, "dev", "d0")
				await(t, "no address "+p, events, func(e Event) bool { return e.Kind == AddrGone && e.Addr.Prefix == prefix })
			}
			for _, p := range []string{"10.30.0.0/16", "fd00:30::/48"} {
				drain(events)
				run(t, w.Host, "ip", "route", "add", p, "dev", "d0")
				await(t, "route "+p, events, func(e Event) bool { return e.Kind == RouteChanged })
				run(t, w.Host, "ip", "route", "del", p, "dev", "d0")
				await(t, "no route "+p, events, func(e Event) bool { return e.Kind == RouteChanged })
			}
			run(t, w.Host, "ip", "neigh", "add", "10.20.0.7", "lladdr", "02:00:00:00:00:07", "dev", "d0")
			await(t, "neighbour", events, func(e Event) bool {
				return e.Kind == NeighborChanged && e.Neighbor.Addr == ip("10.20.0.7") && e.Neighbor.MAC.String() == "02:00:00:00:00:07"
			})
			run(t, w.Host, "ip", "neigh", "del", "10.20.0.7", "dev", "d0")
			await(t, "no neighbour", events, func(e Event) bool {
				return e.Kind == NeighborChanged && e.Neighbor.Addr == ip("10.20.0.7") && e.Neighbor.MAC == nil
			})
			run(t, w.Host, "ip", "link", "del", "d0")
			await(t, "link gone", events, func(e Event) bool { return e.Kind == LinkGone && e.Link.Name == "d0" })
		})
	})
}

func drain(events <-chan Event) {
	for {
		select {
		case <-events:
		case <-time.After(20 * time.Millisecond):
			return
		}
	}
}

// A port that leaves a bridge is reported as RTM_DELLINK of family AF_BRIDGE:
// the interface is still there.
func TestWatchIgnoresBridgePorts(t *testing.T) {
	host := labtest.New(t, "host")
	for _, args := range []string{"link add d0 type veth peer name p0", "link set p0 up", "link add br0 type bridge", "link set d0 master br0", "link set d0 up"} {
		run(t, host, "ip", strings.Fields(args)...)
	}
	inHost(t, host, func(h *Host) {
		watching(t, h, func(events <-chan Event) {
			run(t, host, "ip", "link", "set", "d0", "nomaster")
			run(t, host, "ip", "link", "set", "d0", "mtu", "1234")
			await(t, "link changed", events, func(e Event) bool {
				if e.Kind == LinkGone {
					t.Errorf("%s is reported gone", e.Link.Name)
				}
				return e.Kind == LinkChanged && e.Link.MTU == 1234
			})
		})
	})
}

// The end of a container whose namespace is deleted takes the host's with it.
func TestWatchSeesANamespaceGo(t *testing.T) {
	host := labtest.New(t, "host")
	inHost(t, host, func(h *Host) {
		web, err := netlab.New("web")
		if err != nil {
			t.Fatal(err)
		}
		ns, err := OpenNetns(web.Path())
		if err != nil {
			t.Fatal(err)
		}
		index, err := h.AddVeth(ns, spec("veth00000001", nil))
		if err != nil {
			t.Fatal(err)
		}
		watching(t, h, func(events <-chan Event) {
			if err := errors.Join(ns.Close(), web.Close()); err != nil {
				t.Fatal(err)
			}
			await(t, "link gone", events, func(e Event) bool { return e.Kind == LinkGone && e.Link.Index == index })
		})
	})
}

// What happens from the second Resync on is told: the kernel drops all while the queue that
// overran is not empty, and says nothing of that.
func TestF34WatchResyncsAfterAnOverrun(t *testing.T) {
	host := labtest.New(t, "host")
	run(t, host, "ip", "link", "add", "d0", "type", "veth", "peer", "name", "p0")
	inHost(t, host, func(h *Host) {
		d0 := index(t, h, "d0")
		setMTU := func(mtu uint32) {
			if err := h.route.setLink(d0, 0, 0, attr32(4 /* IFLA_MTU */, mtu)); err != nil {
				t.Error(err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		resyncs, told, done := 0, false, make(chan error)
		ready, stalled, last := make(chan bool), make(chan bool), make(chan bool)
		go func() {
			done <- h.watch(ctx, 4096, func(e Event) {
				switch {
				case e.Kind == Resync && resyncs == 0:
					resyncs++
					close(ready)
					<-stalled // as a slow dump would
				case e.Kind == Resync:
					if resyncs++; resyncs == 2 {
						setMTU(1111)
					}
				case e.Kind == LinkChanged && e.Link.MTU == 1111 && !told:
					told = true
					close(last)
				}
			}, unix.RTNLGRP_LINK)
		}()
		<-ready
		for i := range 500 {
			setMTU(uint32(1200 + i%2))
		}
		close(stalled)
		select {
		case <-last:
		case <-time.After(20 * time.Second):
			t.Error("no events after the overrun")
		}
		cancel()
		<-done
		if resyncs != 2 {
			t.Errorf("%d resyncs, want the first and one for the overrun", resyncs)
		}
	})
}

// Resolve makes the kernel itself ask for a next hop; the answer is an event.
func TestResolve(t *testing.T) {
	w := labtest.NewWorld(t)
	mac, err := w.Outside.MAC("eth0")
	if err != nil {
		t.Fatal(err)
	}
	inHost(t, w.Host, func(h *Host) {
		eth0 := index(t, h, "eth0")
		watching(t, h, func(events <-chan Event) {
			for _, next := range []string{netlab.OutsideAddr, netlab.OutsideAddr6} {
				for range 2 { // the second time it is known already
					if err := h.Resolve(eth0, ip(next)); err != nil {
						t.Fatal(err)
					}
				}
				// The kernel asks three times and gives up. On a slow machine the link may
				// take longer to carry multicast, so the test asks again, as packets would.
				answer := func(e Event) bool {
					return e.Kind == NeighborChanged && e.Neighbor.Addr == ip(next) && e.Neighbor.MAC.String() == mac.String()
				}
				for tries := 0; !comes(events, time.Second, answer); tries++ {
					if tries == 20 {
						t.Fatalf("no event: answer of %s", next)
					}
					if err := h.Resolve(eth0, ip(next)); err != nil {
						t.Fatal(err)
					}
				}
				list, err := h.Neighbors()
				if err != nil {
					t.Fatal(err)
				}
				if s := fmt.Sprint(list); !strings.Contains(s, next) || !strings.Contains(s, mac.String()) {
					t.Errorf("Neighbors lacks %s %s: %s", next, mac, s)
				}
			}
			// Nobody answers: no entry, and no event that claims one.
			if err := h.Resolve(eth0, ip("198.51.100.77")); err != nil {
				t.Fatal(err)
			}
			list, err := h.Neighbors()
			if err != nil {
				t.Fatal(err)
			}
			if s := fmt.Sprint(list); strings.Contains(s, "198.51.100.77") {
				t.Errorf("Neighbors has one that never answered: %s", s)
			}
		})
		// An entry without a state is there, and nobody has asked for it.
		for _, next := range []string{netlab.OutsideAddr, netlab.OutsideAddr6} {
			run(t, w.Host, "ip", "neigh", "del", next, "dev", "eth0")
			run(t, w.Host, "ip", "neigh", "add", next, "dev", "eth0", "nud", "none")
			if e, err := h.route.neighbor(eth0, ip(next)); err != nil || !e.there || e.state != 0 {
				t.Fatalf("entry %s: %+v, %v", next, e, err)
			}
			if err := h.Resolve(eth0, ip(next)); err != nil {
				t.Fatal(err)
			}
			if e, err := h.route.neighbor(eth0, ip(next)); err != nil || e.state == 0 {
				t.Errorf("entry %s is not asked for: %+v, %v", next, e, err)
			}
		}
		if err := h.Resolve(9999, ip("198.51.100.77")); err == nil {
			t.Error("resolved on no interface")
		}
	})
}

// TestResolveLeavesNeighborsAlone: what the administrator entered is the same to the byte
// afterwards, and so is what the kernel knows or is asking for. NTF_USE would clear
// NUD_PERMANENT, NTF_EXT_LEARNED and NTF_MANAGED.
func TestResolveLeavesNeighborsAlone(t *testing.T) {
	w := labtest.NewWorld(t)
	const mac = "02:00:00:00:00:99"
	show := func(addr string) string {
		return run(t, w.Host, "ip", "-d", "neigh", "show", addr, "dev", "eth0", "nud", "all")
	}
	inHost(t, w.Host, func(h *Host) {
		eth0 := index(t, h, "eth0")
		for _, how := range [][]string{{"permanent"}, {"noarp"}, {"reachable"}, {"permanent", "proto", "static"}, {"stale", "extern_learn"}, {"permanent", "router"}} {
			for i, addr := range []string{"198.51.100.77", "2001:db8:2::77"} {
				run(t, w.Host, "ip", append([]string{"neigh", "replace", addr, "lladdr", mac, "dev", "eth0", "nud"}, how...)...)
				before := show(addr)
				if before == "" {
					t.Fatalf("%v: there is no entry %s", how, addr)
				}
				for range 3 {
					if err := h.Resolve(eth0, ip(addr)); err != nil {
						t.Fatal(err)
					}
					if i == 0 && how[0] != "reachable" && how[0] != "stale" { // a TAP's neighbours, which we tell the kernel
						if err := errors.Join(h.SetNeighbor(Neighbor{Ifindex: eth0, Addr: ip(addr), MAC: []byte{2, 0, 0, 0, 0, 1}}), h.DelNeighbor(eth0, ip(addr))); err != nil {
							t.Fatal(err)
						}
					}
				}
				after := show(addr)
				if how[0] == "stale" { // it is asked for, and stays a control plane's
					if !strings.Contains(after, "extern_learn") {
						t.Errorf("%s was %q and is %q", addr, before, after)
					}
				} else if after != before {
					t.Errorf("%v: %s was %q and is %q", how, addr, before, after)
				}
				run(t, w.Host, "ip", "neigh", "del", addr, "dev", "eth0")
			}
		}
	})
}
