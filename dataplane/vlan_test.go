package dataplane_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/vswitch/vswitch/dataplane"
	"github.com/vswitch/vswitch/dataplane/frame"
	"github.com/vswitch/vswitch/dataplane/header"
	. "github.com/vswitch/vswitch/dataplane/switchtest"
)

// An access port sends and gets untagged frames; a priority tag is taken off,
// every other one is a try to get where the container does not belong.
func TestL17AccessPort(t *testing.T) {
	plain := l2(MAC("c3"), MAC("c1"), "who has a tag")
	for _, tc := range []struct {
		name string
		f    []byte
		want dataplane.DropReason
	}{
		{"untagged", plain, dataplane.NotDropped},
		{"priority", Tag(plain, header.TypeVLAN, 0xe000), dataplane.NotDropped},
		{"VLAN 10", Tag(plain, header.TypeVLAN, 10), dataplane.DropTagged},
		{"VLAN 4095", Tag(plain, header.TypeVLAN, 0xfff), dataplane.DropTagged},
		{"802.1ad", Tag(plain, header.TypeQinQ, 10), dataplane.DropTagged},
		{"802.1ad priority", Tag(plain, header.TypeQinQ, 0), dataplane.DropTagged},
		{"double", Tag(Tag(plain, header.TypeVLAN, 20), header.TypeVLAN, 10), dataplane.DropTagged},
		{"priority over VLAN 10", Tag(Tag(plain, header.TypeVLAN, 10), header.TypeVLAN, 0), dataplane.DropTagged},
		{"triple", Tag(Tag(Tag(plain, header.TypeVLAN, 10), header.TypeVLAN, 0), header.TypeVLAN, 0), dataplane.DropTagged},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := guarded(t)
			l.Send("c1", tc.f)
			if tc.want != dataplane.NotDropped {
				l.ExpectDrop("c1", tc.want, 1)
			} else if got := l.Expect("c3"); !bytes.Equal(got, plain) {
				t.Errorf("got %x, want it without a tag", got)
			}
		})
	}
	// IP behind a priority tag is routed like any other.
	l := guarded(t)
	l.Send("c1", Tag(UDP("c1", 5000, World+":9999", "ping"), header.TypeVLAN, 0xe000))
	if s := See(t, l.Expect("up")); s.Payload != "ping" || s.To() != World+":9999" {
		t.Errorf("the world got %+v", s)
	}
	// The uplink's own addresses are not in its VLANs.
	l.Publish(8080, "c1", 80)
	l.Send("up", Tag(Inbound(header.ProtoUDP, World+":9", HostAddr+":8080", 0, "x"), header.TypeVLAN, 10))
	l.ExpectDrop("up", dataplane.DropTagged, 1)
}

// vlans is a Lab in which c1 is in VLAN 10, c2 a trunk for 10 and 20 to 29, with
// untagged frames in the network's own, c3 in VLAN 20 or where a test puts it.
func vlans(t *testing.T) *Lab {
	l := New(t)
	l.Configure("c1", func(p *dataplane.PortConfig) { p.VLAN = 10; p.Guarded = true })
	l.Configure("c2", func(p *dataplane.PortConfig) {
		p.Trunk = []dataplane.VLANRange{{First: 10, Last: 10}, {First: 20, Last: 29}}
	})
	l.Configure("c3", func(p *dataplane.PortConfig) { p.VLAN = 20; p.Guarded = true })
	return l
}

func TestL17TrunkPort(t *testing.T) {
	l := vlans(t)
	f := l2(header.Broadcast, MAC("c1"), "in VLAN 10")
	l.Send("c1", f)
	if got := l.Expect("c2"); !bytes.Equal(got, Tag(f, header.TypeVLAN, 10)) {
		t.Errorf("the trunk got %x", got)
	}
	// A station behind the trunk, learned in its VLAN and in no other.
	g := l2(MAC("c1"), stranger, "from behind the trunk")
	l.Send("c2", Tag(g, header.TypeVLAN, 10))
	if got := l.Expect("c1"); !bytes.Equal(got, g) {
		t.Errorf("c1 got %x, want it without the tag", got)
	}
	l.Send("c1", l2(stranger, MAC("c1"), "back"))
	if got := l.Expect("c2"); !bytes.Equal(got, Tag(l2(stranger, MAC("c1"), "back"), header.TypeVLAN, 10)) {
		t.Errorf("the trunk got %x", got)
	}
	l.Send("c3", l2(stranger, MAC("c3"), "to another VLAN: unknown here"))
	if got := l.Expect("c2"); !bytes.Equal(got[14:16], []byte{0, 20}) {
		t.Errorf("the trunk got %x, want VLAN 20", got)
	}
	// c1's address is known in VLAN 10 only.
	l.Send("c2", Tag(g, header.TypeVLAN, 20))
	l.Expect("c3")
	// Untagged frames of the trunk are in the network's own VLAN, with the host.
	l.Send("c2", l2(header.Broadcast, MAC("c2"), "own VLAN"))
	l.Expect("host1")
	for name, bad := range map[string][]byte{
		"not on the trunk": Tag(g, header.TypeVLAN, 30),
		"reserved":         Tag(g, header.TypeVLAN, 4095),
	} {
		before := l.Dropped("c2", dataplane.DropNotMember)
		l.Send("c2", bad)
		l.ExpectDrop("c2", dataplane.DropNotMember, before+1)
		_ = name
	}
	// No hopping: the inner tag never becomes an outer one.
	l.Send("c2", Tag(Tag(g, header.TypeVLAN, 20), header.TypeVLAN, 10))
	l.Send("c2", Tag(g, header.TypeQinQ, 10))
	l.ExpectDrop("c2", dataplane.DropTagged, 2)
}

// Offload facts count from the start of the frame, which the tag moves.
func TestL17TagsMoveOffloadFacts(t *testing.T) {
	l := vlans(t)
	f := Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.Broadcast, Src: "10.1.0.11:1", Dst: "10.1.0.255:2", Proto: header.ProtoUDP, Payload: make([]byte, 3000)})
	off := frame.Offload{Csum: frame.CsumPartial, CsumStart: 34, CsumOffset: 6, GSOType: frame.GSOUDPL4, GSOSize: 1400, HdrLen: 42}
	l.SendOffload("c1", f, off)
	got := l.Memory("c2").SentFrames()
	if len(got) != 1 {
		t.Fatalf("the trunk got %d frames; %s", len(got), l.Drops())
	}
	want := off
	want.CsumStart, want.HdrLen = 38, 46
	if got[0].Offload != want {
		t.Errorf("facts %+v, want %+v", got[0].Offload, want)
	}
	// And back through the trunk.
	b := Tag(Bytes(Packet{EthSrc: stranger, EthDst: MAC("c1"), Src: "10.1.0.77:1", Dst: "10.1.0.11:2", Proto: header.ProtoUDP, Payload: make([]byte, 3000)}), header.TypeVLAN, 10)
	l.SendOffload("c2", b, want)
	back := l.Memory("c1").SentFrames()
	if len(back) != 1 || back[0].Offload != off {
		t.Errorf("c1 got %d frames, %+v, want %+v; %s", len(back), back, off, l.Drops())
	}
}

// The gateway serves every VLAN, without joining them.
func TestL17GatewayOfVLANs(t *testing.T) {
	l := vlans(t)
	l.Send("c1", WhoHas("c1", "10.1.0.1"))
	expectARP(t, l, "c1", "10.1.0.1", MAC("host1"))
	l.Send("c1", UDP("c1", 5000, World+":53", "out"))
	e := See(t, l.Expect("up")).From()
	l.Send("up", Inbound(header.ProtoUDP, World+":53", e, 0, "back"))
	l.Expect("c1")
	l.Send("c1", UDP("c1", 5000, "10.1.0.1:53", "to the host"))
	l.Expect("host1")
	l.Send("host1", Bytes(Packet{EthSrc: MAC("host1"), EthDst: MAC("c1"), Src: "10.1.0.1:53", Dst: "10.1.0.11:5000", Proto: header.ProtoUDP}))
	l.Expect("c1")
	l.Send("host1", WhoHas("host1", "10.1.0.11"))
	expectARP(t, l, "host1", "10.1.0.11", MAC("c1"))
	// Neither directly nor by the gateway into another VLAN.
	l.Send("c1", UDP("c1", 5000, "10.1.0.13:53", "x"))
	if got := l.Dropped("c1", dataplane.DropIsolated); got != 1 {
		t.Errorf("by the gateway: %s", l.Drops())
	}
	if got := l.Got("c3"); len(got) > 0 {
		t.Errorf("c3 got %s", Describe(got[0]))
	}
	l.Got("c1") // was told so
	// An ICMP error goes back in the VLAN the packet came from.
	l.Send("c2", Tag(Bytes(Packet{EthSrc: MAC("c2"), EthDst: MAC("host1"), Src: "10.1.0.12:1", Dst: "10.2.0.11:2", Proto: header.ProtoUDP}), header.TypeVLAN, 10))
	got := l.Got("c2")
	if len(got) != 1 || !bytes.Equal(got[0][12:16], []byte{0x81, 0, 0, 10}) {
		t.Errorf("the trunk was told %x", got)
	}
}

func TestVLANConfigIsChecked(t *testing.T) {
	for _, p := range []dataplane.PortConfig{
		{Network: 1, VLAN: 4095},
		{Network: 1, Trunk: []dataplane.VLANRange{{First: 0, Last: 5}}},
		{Network: 1, Trunk: []dataplane.VLANRange{{First: 7, Last: 5}}},
		{Network: 1, Trunk: []dataplane.VLANRange{{First: 1, Last: 4095}}},
		{Network: 1, Kind: dataplane.PortHost, VLAN: 5},
		{Network: 1, Guarded: true},
	} {
		t.Run(fmt.Sprintf("%+v", p), func(t *testing.T) {
			_, err := dataplane.NewSnapshot(dataplane.SnapshotConfig{
				Networks: []dataplane.NetworkConfig{{ID: 1}}, Ports: []dataplane.PortConfig{p},
			})
			if err == nil {
				t.Error("accepted")
			}
		})
	}
}
