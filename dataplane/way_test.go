package dataplane_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// askedFor is a lab whose kernel has rules of policy routing, which way answers.
func askedFor(t *testing.T, way func(dataplane.WayKey) dataplane.RouteConfig, change ...func(*Lab)) *Lab {
	l := New(t)
	l.Config.Ruled = [2]bool{true, true}
	for _, fn := range change {
		fn(l)
	}
	l.Install()
	l.Switch.Start()
	go func() {
		for {
			switch n := l.Switch.Next(time.Second); n.Kind {
			case dataplane.NoticeWay:
				l.Switch.SetWay(n, way(n.Way))
			case dataplane.NoticeClosed:
				return
			}
		}
	}()
	return l
}

// eventually waits for frames at a station: the switch runs by itself.
func eventually(t *testing.T, l *Lab, at string) []byte {
	t.Helper()
	for range 2000 {
		if got := l.Got(at); len(got) > 0 {
			return got[0]
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("%s got nothing; drops: %s", at, l.Drops())
	return nil
}

// The kernel is asked for the way of a container's packet, once for source and destination, and
// anew when it may have another answer. Where it has none nothing leaves.
func TestWayByRules(t *testing.T) {
	var l *Lab
	asked := make(chan dataplane.WayKey, 100)
	closed := make(chan bool, 1)
	closed <- false
	answer := func(k dataplane.WayKey) dataplane.RouteConfig {
		asked <- k
		no := <-closed
		closed <- no
		rc := dataplane.RouteConfig{Prefix: netip.PrefixFrom(k.Dst.NetIP(), 32)}
		if !no {
			rc.Kind, rc.Uplink, rc.Via, rc.Source = dataplane.RouteUplink, l.Port("up"), netip.MustParseAddr(NextHop), netip.MustParseAddr(HostAddr)
		}
		return rc
	}
	l = askedFor(t, answer)
	l.Memory("c1").Inject(UDP("c1", 4000, web, "first"), none)
	if got := See(t, eventually(t, l, "up")); got.Src.NetIP() != netip.MustParseAddr(HostAddr) {
		t.Errorf("it left from %s", got.From())
	}
	if k := <-asked; k.Network != 1 || k.Src.NetIP() != netip.MustParseAddr(Stations["c1"]) || k.Dst.NetIP() != netip.MustParseAddr(World) {
		t.Errorf("asked for %+v", k)
	}
	l.Memory("c1").Inject(UDP("c1", 4000, web, "second"), none)
	eventually(t, l, "up")
	if len(asked) != 0 {
		t.Errorf("asked again for %+v", <-asked)
	}
	l.Switch.HoldWays(func() { // a frame of a flow waits for no lock of other workers
		l.Memory("c1").Inject(UDP("c1", 4000, web, "third"), none)
		eventually(t, l, "up")
	})
	<-closed
	closed <- true
	l.Switch.ForgetWays()
	l.Memory("c1").Inject(UDP("c1", 4000, web, "beside the tunnel"), none)
	for range 2000 {
		if l.Dropped("c1", dataplane.DropNoRoute) == 1 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if n := l.Dropped("c1", dataplane.DropNoRoute); n != 1 {
		t.Errorf("%d frames dropped, want 1; drops: %s", n, l.Drops())
	}
	if got := l.Got("up"); len(got) > 0 {
		t.Errorf("it left: %s", Describe(got[0]))
	}
}

// A container with a way of its own leaves by it, without rules of the host's, and by no other when it
// is gone; others leave by the routes. Answers of a published port are none of its business.
func TestWayOfItsOwn(t *testing.T) {
	var l *Lab
	asked := make(chan dataplane.WayKey, 100)
	gone := make(chan bool, 1)
	gone <- false
	l = askedFor(t, func(k dataplane.WayKey) dataplane.RouteConfig {
		asked <- k
		no := <-gone
		gone <- no
		rc := dataplane.RouteConfig{Prefix: netip.PrefixFrom(k.Dst.NetIP(), 32)}
		if !no && k.Chosen == "dev=eth1" {
			rc.Kind, rc.Uplink, rc.Via, rc.Source = dataplane.RouteUplink, l.Port("up"), netip.MustParseAddr(NextHop), netip.MustParseAddr(HostAddr)
		}
		return rc
	}, func(l *Lab) {
		l.Config.Ruled = [2]bool{}
		i := slices.IndexFunc(l.Config.Ports, func(p dataplane.PortConfig) bool { return p.ID == l.Port("c1") })
		l.Config.Ports[i].Egress = "dev=eth1"
	})
	l.Memory("c1").Inject(UDP("c1", 4000, web, "first"), none)
	eventually(t, l, "up")
	if k := <-asked; k.Chosen != "dev=eth1" || k.Network != 0 || k.Dst.NetIP() != netip.MustParseAddr(World) {
		t.Errorf("asked for %+v", k)
	}
	l.Memory("c2").Inject(UDP("c2", 4000, web, "by the routes"), none)
	eventually(t, l, "up")
	if len(asked) != 0 {
		t.Errorf("asked for the other container: %+v", <-asked)
	}
	<-gone
	gone <- true
	l.Switch.ForgetWays()
	for range 2 { // of the flow, and of a new one
		l.Memory("c1").Inject(UDP("c1", 4000, web, "by another way"), none)
		l.Memory("c1").Inject(UDP("c1", 4001, web, "by another way"), none)
	}
	for range 2000 {
		if l.Dropped("c1", dataplane.DropNoEgress) == 4 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	if n := l.Dropped("c1", dataplane.DropNoEgress); n != 4 {
		t.Errorf("%d frames dropped, want 4; drops: %s", n, l.Drops())
	}
	if got := l.Got("up"); len(got) > 0 {
		t.Errorf("it left: %s", Describe(got[0]))
	}
}

// One client port reaches a container's port by two published ways at once: by the second with
// another port, from its own address.
func TestOneClientPortTwoWays(t *testing.T) {
	for _, proto := range portProtos {
		for _, from := range []string{"up", "c2"} {
			l := New(t)
			l.Publish(8080, "c1", 80)
			l.Publish(8081, "c1", 80)
			send := func(port string) Seen {
				t.Helper()
				to := HostAddr + ":" + port
				if from == "up" {
					l.Send(from, Inbound(proto, World+":4444", to, SYN, ""))
				} else {
					l.Send(from, firstPacket(proto, from, 4444, to))
				}
				return See(t, l.Expect("c1"))
			}
			first, second := send("8080"), send("8081")
			if first.Src != second.Src || first.SrcPort == second.SrcPort {
				t.Errorf("protocol %d from %s: seen as %s and %s", proto, from, first.From(), second.From())
			}
			for port, seen := range map[string]Seen{HostAddr + ":8080": first, HostAddr + ":8081": second} {
				if proto == header.ProtoTCP {
					l.Send("c1", TCP("c1", 80, seen.From(), SYN|ACK, ""))
				} else {
					l.Send("c1", UDP("c1", 80, seen.From(), ""))
				}
				if got := See(t, l.Expect(from)); got.From() != port || got.DstPort != 4444 {
					t.Errorf("protocol %d from %s: the answer is from %s to %s, want %s", proto, from, got.From(), got.To(), port)
				}
			}
			l.Switch.FlushConns(conntrack.Selector{})
			for i, word := range l.Claims {
				if word != 0 {
					t.Errorf("protocol %d from %s: ports stay claimed: word %d is %#x", proto, from, i, word)
				}
			}
		}
	}
}
