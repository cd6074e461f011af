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

// ipFrame is a bridged UDP packet whose frame is n bytes long.
func ipFrame(n int) []byte {
	return Bytes(Packet{EthSrc: MAC("c1"), EthDst: MAC("c2"), Src: "10.1.0.11:1", Dst: "10.1.0.12:2", Proto: header.ProtoUDP, Payload: make([]byte, n-42)})
}

// Frames of every notable size at layer 2. What is shorter than a header never
// leaves the port; what is larger than the MTU is dropped, for a bridge cannot
// tell the sender; super-frames pass when their segments fit.
func TestL19SizesOfBridgedFrames(t *testing.T) {
	for n := range header.EthernetLen {
		l := guarded(t)
		l.Send("c1", make([]byte, n))
		l.ExpectNothing()
		if got := l.Memory("c1").InvalidDrops(); got != 1 {
			t.Errorf("%d bytes: %d invalid frames counted, want 1", n, got)
		}
	}
	gso := func(size uint16) frame.Offload {
		return frame.Offload{Csum: frame.CsumPartial, CsumStart: 34, CsumOffset: 6, GSOType: frame.GSOUDPL4, GSOSize: size, HdrLen: 42}
	}
	for _, tc := range []struct {
		name string
		f    []byte
		off  frame.Offload
		want dataplane.DropReason
	}{
		{"a header alone", l2(MAC("c2"), MAC("c1"), ""), noOffload, dataplane.DropMalformed},
		{"59 bytes", ipFrame(59), noOffload, dataplane.NotDropped},
		{"60 bytes", ipFrame(60), noOffload, dataplane.NotDropped},
		{"1514 bytes", ipFrame(1514), noOffload, dataplane.NotDropped},
		{"1518 bytes with a priority tag", Tag(ipFrame(1514), header.TypeVLAN, 0xe000), noOffload, dataplane.NotDropped},
		{"MTU and a byte", ipFrame(1515), noOffload, dataplane.DropOversize},
		{"jumbo", ipFrame(9014), noOffload, dataplane.DropOversize},
		{"jumbo of no protocol", l2(MAC("c2"), MAC("c1"), string(make([]byte, 9000))), noOffload, dataplane.DropOversize},
		{"jumbo broadcast", l2(header.Broadcast, MAC("c1"), string(make([]byte, 9000))), noOffload, dataplane.DropOversize},
		{"the largest super-frame", ipFrame(65549), gso(1472), dataplane.NotDropped},
		{"segments of MTU and a byte", ipFrame(65549), gso(1473), dataplane.DropOversize},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := guarded(t)
			l.SendOffload("c1", tc.f, tc.off)
			if tc.want != dataplane.NotDropped {
				l.ExpectDrop("c1", tc.want, 1)
				return
			}
			got := l.Memory("c2").SentFrames()
			if len(got) != 1 {
				t.Fatalf("c2 got %d frames; %s", len(got), l.Drops())
			}
			want := tc.f
			if tc.f[12] == 0x81 {
				want = append(bytes.Clone(tc.f[:12]), tc.f[16:]...)
			}
			if !bytes.Equal(got[0].Data, want) || got[0].Offload != tc.off {
				t.Errorf("got %d bytes and %+v, want %d and %+v", len(got[0].Data), got[0].Offload, len(want), tc.off)
			}
		})
	}
}

// Padding behind the IP packet is neither payload nor does it change a decision
// (CVE-2020-35498).
func TestL20Padding(t *testing.T) {
	pad := func(f []byte, n int) []byte { return append(bytes.Clone(f), bytes.Repeat([]byte{0xee}, n)...) }
	for _, n := range []int{1, 4, 18, 46, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			l := guarded(t)
			l.Publish(8080, "c2", 80)
			ping := UDP("c1", 5000, World+":9999", "ping")
			l.Send("c1", pad(ping, n))
			out := l.Expect("up")
			e := See(t, out)
			l.Send("c1", ping)
			if again := See(t, l.Expect("up")); again.From() != e.From() {
				t.Errorf("with padding from %s, without from %s: two flows", e.From(), again.From())
			}
			l.Send("up", pad(Inbound(header.ProtoUDP, World+":9999", e.From(), 0, "pong"), n))
			if s := See(t, l.Expect("c1")); s.Payload != "pong" {
				t.Errorf("payload %q", s.Payload)
			}
			// Bridged frames keep theirs; an MTU of packet and padding is the packet's.
			small := pad(ipFrame(1514), n)
			l.Send("c1", small)
			if got := l.Got("c2"); len(got) != 1 || !bytes.Equal(got[0], small) {
				t.Errorf("c2 got %d frames", len(got))
			}
			if l.Send("up", pad(fromRouter(3, 1, out), n)); len(l.Got("c1")) != 1 {
				t.Errorf("an ICMP error: %s", l.Drops())
			}
			// The guards read the packet, not the padding: an ARP, a DHCP offer.
			l.Send("c1", pad(WhoHas("c1", "10.1.0.12"), n))
			expectARP(t, l, "c1", "10.1.0.12", MAC("c2"))
			l.Send("c1", pad(Bytes(Packet{EthSrc: MAC("c1"), EthDst: header.Broadcast, Src: "10.1.0.11:67", Dst: "255.255.255.255:68", Proto: header.ProtoUDP}), n))
			l.ExpectDrop("c1", dataplane.DropDHCPServer, 1)
		})
	}
}

// 802.3 frames and unknown types are carried as they are, whatever bytes follow.
func TestL22OtherTypes(t *testing.T) {
	for name, typ := range map[string]uint16{
		"802.3 length": 46, "LLC": 3, "zero": 0, "experimental": 0x88b5, "PPPoE": 0x8864, "MPLS": 0x8847, "EAPOL": 0x888e, "1535": 1535,
	} {
		t.Run(name, func(t *testing.T) {
			for _, payload := range [][]byte{
				bytes.Repeat([]byte{0xff}, 46), {0x45}, append([]byte{0x45, 0}, make([]byte, 44)...), bytes.Repeat([]byte{0x81, 0}, 23),
			} {
				l := guarded(t)
				f := Ethernet(MAC("c2"), MAC("c1"), typ, payload)
				l.Send("c1", f)
				if got := l.Got("c2"); len(got) != 1 || !bytes.Equal(got[0], f) {
					t.Errorf("payload %x: c2 got %d frames, want it unchanged; %s", payload, len(got), l.Drops())
				}
				// For the gateway they are the host's stack's, never routed.
				l.Send("c1", Ethernet(MAC("host1"), MAC("c1"), typ, payload))
				if got := l.Got("host1"); len(got) != 1 {
					t.Errorf("payload %x: the host got %d frames", payload, len(got))
				}
				l.ExpectNothing()
			}
		})
	}
}
