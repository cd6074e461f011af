package dataplane_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// Somebody who provokes ICMP errors by the thousand takes nobody else's: neither another container's, by whose
// path MTU discovery lives, nor another station's outside, nor, from forged sources, a container's.
func TestN51ErrorsOfOthers(t *testing.T) {
	big := func(name string) []byte {
		return Bytes(From(name, web, Packet{Src: Stations[name] + ":5000", Proto: header.ProtoUDP, DF: true, Payload: make([]byte, 1500)}))
	}
	// short is a packet from outside to a published port that is on its last hop.
	short := func(src string) []byte {
		return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: src + ":4000", Dst: HostAddr + ":8080", Proto: header.ProtoUDP, TTL: 1, Payload: []byte("x")})
	}
	// large is one that exceeds the MTU of the network that it is for.
	large := func(src string) []byte {
		return Bytes(Packet{EthSrc: NextHopMAC, EthDst: MAC("up"), Src: src + ":4000", Dst: HostAddr + ":8080", Proto: header.ProtoUDP, DF: true, Payload: make([]byte, 1450)})
	}
	for _, c := range []struct {
		name     string
		from, at string
		flood    func(n int) []byte
		asks     []byte
	}{
		{"containers", "c1", "c2", func(int) []byte { return big("c1") }, big("c2")},
		{"stations outside", "up", "up", func(int) []byte { return large("203.0.113.77") }, large("203.0.113.78")},
		{"forged sources, and a container", "up", "c2", func(n int) []byte { return short(fmt.Sprintf("203.0.%d.%d", n>>8&0xff, n&0xff)) }, Bytes(From("c2", web, Packet{Src: Stations["c2"] + ":5000", Proto: header.ProtoUDP, TTL: 1}))},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := New(t)
			l.Publish(8080, "c1", 80)
			l.Config.Networks[0].MTU = 1400
			l.Install()
			for n := range 2000 { // ms
				for i := range 3 {
					l.Memory(c.from).Inject(c.flood(3*n+i), frame.Offload{})
					l.Switch.Step()
				}
				l.Advance(time.Millisecond)
			}
			answered := 0
			for n := range 4000 {
				for i := range 3 {
					l.Memory(c.from).Inject(c.flood(3*n+i), frame.Offload{})
					l.Switch.Step()
				}
				if n%1000 == 500 {
					l.Got(c.at)
					l.Send(c.at, c.asks)
					for _, f := range l.Got(c.at) {
						if See(t, f).Dst.String() == See(t, c.asks).Src.String() {
							answered++
						}
					}
				}
				l.Advance(time.Millisecond)
			}
			if answered != 4 {
				t.Errorf("%d of 4 that were owed an error got one: %s", answered, l.Drops())
			}
		})
	}
}
