package dataplane_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/conntrack"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// Whoever has all of a shared table and wants more is told of, once in ten seconds and table,
// and nobody else is.
func TestShareReachedIsTold(t *testing.T) {
	piece := func(n, id int) []byte {
		f := Fragment(UDP("c1", 5000, web, string(make([]byte, 9000))), 4400)[n]
		binary.BigEndian.PutUint16(f[header.EthernetLen+4:], uint16(id))
		SumIPv4(f)
		return f
	}
	for _, x := range []struct {
		shared  dataplane.Shared
		prepare func(*Lab)
		flood   func(l *Lab, i int)
		n       int
	}{
		{dataplane.SharedFlows, nil, func(l *Lab, i int) { l.Send("c1", UDP("c1", uint16(1000+i), web, "x")) }, 4200},
		{dataplane.SharedReceived, func(l *Lab) { l.Publish(8080, "c1", 80) }, func(l *Lab, i int) {
			l.Send("up", Inbound(header.ProtoUDP, spoofed(Families[0], i), HostAddr+":8080", 0, "x"))
		}, 4200},
		{dataplane.SharedPorts, func(l *Lab) {
			l.Config.MasqueradePorts = []conntrack.PortRange{{First: 61000, Last: 61003}}
			l.Install()
		}, func(l *Lab, i int) { l.Send("c1", UDP("c1", uint16(1000+i), web, "x")) }, 8},
		{dataplane.SharedStations, func(l *Lab) {
			l.Configure("c1", func(p *dataplane.PortConfig) { p.Guarded, p.MaxMACs = false, 4 })
		}, func(l *Lab, i int) {
			f := UDP("c1", 1000, Stations["c2"]+":7", "x")
			f[11] = byte(i)
			l.Send("c1", f)
		}, 8},
		{dataplane.SharedWaiting, func(l *Lab) { l.Switch.SetNeighbors(nil) }, func(l *Lab, _ int) { l.Send("c1", toHop("c1", 0, 1000)) }, 200},
		{dataplane.SharedHops, func(l *Lab) { wide(l) }, func(l *Lab, i int) { l.Send("c1", toHop("c1", i, 10)) }, 300},
		{dataplane.SharedQuestions, func(l *Lab) { wide(l) }, func(l *Lab, i int) { l.Send("c1", toHop("c1", i, 10)) }, 300},
		{dataplane.SharedGroups, func(l *Lab) { l.Send("host1", query()) }, func(l *Lab, i int) { l.Send("c1", masses("c1", i)) }, 90},
		{dataplane.SharedBridged, nil, func(l *Lab, i int) {
			l.Send("c1", udpBetween("c1", "c2", fmt.Sprintf("10.1.0.11:%d", 1000+i), "10.1.0.12:80"))
		}, 5000},
		{dataplane.SharedFragments, nil, func(l *Lab, i int) { l.Send("c1", piece(0, i)) }, 2100},
		{dataplane.SharedDeferred, nil, func(l *Lab, i int) { l.Send("c1", piece(1, i)) }, 1000},
	} {
		t.Run(x.shared.String(), func(t *testing.T) {
			l := New(t)
			noQuota(l)
			if x.prepare != nil {
				x.prepare(l)
			}
			flood := func(from, to int) (told []string) {
				for i := from; i < to; i++ {
					x.flood(l, i)
					for name := range Stations {
						l.Got(name)
					}
				}
				l.Events = nil
				l.Advance(time.Second)
				for _, e := range l.Events {
					if e.Kind == dataplane.EventShare && e.Port == l.Port("c1") {
						told = append(told, e.Shared.String())
					} else if e.Kind == dataplane.EventShare {
						t.Errorf("port %d is told of: %s", e.Port, e.Shared)
					}
				}
				return told
			}
			if got := flood(0, x.n); !slices.Contains(got, x.shared.String()) {
				t.Fatalf("told: %v; %s", got, l.Drops())
			}
			if got := flood(x.n, x.n+20); slices.Contains(got, x.shared.String()) {
				t.Errorf("told again a second later: %v", got)
			}
			l.Tock(10 * time.Second)
			if got := flood(0, x.n); !slices.Contains(got, x.shared.String()) {
				t.Errorf("told ten seconds later: %v; %s", got, l.Drops())
			}
		})
	}
}

// The same of the kernel's flow table, which another container has a part of.
func TestShareOfTheFlowTableIsTold(t *testing.T) {
	const pairs = 64
	l, _ := NewWithKernel(t, 4096, 2*pairs)
	offer := func(from string, port int) {
		l.Switch.OfferFrame(l.Port(from), Bytes(Packet{
			EthSrc: MAC(from), EthDst: MAC("c3"), Proto: header.ProtoUDP, Payload: []byte("x"),
			Src: fmt.Sprintf("%s:%d", Stations[from], port), Dst: Stations["c3"] + ":7",
		}))
		l.Switch.EnterOffers()
	}
	offer("c1", 1000)
	for i := range 2 * pairs {
		offer("c2", 1000+i)
	}
	l.Advance(time.Second)
	if !slices.ContainsFunc(l.Events, func(e dataplane.Event) bool {
		return e.Kind == dataplane.EventShare && e.Shared == dataplane.SharedRows && e.Port == l.Port("c2")
	}) {
		t.Errorf("told: %+v", l.Events)
	}
}
