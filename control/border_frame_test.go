package control

import (
	"fmt"
	"testing"

	"github.com/vswitch/vswitch/dataplane/header"
	"github.com/vswitch/vswitch/dataplane/switchtest"
)

// What a frame from outside is about, by whom it is for.
type forWhom struct {
	name  string
	want  bool
	proto uint8
	l4    func(n int) []byte
}

// TestS62S63FramesOfTheUplink: a tag of VLAN 0 changes nothing (802.1Q, 6.9.1), one of
// another VLAN is the host's, and two of VLAN 0 keep what is ours from everybody. A packet for one in a frame for many is nobody's where it is
// ours (RFC 1122, 3.3.6), and one for all is the host's and, at a UDP port published everywhere, the container's.
func TestS62S63FramesOfTheUplink(t *testing.T) {
	for _, noFlowTable := range []bool{false, true} {
		t.Run(fmt.Sprintf("no flow table %v", noFlowTable), func(t *testing.T) {
			const tcpPort, udpPort, hostPort = 21101, 21102, 21103
			b := newBorder(t, daemonSpec{NoFlowTable: noFlowTable}, func(b *border) {
				for _, v6 := range []bool{false, true} {
					b.hostBinds("udp", v6, hostPort)
				}
			}, "8080:80", "8053:53/udp")
			for _, v6 := range []bool{false, true} {
				tcp, udp := b.flow("tcp", v6, tcpPort, 9100), b.flow("udp", v6, udpPort, 9101)
				list := []forWhom{
					{"tcp of a flow", toContainer, header.ProtoTCP, tcpTo(9100, tcp, switchtest.ACK)},
					{"udp of a flow", toContainer, header.ProtoUDP, udpTo(9101, udp)},
					{"published tcp", toContainer, header.ProtoTCP, tcpTo(9102, 8080, switchtest.SYN)},
					{"published udp", toContainer, header.ProtoUDP, udpTo(9103, 8053)},
					{"udp of the host", toHost, header.ProtoUDP, udpTo(9104, hostPort)},
				}
				for _, p := range list {
					b.tagged(p, v6, map[string][]uint16{"VLAN 0": {0}, "VLAN 0 and a priority": {0xe000}, "VLAN 0 twice": {0, 0}})
					other := p
					other.want = toHost
					b.tagged(other, v6, map[string][]uint16{"VLAN 5": {5}})
					b.inGroups(p, v6)
				}
			}
			for _, all := range []string{"255.255.255.255", "198.51.100.255"} {
				f := b.packet(false, remoteAt[false], all, header.ProtoUDP, udpTo(9103, 8053)(b.room(false, 8)))
				copy(f, "\xff\xff\xff\xff\xff\xff")
				b.sendFrame("udp to "+all, toHost, f)
				b.sent[len(b.sent)-1].both = true // the port is published at every address
			}
			b.check()
		})
	}
}

// tagged sends a packet with tags, the outer one first. They are off where a frame is
// counted: the kernel keeps the first beside the frame.
func (b *border) tagged(p forWhom, v6 bool, kinds map[string][]uint16) {
	b.t.Helper()
	for kind, tags := range kinds {
		f := b.packet(v6, remoteAt[v6], hostAt[v6], p.proto, p.l4(b.room(v6, len(p.l4(0)))))
		c := crossing{name: p.name + " of IPv" + familyOf(v6) + " in " + kind, len: len(f), host: p.want}
		if len(tags) > 1 {
			c.len += 4 // the second is still there where frames are counted
			c.nobody = p.want != toHost
		}
		for range tags {
			f = switchtest.Tag(f, header.TypeVLAN, tags[0])
		}
		b.sent = append(b.sent, c)
		inject(b.t, b.world.Outside, "eth0", f)
	}
}

// inGroups sends a packet for one in frames for many. What is the host's own it may drop.
func (b *border) inGroups(p forWhom, v6 bool) {
	b.t.Helper()
	if p.want == toHost {
		return
	}
	for _, mac := range []string{"\xff\xff\xff\xff\xff\xff", "\x01\x00\x5e\x00\x00\x05", "\x33\x33\x00\x00\x00\x01"} {
		f := b.packet(v6, remoteAt[v6], hostAt[v6], p.proto, p.l4(b.room(v6, len(p.l4(0)))))
		copy(f, mac)
		b.sent = append(b.sent, crossing{name: fmt.Sprintf("%s of IPv%s in a frame to % x", p.name, familyOf(v6), mac), len: len(f), nobody: true})
		inject(b.t, b.world.Outside, "eth0", f)
	}
}
