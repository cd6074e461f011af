package dataplane_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// l2 is a frame of a protocol that the switch does not know.
func l2(dst, src header.MAC, payload string) []byte {
	f := append(append(append([]byte{}, dst[:]...), src[:]...), 0x88, 0xb5) // IEEE local experimental
	return append(f, payload...)
}

var stranger = header.MAC{2, 0xaa, 0, 0, 0, 1}

func TestUnknownUnicastIsFloodedOnceAndKnownIsNot(t *testing.T) {
	l := New(t)
	f := l2(stranger, MAC("c1"), "who is there")
	l.Send("c1", f)
	for _, at := range []string{"c2", "c3", "host1"} {
		got := l.Got(at)
		if len(got) != 1 || !bytes.Equal(got[0], f) {
			t.Errorf("%s got %d frames, want the flooded one", at, len(got))
		}
	}
	l.ExpectNothing() // not back to c1, not into other networks, not to the uplink

	l.Send("c2", l2(MAC("c1"), stranger, "I am")) // the station is behind c2
	l.Expect("c1")
	l.Send("c1", f)
	if got := l.Expect("c2"); !bytes.Equal(got, f) {
		t.Errorf("the frame was changed: %s", Describe(got))
	}
}

func TestBroadcastStaysInItsNetwork(t *testing.T) {
	l := New(t)
	l.Send("c4", l2(header.Broadcast, MAC("c4"), "hello"))
	l.Expect("host2")
}

func TestBothWaysInOneBatchAreLearnedFirst(t *testing.T) {
	l := New(t)
	other := header.MAC{2, 0xaa, 0, 0, 0, 2}
	l.Send("c1", l2(header.Broadcast, stranger, "here"))
	for _, at := range []string{"c2", "c3", "host1"} {
		l.Got(at)
	}
	l.Send("c2", l2(stranger, other, "there"))
	l.Expect("c1")
	l.Send("c1", l2(other, stranger, "known by now"))
	l.Expect("c2")
}

func TestFollowsAStationThatMoves(t *testing.T) {
	l := New(t)
	l.Send("c1", l2(MAC("c3"), stranger, "at c1"))
	l.Expect("c3")
	l.Send("c2", l2(MAC("c3"), stranger, "now at c2"))
	l.Expect("c3")
	l.Send("c3", l2(stranger, MAC("c3"), "to you"))
	l.Expect("c2")
	if f := l.Switch.Stats().FDB; f.Moves != 1 || f.Learned != 1 {
		t.Errorf("FDB %+v, want one station that moved once", f)
	}
}

func TestL02AgeingAfter300Seconds(t *testing.T) {
	l := New(t)
	known := func() bool {
		for _, e := range l.Switch.FDB() {
			if e.MAC == stranger {
				return true
			}
		}
		return false
	}
	l.Send("c1", l2(MAC("c2"), stranger, "x"))
	l.Expect("c2")
	l.Advance(299 * time.Second)
	l.Send("c3", l2(stranger, MAC("c3"), "as destination")) // refreshes nothing
	l.Expect("c1")
	if !known() {
		t.Fatal("forgotten after 299 s, want 300")
	}
	l.Advance(2 * time.Second)
	if known() {
		t.Error("known after 301 s, want it forgotten")
	}
	// A station that speaks now and then stays known.
	for range 5 {
		l.Send("c1", l2(MAC("c2"), stranger, "still here"))
		l.Expect("c2")
		l.Advance(299 * time.Second)
		if !known() {
			t.Fatal("forgotten 299 s after its last frame")
		}
	}
	l.Advance(time.Hour)
	for _, c := range []string{"c1", "c2", "host1"} {
		found := false
		for _, e := range l.Switch.FDB() {
			found = found || e.MAC == MAC(c) && e.Static
		}
		if !found {
			t.Errorf("the static entry of %s is gone", c)
		}
	}
}

func TestL03ReservedGroupsAreNotForwarded(t *testing.T) {
	l := New(t)
	for i := range 16 {
		l.Send("c1", l2(header.MAC{1, 0x80, 0xc2, 0, 0, byte(i)}, MAC("c1"), "bpdu"))
	}
	l.ExpectDrop("c1", dataplane.DropReservedGroup, 16)
	l.Send("c1", l2(header.MAC{1, 0x80, 0xc2, 0, 0, 0x10}, MAC("c1"), "not reserved"))
	if len(l.Got("c2")) != 1 {
		t.Error("01-80-C2-00-00-10 was not flooded")
	}
}

// Each of the sixteen, on every kind of port: they are dropped and counted.
func TestL03ReservedGroupsOnEveryPort(t *testing.T) {
	for _, at := range []string{"c1", "c2", "c3", "host1"} {
		t.Run(at, func(t *testing.T) {
			l := New(t)
			l.Guard()
			l.Configure("c2", func(p *dataplane.PortConfig) { p.Guarded = false })
			l.Configure("c3", func(p *dataplane.PortConfig) {
				p.Guarded, p.Trunk = false, []dataplane.VLANRange{{First: 10, Last: 10}}
			})
			for i := range 16 {
				f := l2(header.MAC{1, 0x80, 0xc2, 0, 0, byte(i)}, MAC(at), "BPDU, pause, LACP, 802.1X, LLDP")
				l.Send(at, f)
				l.ExpectDrop(at, dataplane.DropReservedGroup, uint64(i+1))
			}
			if at == "c3" {
				l.Send(at, Tag(l2(header.MAC{1, 0x80, 0xc2, 0, 0, 0}, MAC(at), "tagged"), header.TypeVLAN, 10))
				l.ExpectDrop(at, dataplane.DropReservedGroup, 17)
			}
		})
	}
}

func TestL04BadSourcesAreDropped(t *testing.T) {
	for _, tc := range []struct {
		name string
		src  header.MAC
		why  dataplane.DropReason
	}{
		{"multicast", header.MAC{1, 0, 0x5e, 0, 0, 1}, dataplane.DropBadSource},
		{"broadcast", header.Broadcast, dataplane.DropBadSource},
		{"zero", header.MAC{}, dataplane.DropBadSource},
		{"the gateway's", MAC("host1"), dataplane.DropSpoofedMAC},
		{"another container's", MAC("c1"), dataplane.DropSpoofedMAC},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := New(t)
			before := len(l.Switch.FDB())
			l.Send("c2", l2(MAC("c3"), tc.src, "spoof"))
			l.ExpectDrop("c2", tc.why, 1)
			if after := len(l.Switch.FDB()); after != before {
				t.Errorf("FDB has %d entries, want %d as before", after, before)
			}
		})
	}
}

func TestL05AFloodOfAddressesEvictsOnlyItsOwn(t *testing.T) {
	l := New(t) // room for 64 learned stations
	l.Send("c1", l2(MAC("c3"), stranger, "x"))
	l.Expect("c3")
	for i := range 1000 {
		l.Send("c2", l2(MAC("c3"), header.MAC{2, 0xbb, 0, 0, byte(i >> 8), byte(i)}, "x"))
		l.Got("c3")
	}
	learned, kept := 0, false
	for _, e := range l.Switch.FDB() {
		if !e.Static {
			learned++
		}
		kept = kept || e.MAC == stranger
	}
	if learned > 64 {
		t.Errorf("%d stations learned, want at most 64", learned)
	}
	if !kept {
		t.Error("the quiet station on c1 was evicted by the flood from c2")
	}
}

func TestNotReadyPortIsDropped(t *testing.T) {
	l := New(t)
	l.Config.Ports = l.Config.Ports[:0]
	l.Config.Networks, l.Config.Stations, l.Config.Uplinks, l.Config.Routes = nil, nil, nil, nil
	l.Install()
	l.Send("c1", l2(header.Broadcast, MAC("c1"), "x"))
	l.ExpectDrop("c1", dataplane.DropNotReady, 1)
}

func TestHostPortCarriesOnlyTheHostsOwnPackets(t *testing.T) {
	l := New(t)
	host := func(src string) []byte {
		return Bytes(Packet{EthSrc: MAC("host1"), EthDst: MAC("c1"), Src: src, Dst: "10.1.0.11:80", Proto: header.ProtoUDP, Payload: []byte("x")})
	}
	for _, own := range []string{"10.1.0.1:1000", HostAddr + ":1000", "10.2.0.1:1000"} {
		l.Send("host1", host(own))
		l.Expect("c1")
	}
	// A LAN neighbour whose packets the host's kernel forwards (moby#45610).
	l.Send("host1", host("198.51.100.77:1000"))
	l.Send("host1", host("10.2.0.11:1000"))
	l.ExpectDrop("host1", dataplane.DropNotFromHost, 2)
}

func TestRemovedPortGetsNothing(t *testing.T) {
	l := New(t)
	l.Send("c2", l2(MAC("c1"), stranger, "x"))
	l.Expect("c1")
	if err := l.Switch.RemovePort(l.Port("c2")); err != nil {
		t.Fatal(err)
	}
	for _, e := range l.Switch.FDB() {
		if e.MAC == stranger {
			t.Error("a station behind the removed port is still known")
		}
	}
	l.Send("c1", l2(MAC("c2"), MAC("c1"), "to the static entry that the snapshot still has"))
	l.ExpectDrop("c1", dataplane.DropPortGone, 1)
	if err := l.Switch.RemovePort(l.Port("c2")); err == nil {
		t.Error("a second RemovePort succeeded")
	}
	before := l.Switch.Stats().Drops[dataplane.DropPortGone]
	if err := l.Switch.RemovePort(l.Port("c1")); err != nil {
		t.Fatal(err)
	}
	if got := l.Switch.Stats().Drops[dataplane.DropPortGone]; before != 1 || got != before {
		t.Errorf("the total is %d with the port and %d without it, want 1", before, got)
	}
}
